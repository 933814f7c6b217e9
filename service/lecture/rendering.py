"""Write a page's outcome: picture (PNG), numbers (CSV, Parquet), facts (JSON) and HTML."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from functools import cache
from html import escape
from pathlib import Path

import jinja2
import pandas as pd

from search_spaces.lecture import FOLDER
from service.energy import Site
from service.lecture.findings import Findings
from service.lecture.long_run import recorded_table, table_of
from service.lecture.running import PageOutcome, comparison
from service.report.numbers import energy
from service.search.provenance import versions

MOST_ROWS = 60
"""Rows of a table shown in HTML; the files have all of them."""


def write_page(outcome: PageOutcome, out: Path) -> Path:
    """Write a page's files into `out` and return its HTML."""
    out.mkdir(parents=True, exist_ok=True)
    name = outcome.page.name
    for suffix, _, findings in _pictures(outcome):
        (out / f"{name}{suffix}.png").write_bytes(png(findings))
        findings.table.to_csv(out / f"{name}{suffix}.csv", index=False)
        findings.table.to_parquet(out / f"{name}{suffix}.parquet", index=False)
    facts = {**summary(outcome), "comparison": comparison(outcome), "versions": versions()}
    (out / f"{name}.json").write_text(
        json.dumps(facts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    html = out / f"{name}.html"
    html.write_text(render("page.html", title=outcome.page.en, body=section(outcome)), "utf-8")
    return html


def _pictures(outcome: PageOutcome) -> list[tuple[str, str, Findings]]:
    """Return (suffix of the files' names, title, findings) of each picture of a page."""
    variants = [("", "", outcome.default.findings)]
    if outcome.yours is not None:
        variants.append(("-yours", "with your changes", outcome.yours.findings))
    found = []
    for suffix, title, findings in variants:
        found.append((suffix, title, findings))
        for name, more in findings.also.items():
            found.append((f"{suffix}-{name}", " ".join([name, title]).strip(), more))
    return found


def summary(outcome: PageOutcome) -> dict[str, object]:
    """Return what a page cost and where it came from, as plain values."""
    variants = [outcome.default] + ([outcome.yours] if outcome.yours is not None else [])
    energy_kwh = sum(variant.energy_kwh for variant in variants)
    site = Site.from_environment()
    return {
        "page": outcome.page.page,
        "zh": outcome.page.zh,
        "en": outcome.page.en,
        "command": outcome.command,
        "runner": outcome.page.runner,
        "seconds": sum(variant.seconds for variant in variants),
        "energy_kwh": energy_kwh,
        "energy_method": outcome.energy_method,
        "kgco2e": site.co2e_kg(energy_kwh * site.pue),
        "reused": all(variant.reused for variant in variants),
        "search_ids": [name for variant in variants for name in variant.search_ids],
    }


def section(outcome: PageOutcome) -> str:
    """Return a page's part of the book."""
    facts = summary(outcome)
    shown = _pictures(outcome)
    pictures = [
        {"title": title, "data": base64.b64encode(png(findings)).decode()}
        for _, title, findings in shown
    ]
    specs = [
        {"name": name, "text": (FOLDER / name).read_text(encoding="utf-8")}
        for name in outcome.page.specs
    ]
    recorded = recorded_table(outcome.page)
    return render(
        "section.html",
        page=outcome.page,
        facts=facts,
        energy=energy(float(str(facts["energy_kwh"]))),
        pictures=pictures,
        comparison=_html_table(comparison(outcome)),
        long_run=recorded,
        long_table=_html_table(table_of(recorded)) if recorded else "",
        numbers=[(title, _numbers(findings.table)) for _, title, findings in shown],
        specs=specs,
    )


def render(template: str, **values: object) -> str:
    """Fill one of the lecture's templates."""
    return _templates().get_template(template).render(**values)


@cache
def _templates() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("service.lecture", "templates"), autoescape=True
    )


def png(findings: Findings) -> bytes:
    """Return the picture as a PNG file's bytes."""
    buffer = io.BytesIO()
    findings.figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _html_table(rows: Sequence[Mapping[str, str]]) -> str:
    if not rows:
        return ""
    head = "".join(f"<th>{escape(name)}</th>" for name in rows[0])
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(value)}</td>" for value in row.values()) + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _numbers(table: pd.DataFrame) -> str:
    """Return the first and last rows of a table."""
    if len(table) > MOST_ROWS:
        half = MOST_ROWS // 2
        table = pd.concat([table.head(half), table.tail(half)])
    shown: str = table.to_html(index=False, border=0, float_format=lambda value: f"{value:.5g}")
    return shown
