"""The frontier with what was measured around it, and the sizes it advises."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from service.report.charts.base import Chart, Figure, layout
from service.report.numbers import percent, short
from service.scaling.analysis import Analysis
from service.scaling.pictures.marks import band, bars, dots, line, log_ticks


def frontier_chart(study: Analysis) -> Chart:
    """Draw the loss of the best size over compute: points, band, held-out points and knee."""
    fit, curve, metric = study.fit, study.curve.frame, study.points.metric
    frame = study.points.frame
    inside = curve[curve["times_data"] <= 1.0 + 1e-9]
    beyond = curve[curve["times_data"] >= 1.0 - 1e-9]
    data = band(curve["flops"], curve["loss_low"], curve["loss_high"],
                f"{100 * fit.confidence:.0f} % prediction interval")  # fmt: skip
    data += [
        dots(frame["flops"], frame["loss"], "runs", "@s0", size=5, opacity=0.55,
             text=[point_text(row, metric) for row in frame.to_dict("records")]),
        line(inside["flops"], inside["loss"], "best size", "@accent"),
        line(beyond["flops"], beyond["loss"], "extrapolated", "@accent", dash="dash"),
    ]  # fmt: skip
    data += _heldout(study)
    if study.verification is not None:
        done = study.verification
        data.append(
            bars([done["flops"]], [done["actual"]], [done["actual"]], [done["actual"]],
                 "what then happened", "@best", symbol="star")
        )  # fmt: skip
    ys = np.concatenate([frame["loss"], curve["loss"], curve["loss_low"].dropna()])
    if np.isfinite(study.knee.flops) and _shown(study.knee.flops, curve["flops"]):
        data.append(
            line([study.knee.flops] * 2, [ys.min(), ys.max()],
                 f"next doubling gains {percent(study.knee.threshold)}", "@s4", dash="dot")
        )  # fmt: skip
    figure: Figure = {
        "data": data,
        "layout": layout(
            height=430,
            xaxis=log_ticks("training compute C (FLOP)", curve["flops"]),
            yaxis=log_ticks(metric, ys),
        ),
    }
    return Chart(
        name="frontier",
        title="Loss of the best model over compute",
        note=_note(study),
        views=(("all", figure),),
        table=curve,
    )


def _heldout(study: Analysis) -> list[Figure]:
    """Mark what was held out at the middle cut, each with what had been predicted."""
    if study.fit.heldout is None:
        return []
    errors = study.fit.heldout.errors
    cuts = np.unique(errors["cut"])
    cut = float(cuts[len(cuts) // 2])
    own = errors[errors["cut"] == cut]
    texts = [
        f"C {short(row['flops'])}<br>actual {short(row['actual'], 4)}<br>"
        f"predicted {short(row['predicted'], 4)} from C up to {short(cut)}"
        for row in own.to_dict("records")
    ]
    return [dots(own["flops"], own["actual"], "held out", "@s1", symbol="circle-open", size=7,
                 text=texts)]  # fmt: skip


def _note(study: Analysis) -> str:
    conformal = study.fit.conformal
    if conformal is None:
        return "Too few budgets to hold the larger ones out: the line has no prediction band."
    return (
        f"The band is a prediction interval, calibrated on {conformal.num} predictions of larger "
        "budgets than those fitted; it widens beyond the data (dashed). Rings were held out once."
    )


def _shown(flops: float, xs: pd.Series) -> bool:
    return float(xs.min()) <= flops <= float(xs.max())


def point_text(row: Mapping[Any, Any], metric: str) -> str:
    """Describe a point for its hover."""
    run = f"run {row['run']}<br>" if row.get("run") else ""
    return (
        f"{run}C {short(row['flops'])}, N {short(row['params'])}, D {short(row['tokens'])}<br>"
        f"{metric} {short(row['loss'], 4)}"
    )


def sizes_chart(study: Analysis) -> Chart:
    """Draw the best N and D over compute, with isoFLOP minima beside the law."""
    curve, exponent = study.curve.frame, study.fit.params["a"]
    views = []
    for label, name, other in (("N", "params", "parameters N"), ("D", "tokens", "tokens D")):
        data = band(curve["flops"], curve[f"{name}_low"], curve[f"{name}_high"],
                    f"{100 * study.fit.confidence:.0f} % over resampled runs")  # fmt: skip
        data.append(line(curve["flops"], curve[name], f"{study.fit.law}'s law", "@accent"))
        xs = [curve[name].to_numpy(float)]
        if study.isoflop is not None:
            minima = study.isoflop.minima
            for edge, mark, symbol in (
                (False, "minimum of a budget", "circle"),
                (True, "at the edge of its sizes", "triangle-up-open"),
            ):
                some = minima[minima["at_edge"] == edge]
                if len(some):
                    data.append(dots(some["flops"], some[name], mark, "@best", symbol=symbol,
                                     size=8))  # fmt: skip
                    xs.append(some[name].to_numpy(float))
        figure: Figure = {
            "data": data,
            "layout": layout(
                height=380,
                xaxis=log_ticks("training compute C (FLOP)", curve["flops"]),
                yaxis=log_ticks(f"best {other}", np.concatenate(xs)),
            ),
        }
        views.append((label, figure))
    columns = ["flops", "params", "params_low", "params_high", "tokens", "tokens_low",
               "tokens_high", "tokens_per_param"]  # fmt: skip
    return Chart(
        name="sizes",
        title="Best size and data over compute",
        note=f"N grows as C^{short(exponent)}, D as C^{short(1 - exponent)}: ten times the compute "
        f"asks for {short(10**exponent)}x the parameters and {short(10 ** (1 - exponent))}x "
        "the data.",
        views=tuple(views),
        table=curve[columns],
    )
