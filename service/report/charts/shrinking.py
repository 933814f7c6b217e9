"""The space, round by round: where each dimension's interval went, and why."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from service.report.charts.base import Chart, Figure, axis, layout
from service.report.facts import Facts
from service.report.numbers import setting
from service.report.trust import interval_of, position

ROW_PX = 30


def shrinking(facts: Facts) -> Chart | None:
    """Draw each numeric dimension's interval per round, with the winner's value across it."""
    rounds = facts.search_rounds
    paths = list(dict.fromkeys(path for record in rounds for path in record.space))
    if not rounds or not paths:
        return None
    numeric = [p for p in paths if any(interval_of(r.space.get(p)) for r in rounds)]
    views = (("all", _figure(facts, numeric)),) if numeric else ()
    table = pd.DataFrame(
        [
            {
                "dimension": path,
                **{f"round {r.round}": describe(r.space.get(path)) for r in rounds},
                "why": "; ".join(_reasons(facts, path)),
            }
            for path in paths
        ]
    )
    return Chart(
        name="space",
        title="How the space was narrowed, and why",
        note="Each bar is one round's interval, in the dimension's own scale; the line marks the "
        "winner's value. The table gives choices and the reasons.",
        views=views,
        table=table,
    )


def describe(distribution: Any) -> str:
    """Write a dimension as a person would."""
    if distribution is None:
        return "–"
    bounds = interval_of(distribution)
    if bounds is not None:
        low, high, log = bounds
        return f"{setting(low)} to {setting(high)}{' (log)' if log else ''}"
    values = distribution.get("choice", []) if isinstance(distribution, Mapping) else distribution
    return ", ".join(setting(value) for value in values)


def reason_text(reason: Mapping[str, Any]) -> str:
    """Write why one dimension changed, or stayed."""
    text, path = str(reason.get("text", "")), f"{reason.get('path')} "
    if text.startswith(path):
        return text.removeprefix(path)  # already a sentence about the path
    return f"{reason.get('kind', 'changed')}: {text}"


def _reasons(facts: Facts, path: str) -> list[str]:
    return [
        f"round {record.round}: {reason_text(reason)}"
        for record in facts.search_rounds
        for reason in record.reasons
        if reason.get("path") == path
    ]


def _figure(facts: Facts, paths: list[str]) -> Figure:
    """Draw all dimensions on one 0-1 axis: the widest span that any round gave each of them."""
    rounds = facts.search_rounds
    data: list[Figure] = []
    shapes: list[Figure] = []
    best = facts.best.first.params if facts.best else {}
    group_height = len(rounds) + 1.2
    ticks, names = [], []
    for place, path in enumerate(paths):
        top = -place * group_height
        low, high, log = _span(facts, path)
        ticks.append(top - (len(rounds) - 1) / 2)
        names.append(path)
        for number, record in enumerate(rounds):
            bounds = interval_of(record.space.get(path))
            if bounds is None:
                continue
            a, b = (position(v, low, high, log) for v in bounds[:2])
            data.append(_bar(record.round, number, a, b, top - number, bounds, path))
        value = best.get(path)
        if (
            isinstance(value, int | float)
            and not isinstance(value, bool)
            and (value > 0 or not log)
        ):
            at = position(float(value), low, high, log)
            shapes.append(
                {"type": "line", "x0": at, "x1": at, "y0": top + 0.6,
                 "y1": top - len(rounds) + 0.4, "line": {"color": "@best", "width": 2.5}}
            )  # fmt: skip
    legend = [
        {"type": "bar", "x": [None], "y": [None], "orientation": "h", "name": f"round {r.round}",
         "marker": {"color": f"@s{1 + n % 6}"}}
        for n, r in enumerate(rounds)
    ]  # fmt: skip
    height = 110 + round(ROW_PX * group_height * len(paths))
    figure_layout = layout(
        height=height,
        barmode="overlay",
        uniformtext={"mode": "hide", "minsize": 10},
        shapes=shapes,
        xaxis=axis(
            range=[-0.04, 1.04], showticklabels=False, showgrid=False, ticks="", showline=False
        ),
        yaxis=axis(tickvals=ticks, ticktext=names, showgrid=False, ticks="", showline=False),
    )
    return {"data": [*data, *legend], "layout": figure_layout}


def _bar(
    round_: int, number: int, a: float, b: float, y: float, bounds: tuple[float, float, bool],
    path: str,
) -> Figure:  # fmt: skip
    text = f"{setting(bounds[0])} – {setting(bounds[1])}"
    return {
        "type": "bar", "orientation": "h", "base": [a], "x": [max(b - a, 0.004)], "y": [y],
        "width": 0.78, "marker": {"color": f"@s{1 + number % 6}", "opacity": 0.85},
        "showlegend": False, "text": [text], "textposition": "inside", "insidetextanchor": "middle",
        "textfont": {"size": 11},
        "hovertemplate": f"{path}, round {round_}<br>{text}<extra></extra>",
    }  # fmt: skip


def _span(facts: Facts, path: str) -> tuple[float, float, bool]:
    found = [interval_of(record.space.get(path)) for record in facts.search_rounds]
    bounds = [interval for interval in found if interval is not None]
    low, high = min(b[0] for b in bounds), max(b[1] for b in bounds)
    log = all(b[2] for b in bounds) and low > 0
    return (low, high, log) if not math.isclose(low, high) else (low, low + 1, False)
