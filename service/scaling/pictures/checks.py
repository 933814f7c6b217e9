"""Is the law right: residuals, predicted against actual, and how far choices move the exponent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from service.report.charts.base import Chart, Figure, axis, layout
from service.report.numbers import percent, short
from service.scaling.analysis import Analysis
from service.scaling.pictures.frontier import point_text
from service.scaling.pictures.marks import band, bars, dots, line, log_ticks


def residuals_chart(study: Analysis) -> Chart:
    """Draw ln actual - ln predicted over N, D and C."""
    frame, metric = study.residuals, study.points.metric
    texts = [point_text(row, metric) for row in study.points.frame.to_dict("records")]
    views = []
    for label, column, title in (("over C", "flops", "training compute C (FLOP)"),
                                 ("over N", "params", "parameters N"),
                                 ("over D", "tokens", "tokens D")):  # fmt: skip
        ends = [float(frame[column].min()), float(frame[column].max())]
        figure: Figure = {
            "data": [
                dots(frame[column], 100 * frame["log_residual"], "runs", "@s1", size=6,
                     opacity=0.7, text=texts, legend=False),
                line(ends, [0, 0], "no error", "@muted", width=1, legend=False),
            ],
            "layout": layout(height=340, xaxis=log_ticks(title, frame[column]),
                             y="actual over predicted (%)", showlegend=False),
        }  # fmt: skip
        views.append((label, figure))
    return Chart(
        name="residuals",
        title="What the law leaves unexplained",
        note=f"Half of the runs lie within {percent(float(frame['log_residual'].abs().median()))} "
        "of the law. A slope or a curve here means that the law's form is wrong; single points "
        "far off are runs to look at.",
        views=tuple(views),
        table=frame.sort_values("log_residual", key=abs, ascending=False),
    )


def predicted_chart(study: Analysis) -> Chart:
    """Draw predicted against actual losses: fitted ones, and held-out larger budgets."""
    frame, metric = study.residuals, study.points.metric
    data = [dots(frame["predicted"], frame["loss"], "fitted", "@s0", size=5, opacity=0.6)]
    values = [frame["predicted"], frame["loss"]]
    note = "Points on the line are predicted without error."
    heldout = study.fit.heldout
    if heldout is not None:
        errors = heldout.errors
        data.append(dots(errors["predicted"], errors["actual"], "held out (larger budgets)",
                         "@best", symbol="circle-open", size=6, opacity=0.5))  # fmt: skip
        values += [errors["predicted"], errors["actual"]]
        note += (
            f" Held-out points were predicted from smaller budgets only: off by "
            f"{percent(heldout.rmse)} (root mean square), against {percent(heldout.naive_rmse)} "
            "for carrying the last value forward."
        )
    ends = [float(min(v.min() for v in values)), float(max(v.max() for v in values))]
    data.append(line(ends, ends, "no error", "@muted", width=1, legend=False))
    figure: Figure = {
        "data": data,
        "layout": layout(height=400, xaxis=log_ticks(f"predicted {metric}", ends),
                         yaxis=log_ticks(f"actual {metric}", ends)),
    }  # fmt: skip
    table = heldout.errors if heldout is not None else frame
    return Chart(name="predicted", title="Predicted against actual", note=note,
                 views=(("all", figure),), table=table)  # fmt: skip


def multiverse_chart(study: Analysis) -> Chart | None:
    """Draw the exponent a of N_opt ~ C^a under every method, row filter and loss."""
    table = study.multiverse
    if table is None or table.empty:
        return None
    known = table[np.isfinite(table["a"].astype(float))].sort_values("a").reset_index(drop=True)
    names = [choice_name(row) for row in known.to_dict("records")]
    places = np.arange(len(known), dtype=float)
    fit, data = study.fit, []
    ends = fit.ends("a")
    if ends is not None:
        corners = np.array([-0.5, len(known) - 0.5])
        name = f"{100 * fit.confidence:.0f} % over resampled runs"
        upright = band(corners, np.full(2, ends[0]), np.full(2, ends[1]), name)
        data += [{**trace, "x": trace["y"], "y": trace["x"]} for trace in upright]
    data.append(bars(known["a"], places, known["a"], known["a"], "each choice", "@s1", across=True))
    data.append(line([fit.params["a"]] * 2, [-0.5, len(known) - 0.5], "this report", "@accent"))
    spread = f"{short(float(known['a'].min()))} to {short(float(known['a'].max()))}"
    ticks = axis("", tickvals=[float(p) for p in places], ticktext=names)
    figure: Figure = {
        "data": data,
        "layout": layout(height=max(300, 120 + 22 * len(known)), x="exponent a of N_opt ~ C^a",
                         yaxis=ticks),
    }  # fmt: skip
    return Chart(
        name="multiverse",
        title="How far choices move the exponent",
        note=f"Method, row filter and loss were all sensible; a runs from {spread}. Where this "
        "spread is wider than the band, the band is too narrow to be believed.",
        views=(("all", figure),),
        table=known,
        wide=True,
    )


def choice_name(row: Mapping[Any, Any]) -> str:
    """Name a row of the multiverse: method, filter, loss."""
    parts = [row.get(part) for part in ("method", "filter", "loss")]
    return ", ".join(
        str(part).replace("_", " ") for part in parts if isinstance(part, str) and part
    )
