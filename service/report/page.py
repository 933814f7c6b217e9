"""`report.html`: one file that opens offline, on paper, on a phone, in light and dark."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from service.report.best import best_sections, yaml_text
from service.report.charts import all_charts
from service.report.charts.history import round_name
from service.report.charts.shrinking import describe, reason_text
from service.report.cost import cost_lines, cost_of
from service.report.facts import Facts
from service.report.html import chart_values, render
from service.report.next_step import next_step
from service.report.numbers import interval_text
from service.report.training import how_compared, how_trained
from service.report.trust import final_verdicts, warnings
from service.report.verdict import (
    answer,
    gain_sentence,
    noise_sentence,
    sentence,
    test_sentence,
)


def render_page(facts: Facts) -> str:
    """Return the report as one self-contained HTML document."""
    found = answer(facts)
    cost = cost_of(facts, found)
    charts = all_charts(facts)
    return render(
        "report.html",
        with_plotly=bool(charts),
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
        charts=[chart_values(chart, table_open=chart.name == "space") for chart in charts],
        history=[(_round_of(facts, event.payload), event.payload)
                 for event in facts.events_of("verdict")],
        rounds=[_round(facts, record) for record in facts.rounds],
        provenance=_provenance(facts),
    )  # fmt: skip


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
