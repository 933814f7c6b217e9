"""All searched values of all trials at once: one line per trial."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from service.ledger.records import TrialRecord
from service.report.charts.base import Chart, layout
from service.report.facts import Facts
from service.report.numbers import setting, short
from service.report.trust import interval_of


def parallel(facts: Facts) -> Chart | None:
    """Draw the finished trials of the round with most of them, coloured by the metric.

    One round only: values of different lengths would share a colour without meaning the same.
    """
    finished = [
        t for t in facts.candidates if t.state == "complete" and math.isfinite(facts.value(t))
    ]
    by_round: dict[int, list[TrialRecord]] = {}
    for trial in finished:
        by_round.setdefault(trial.round, []).append(trial)
    if not by_round:
        return None
    number = max(by_round, key=lambda r: (len(by_round[r]), r))
    trials = by_round[number]
    record = next(r for r in facts.search_rounds if r.round == number)
    paths = [p for p in record.space if any(p in t.params for t in trials)]
    if not paths:
        return None
    dimensions = [_dimension(path, record.space, trials) for path in paths]
    metric, values = facts.objective.metric, [facts.value(t) for t in trials]
    dimensions.append(_numeric(metric, values, log=min(values) > 0))
    colours = [math.log10(v) if min(values) > 0 else v for v in values]
    scale: list[list[float | str]] = [[0.0, "@low"], [0.45, "@mid"], [1.0, "@high"]]
    if facts.objective.direction == "maximize":
        scale = [[0.0, "@high"], [0.55, "@mid"], [1.0, "@low"]]
    figure = {
        "data": [
            {
                "type": "parcoords", "dimensions": dimensions,
                "line": {"color": colours, "colorscale": scale},
                "labelfont": {"size": 12, "color": "@ink"},
                "tickfont": {"size": 11, "color": "@muted"},
                "rangefont": {"size": 1, "color": "rgba(0,0,0,0)"},
                "unselected": {"line": {"color": "@grid", "opacity": 0.25}},
            }
        ],
        "layout": layout(height=400, margin={"l": 84, "r": 56, "t": 60, "b": 24}),
    }  # fmt: skip
    table = pd.DataFrame(
        [{"trial": t.trial_id, **t.params, metric: facts.value(t)} for t in trials]
    ).sort_values(metric, ascending=facts.objective.direction == "minimize")
    return Chart(
        name="parallel",
        title="What good configurations have in common",
        note=f"The {len(trials)} finished trials of round {number} ({record.epochs} epochs), one "
        f"line each; the greener, the better {metric}. Drag along an axis to keep only "
        "the lines that pass there.",
        views=(("all", figure),),
        table=table,
        wide=True,
    )


def _dimension(
    path: str, space: Mapping[str, Any], trials: Sequence[TrialRecord]
) -> dict[str, Any]:
    values = [trial.params.get(path) for trial in trials]
    bounds = interval_of(space[path])
    if bounds is not None and all(isinstance(v, int | float) for v in values):
        return _numeric(path, [float(v) for v in values if v is not None], log=bounds[2])
    # Choices, and numbers that only some trials have: a place per distinct value.
    if bounds is None:
        names = list(dict.fromkeys(setting(v) for v in values))
        if all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
            names = [setting(v) for v in sorted({v for v in values if v is not None})]
        places = [names.index(setting(v)) for v in values]
        return {"label": _label(path), "values": places, "tickvals": list(range(len(names))),
                "ticktext": names, "range": [-0.3, len(names) - 0.7]}  # fmt: skip
    return _with_absent(path, values, bounds)


def _with_absent(
    path: str, values: Sequence[Any], bounds: tuple[float, float, bool]
) -> dict[str, Any]:
    """Place trials without this value (its condition did not hold) under the axis' low end."""
    low, high, log = bounds
    a, b = (math.log10(low), math.log10(high)) if log else (low, high)
    absent = a - 0.15 * (b - a)
    places = [absent if v is None else math.log10(v) if log else float(v) for v in values]
    ticks = [absent, a, (a + b) / 2, b]
    texts = ["not used", *(short(10**t if log else t) for t in ticks[1:])]
    return {"label": _label(path), "values": places, "tickvals": ticks, "ticktext": texts,
            "range": [absent, b]}  # fmt: skip


def _numeric(label: str, values: Sequence[float], *, log: bool) -> dict[str, Any]:
    if not log:
        return {"label": _label(label), "values": list(values)}
    logs = [math.log10(v) for v in values]
    low, high = min(logs), max(logs)
    decades = range(math.ceil(low - 1e-9), math.floor(high + 1e-9) + 1)
    ticks = [float(e) for e in decades]
    if len(ticks) < 3:
        ticks = [low + (high - low) * i / 4 for i in range(5)]
    return {"label": _label(label), "values": logs, "tickvals": ticks,
            "ticktext": [short(10**t, 2) for t in ticks]}  # fmt: skip


def _label(path: str) -> str:
    """Shorten a path to what tells it apart: `optimizer.kind` stays, `optimizer.lr` is `lr`."""
    section, _, name = path.rpartition(".")
    return path if name == "kind" else name.replace("_", " ") if section else path
