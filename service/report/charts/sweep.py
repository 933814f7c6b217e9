"""The learning-rate sweep: the loss each rate reached, and the range that was kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from service.report.charts.base import Chart, Figure, json_numbers, layout, log_axis
from service.report.facts import Facts
from service.report.numbers import short


def lr_sweep(facts: Facts) -> Chart | None:
    """Draw step 3 of the recipe: one line per optimizer."""
    verdicts = facts.recipe.of_step(3)
    if not verdicts:
        return None
    verdict = verdicts[-1]
    data_of: Mapping[str, Any] = verdict.data
    sweeps: Mapping[str, Any] = data_of.get("sweeps") or {"loss": data_of}
    traces, rates = [], []
    for number, (name, sweep) in enumerate(sweeps.items()):
        traces += _traces(name, sweep, number, several=len(sweeps) > 1)
        rates += [{"optimizer": name, **rate} for rate in sweep.get("rates", [])]
    if not rates:
        return None
    shapes: list[Figure] = []
    if "lo" in data_of and "hi" in data_of:
        shapes.append(
            {"type": "rect", "yref": "paper", "y0": 0, "y1": 1, "x0": data_of["lo"],
             "x1": data_of["hi"], "fillcolor": "@wash", "line": {"width": 0}, "layer": "below"}
        )  # fmt: skip
    start = next(iter(sweeps.values())).get("reference_loss")
    if start is not None:
        shapes.append(
            {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": start, "y1": start,
             "line": {"color": "@muted", "width": 1, "dash": "dot"}}
        )  # fmt: skip
    xs = [rate["lr"] for rate in rates]
    figure = {
        "data": traces,
        "layout": layout(
            height=340,
            y="training loss",
            shapes=shapes,
            xaxis=log_axis("learning rate", xs),
            showlegend=len(traces) > 1,
        ),
    }
    table = pd.DataFrame(rates).rename(columns={"last_loss": "training loss"})
    if len(sweeps) == 1:
        table = table.drop(columns=["optimizer"])
    return Chart(
        name="sweep",
        title="Which learning rates work at all",
        note=f"{_sentence(data_of, start)} Crosses mark rates that diverged; the shaded range was "
        "searched.",
        views=(("all", figure),),
        table=table,
    )


def _sentence(data: Mapping[str, Any], start: float | None) -> str:
    if "lo" not in data or start is None:
        return "No rate brought the loss down."
    return (
        f"Rates between {short(data['lo'])} and {short(data['hi'])} bring the loss down from "
        f"{short(start)} (dotted), which is what knowing nothing costs, or an untrained net's loss."
    )


def _traces(name: str, sweep: Mapping[str, Any], number: int, *, several: bool) -> list[Figure]:
    colour = f"@s{1 + number % 6}" if several else "@accent"
    rates = sweep.get("rates", [])
    start = sweep.get("reference_loss") or 0.0
    kept = [r for r in rates if r["last_loss"] is not None and r["kind"] != "diverges"]
    lost = [r for r in rates if r["last_loss"] is None or r["kind"] == "diverges"]
    return [
        {
            "type": "scatter", "mode": "lines+markers", "name": name,
            "x": [r["lr"] for r in kept], "y": json_numbers([r["last_loss"] for r in kept]),
            "line": {"color": colour, "width": 2}, "marker": {"color": colour, "size": 6},
            "hovertemplate": "rate %{x:.3g}<br>loss %{y:.4g}<extra></extra>",
        },
        {
            "type": "scatter", "mode": "markers", "name": f"{name}, diverged" if several
            else "diverged", "x": [r["lr"] for r in lost], "y": [start] * len(lost),
            "marker": {"color": "@bad", "symbol": "x", "size": 8},
            "hovertemplate": "rate %{x:.3g} diverged<extra></extra>",
        },
    ]  # fmt: skip
