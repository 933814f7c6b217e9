"""`report.html`: one file that opens offline, on paper, on a phone, in light and dark."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

from service.report.best import best_sections, yaml_text
from service.report.charts import Chart, all_charts
from service.report.charts.base import COLOURS
from service.report.charts.history import round_name
from service.report.charts.shrinking import describe, reason_text
from service.report.cost import cost_lines, cost_of
from service.report.facts import Facts
from service.report.next_step import next_step
from service.report.numbers import interval_text, setting, short
from service.report.training import how_compared, how_trained
from service.report.trust import final_verdicts, warnings
from service.report.verdict import (
    answer,
    gain_sentence,
    noise_sentence,
    sentence,
    test_sentence,
)

MAX_TABLE_ROWS = 500
_TEMPLATES = files("service.report") / "templates"


def render_page(facts: Facts) -> str:
    """Return the report as one self-contained HTML document.

    It makes no request: style, script and plotly.js are inside, and a content security policy
    forbids the rest.
    """
    found = answer(facts)
    cost = cost_of(facts, found)
    charts = all_charts(facts)
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["prose"] = _prose
    page: str = environment.from_string(_read("report.html")).render(
        style=Markup(_read("report.css")),
        script=Markup(_read("report.js")),
        plotly=Markup(_plotly_js()) if charts else "",
        colours=_json(COLOURS),
        colour_css=Markup(_colour_css()),
        search=facts.search,
        when=_when(facts),
        counts=facts.counts,
        found=found,
        headline=sentence(found),
        value="" if found is None else interval_text(found.interval),
        confidence="" if found is None else f"{found.interval.confidence:.0%}",
        answers=[] if found is None else [gain_sentence(found), noise_sentence(found),
                                          test_sentence(found)],
        config="" if found is None else yaml_text(best_sections(facts, found)).rstrip(),
        costs=cost_lines(facts, cost),
        verdicts=final_verdicts(facts),
        warnings=warnings(facts, found),
        next=next_step(facts, found, cost),
        charts=[_chart(chart) for chart in charts],
        history=[(_round_of(facts, event.payload), event.payload)
                 for event in facts.events_of("verdict")],
        rounds=[_round(facts, record) for record in facts.rounds],
        provenance=_provenance(facts),
    )  # fmt: skip
    return page


def _prose(text: str, *, capital: bool = False) -> Markup:
    """Escape a sentence, set what stands in backticks as code, and make it start large."""
    pieces = [str(Markup.escape(piece)) for piece in str(text).split("`")]
    for i in range(1, len(pieces) - 1, 2):
        pieces[i] = f"<code>{pieces[i]}</code>"
    if capital:
        pieces[0] = pieces[0][:1].upper() + pieces[0][1:]
    return Markup("".join(pieces))


def _chart(chart: Chart) -> dict[str, Any]:
    return {
        "name": chart.name,
        "title": chart.title,
        "note": chart.note,
        "wide": chart.wide,
        "labels": [label for label, _ in chart.views],
        "figures": _json([figure for _, figure in chart.views]),
        "height": chart.views[0][1]["layout"]["height"] if chart.views else 0,
        "table": _table(chart.table),
        "open": not chart.views or chart.name == "space",
    }


def _table(frame: pd.DataFrame) -> Markup:
    """Write a frame as a table with short numbers; long ones end with where to find the rest."""
    head = "".join(f'<th scope="col">{Markup.escape(str(name))}</th>' for name in frame.columns)
    rows = []
    for row in frame.head(MAX_TABLE_ROWS).itertuples(index=False):
        cells = []
        for value in row:
            number = isinstance(value, int | float) and not isinstance(value, bool)
            css = ' class="num"' if number else ""
            cells.append(f"<td{css}>{Markup.escape(_cell(value))}</td>")
        rows.append(f"<tr>{''.join(cells)}</tr>")
    more = ""
    if len(frame) > MAX_TABLE_ROWS:
        more = f"<p>{len(frame) - MAX_TABLE_ROWS} more rows are in the Parquet files.</p>"
    return Markup(
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>{more}"
    )


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or (isinstance(value, float) and value != value) or value is pd.NA:
        return "–"
    if isinstance(value, float):
        return short(value, 4)
    return setting(value)


def _round(facts: Facts, record: Any) -> dict[str, Any]:
    compared = how_compared(facts, record.round)
    return {
        "name": f"{record.kind}" if record.round < 0 else round_name(record),
        "why": record.sampler_reason,
        "trials": record.planned_trials,
        "epochs": record.epochs,
        "state": record.state.replace("_", " "),
        "space": {path: describe(value) for path, value in record.space.items()},
        "reasons": [
            *((r.get("path", ""), reason_text(r)) for r in record.reasons),
            *([("", compared)] if compared else []),
        ],
    }


def _round_of(facts: Facts, payload: Mapping[str, Any]) -> str:
    number = payload.get("round", -1)
    return "before" if not isinstance(number, int) or number < 0 else f"round {number}"


def _provenance(facts: Facts) -> list[tuple[str, str]]:
    search, accounts = facts.search, facts.accounts
    rows = [
        ("search", f"{search.search_id}, seed {search.seed}, mode {search.mode}"),
        ("versions", ", ".join(f"{name} {v}" for name, v in search.versions.items())),
        ("code", search.code_fingerprint),
    ]
    rows += [("training", text) for text in how_trained(facts)]
    if accounts is not None:
        rows += [(str(name), str(value)) for name, value in accounts.provenance.items()]
    if facts.site is not None:
        rows.append(("site", facts.site.describe()))
    return [(name, value) for name, value in rows if value]


def _when(facts: Facts) -> str:
    moment = facts.search.finished_unix_s or facts.search.created_unix_s
    return datetime.fromtimestamp(moment, UTC).strftime("%d %b %Y, %H:%M UTC").lstrip("0")


def _json(value: Any) -> Markup:
    """Write JSON that may stand inside a script element."""
    return Markup(json.dumps(value, allow_nan=False).replace("<", "\\u003c"))


def _colour_css() -> str:
    light, dark = (
        "".join(f"--{name}:{colour};" for name, colour in COLOURS[scheme].items())
        for scheme in ("light", "dark")
    )
    return f":root{{{light}}}@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}"


@cache
def _read(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")


@cache
def _plotly_js() -> str:
    from plotly.offline import get_plotlyjs

    text: str = get_plotlyjs()
    return text.replace("</script", "<\\/script")
