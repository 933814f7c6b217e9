"""Slices: the metric against one setting at a time, a view per searched dimension."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from service.ledger.records import TrialRecord
from service.report.charts.base import Chart, Figure, axis, layout, log_axis
from service.report.charts.importance import importances
from service.report.facts import Facts

MIN_TRIALS = 3
SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross", "x")
"""One per round, so that rounds of different length are told apart without colours."""


def slices(facts: Facts) -> Chart | None:
    """Draw finished trials against each searched setting, the most important setting first.

    Rounds have colours and symbols of their own: they train for different lengths, and their
    values compare only within a round.
    """
    finished = [
        trial
        for trial in facts.candidates
        if trial.state == "complete" and math.isfinite(facts.value(trial))
    ]
    paths = dict.fromkeys(path for trial in finished for path in trial.params)
    if len(finished) < MIN_TRIALS or not paths:
        return None
    ranked = [found.path for found in importances(facts)[0]]
    ordered = sorted(paths, key=lambda path: ranked.index(path) if path in ranked else len(ranked))
    rows = [
        {"trial": t.trial_id, "round": t.round, facts.objective.metric: facts.value(t), **t.params}
        for t in finished
    ]
    return Chart(
        name="slices",
        title="One setting at a time",
        note=f"Each dot is a finished trial; compare dots of one round only. All other settings "
        f"vary too, so a cloud means: {facts.objective.metric} hangs on more than this one.",
        views=tuple((path, _slice(facts, finished, path)) for path in ordered),
        table=pd.DataFrame(rows),
    )


def _slice(facts: Facts, finished: list[TrialRecord], path: str) -> Figure:
    rounds = sorted({trial.round for trial in finished})
    values = [trial.params[path] for trial in finished if path in trial.params]
    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    across = (
        log_axis(path, numbers)
        if len(numbers) == len(values)
        else axis(path, type="category", categoryorder="category ascending")
    )
    metric = facts.objective.metric
    heights = log_axis(metric, [facts.value(trial) for trial in finished])
    return {
        "data": [_round(facts, finished, path, place, number)
                 for place, number in enumerate(rounds)],
        "layout": layout(height=340, xaxis=across, yaxis=heights),
    }  # fmt: skip


def _round(
    facts: Facts, finished: list[TrialRecord], path: str, place: int, number: int
) -> dict[str, Any]:
    members = [t for t in finished if t.round == number and path in t.params]
    numeric = all(
        isinstance(t.params[path], int | float) and not isinstance(t.params[path], bool)
        for t in members
    )
    return {
        "type": "scatter",
        "mode": "markers",
        "name": f"round {number} ({members[0].horizon_epochs} epochs)" if members else "",
        "x": [t.params[path] if numeric else str(t.params[path]) for t in members],
        "y": [facts.value(t) for t in members],
        "customdata": [t.trial_id for t in members],
        "hovertemplate": f"trial %{{customdata}}<br>{path} %{{x}}<br>%{{y:.4g}}<extra></extra>",
        "marker": {
            "color": f"@s{1 + place % 6}",
            "symbol": SYMBOLS[place % len(SYMBOLS)],
            "size": 8,
            "opacity": 0.75,
        },
    }
