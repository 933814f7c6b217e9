"""The report's charts over a part of a search, kept for as long as nothing changes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from service.energy import Site, accounts
from service.ledger import Ledger
from service.ledger.browse import Condition
from service.ledger.records import SearchRecord
from service.recipe.record import plain
from service.report.charts import Chart, all_charts
from service.report.facts import Facts
from service.web.views import objective_of

MAX_DRAWN = 1_500
"""Trials in one chart: the best, those that once were, and every so-manieth of the others."""
MAX_CURVES = 300
MAX_ROWS = 200
"""Of each chart's table; the whole table is a download away."""
BEST_DRAWN = 300
KEPT = 32


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """All charts of a selection."""

    charts: list[dict[str, Any]]
    num_trials: int
    num_drawn: int


class ChartBoard:
    """Draws charts, and remembers them until the search has moved on."""

    def __init__(self, ledger: Ledger, site: Site) -> None:
        self._ledger, self._site = ledger, site
        self._kept: OrderedDict[tuple[Any, ...], Drawn] = OrderedDict()
        self._drawing = threading.Lock()

    def draw(self, search: SearchRecord, conditions: Sequence[Condition]) -> Drawn:
        """Return the charts of the trials that meet the conditions."""
        progress = self._ledger.progress(search.search_id)
        moment = (search.state, *((p.state, p.num_trials, p.epochs_done) for p in progress))
        key = (search.search_id, tuple(conditions), moment)
        with self._drawing:  # one at a time: drawing takes a core for a second
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
            drawn = self._draw(search, conditions)
            self._kept[key] = drawn
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
            return drawn

    def _draw(self, search: SearchRecord, conditions: Sequence[Condition]) -> Drawn:
        metric, direction = objective_of(search.spec)
        values = self._ledger.trial_values(search.search_id, conditions, metric)
        sign = -1.0 if direction == "maximize" else 1.0
        costs = [(trial, None if v is None else sign * v) for trial, v in values]
        chosen = worth_drawing(costs, MAX_DRAWN)
        facts = self._facts(search, chosen, worth_drawing(costs, MAX_CURVES))
        charts = [chart_view(chart) for chart in all_charts(facts)] if chosen else []
        return Drawn(charts=charts, num_trials=len(values), num_drawn=len(chosen))

    def _facts(self, search: SearchRecord, chosen: list[int], curves: list[int]) -> Facts:
        ledger, search_id = self._ledger, search.search_id
        metered = accounts(ledger, search_id) if ledger.spans(search_id) else None
        return Facts(
            search=search,
            rounds=ledger.rounds(search_id),
            trials=ledger.trials(search_id, trial_ids=chosen),
            events=ledger.events(search_id),
            trials_frame=ledger.trials_frame(search_id, chosen),
            curves=ledger.curves_frame(search_id, curves),
            accounts=metered if metered is not None and metered.node_kwh > 0 else None,
            site=self._site,
            plans=ledger.plans(search_id),
        )


def worth_drawing(costs: Sequence[tuple[int, float | None]], most: int) -> list[int]:
    """Choose trials whose picture is that of all: the best, former bests, and a spread of others.

    Args:
        costs: (trial id, cost or None) in the order of trials; smaller is better.
        most: about how many.

    """
    if len(costs) <= most:
        return [trial for trial, _ in costs]
    known = [(cost, trial) for trial, cost in costs if cost is not None]
    chosen = {trial for _, trial in sorted(known)[: min(BEST_DRAWN, most // 2)]}
    best = float("inf")
    for trial, cost in costs:
        if cost is not None and cost < best:
            best = cost
            chosen.add(trial)
    stride = -(-len(costs) // max(most - len(chosen), 1))
    chosen.update(trial for trial, _ in costs[::stride])
    return sorted(chosen)


def chart_view(chart: Chart) -> dict[str, Any]:
    """Return a chart as plain values: figures whose colours are names, and a table."""
    table = chart.table.head(MAX_ROWS)
    rows = table.astype(object).where(table.notna(), None).to_numpy().tolist()
    return {
        "name": chart.name,
        "title": chart.title,
        "note": chart.note,
        "wide": chart.wide,
        "labels": [label for label, _ in chart.views],
        "figures": plain([figure for _, figure in chart.views]),
        "table": {
            "columns": [str(name) for name in chart.table.columns],
            "rows": plain(rows),
            "num_rows": len(chart.table),
        },
    }
