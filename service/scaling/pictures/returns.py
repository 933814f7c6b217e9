"""Diminishing returns: what each doubling of compute gains, and gains per kWh."""

from __future__ import annotations

import numpy as np
import pandas as pd

from service.report.charts.base import Chart, Figure, layout
from service.report.numbers import percent
from service.scaling.analysis import Analysis
from service.scaling.answers.energy_axis import UNIT_NAMES
from service.scaling.pictures.marks import band, dots, line, log_ticks


def returns_chart(study: Analysis) -> Chart:
    """Draw the gain per doubling, then per kWh, kgCO2e and currency unit where known."""
    frames = {answer.frame["unit"].iloc[0]: answer.frame for answer in study.returns}
    views = [("per doubling", _doubling(study, frames[UNIT_NAMES["flops"]]))]
    for unit, frame in frames.items():
        if unit != UNIT_NAMES["flops"]:
            views.append((f"per {unit}", _per_unit(study, frame, unit)))
    table = frames[UNIT_NAMES["flops"]].drop(columns=["unit", "spent"])
    for unit, frame in frames.items():
        if unit != UNIT_NAMES["flops"]:
            table[f"spent ({unit})"] = frame["spent"]
            table[f"gain per {unit}"] = frame["gain_per_unit"]
    return Chart(
        name="returns",
        title="Diminishing returns",
        note=f"{study.knee.sentence[:1].upper()}{study.knee.sentence[1:]}. {study.axis_text}.",
        views=tuple(views),
        table=table,
    )


def _doubling(study: Analysis, frame: pd.DataFrame) -> Figure:
    metric, knee = study.points.metric, study.knee
    data = band(frame["flops"], frame["gain_low"], frame["gain_high"],
                f"{100 * study.fit.confidence:.0f} % over resampled runs")  # fmt: skip
    data += _split(study, frame, "gain")
    if np.isfinite(knee.flops) and frame["flops"].min() <= knee.flops <= frame["flops"].max():
        gain = np.interp(np.log(knee.flops), np.log(frame["flops"]), np.log(frame["gain"]))
        data.append(
            dots([knee.flops], [float(np.exp(gain))], f"gains {percent(knee.threshold)}: the knee",
                 "@best", symbol="diamond", size=10)
        )  # fmt: skip
    ends = pd.concat([frame["gain"], frame["gain_low"], frame["gain_high"]]).dropna()
    return {
        "data": data,
        "layout": layout(
            height=380,
            xaxis=log_ticks("compute before the doubling (FLOP)", frame["flops"]),
            yaxis=log_ticks(f"{metric} gained by the next doubling", ends[ends > 0]),
        ),
    }


def _per_unit(study: Analysis, frame: pd.DataFrame, unit: str) -> Figure:
    return {
        "data": _split(study, frame, "gain_per_unit"),
        "layout": layout(
            height=380,
            xaxis=log_ticks(f"spent before the doubling ({unit})", frame["spent"]),
            yaxis=log_ticks(f"{study.points.metric} gained per {unit}", frame["gain_per_unit"]),
        ),
    }


def _split(study: Analysis, frame: pd.DataFrame, column: str) -> list[Figure]:
    """Draw a curve solid within the data and dashed beyond."""
    x = "flops" if column == "gain" else "spent"
    last = study.fit.largest_flops * (1 + 1e-9)
    inside = frame[frame["flops"] <= last]
    beyond = frame[frame["flops"] >= inside["flops"].max()] if len(inside) else frame
    traces = []
    if len(inside) > 1:
        traces.append(line(inside[x], inside[column], "within the data", "@accent"))
    if len(beyond) > 1:
        traces.append(line(beyond[x], beyond[column], "beyond the data", "@accent", dash="dash"))
    return traces
