"""Is the law right: residuals, predicted against actual, and how far choices move the exponent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from service.report.charts.base import Chart, Figure, axis, layout
from service.report.numbers import percent, short
from service.scaling.analysis import Analysis
from service.scaling.pictures.frontier import point_text
from service.scaling.pictures.marks import band, dots, line, log_ticks


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
    """Draw the exponent a of N_opt ~ C^a under every method and loss (rows) and filter (marks)."""
    table = study.multiverse
    if table is None or not table["a"].notna().any():
        return None
    known = table[table["a"].notna()].assign(choice=lambda rows: rows.apply(choice_name, axis=1))
    choices = list(dict.fromkeys(known["choice"]))[::-1]
    place = known["choice"].map(choices.index).astype(float)
    data = _exponent_band(study, len(choices))
    for number, (name, own) in enumerate(known.groupby("filter", sort=False)):
        data.append(
            dots(own["a"], place[own.index], str(name), f"@s{number % 7}", size=8,
                 symbol=("circle", "diamond")[number // 7 % 2])
        )  # fmt: skip
    ends = [-0.5, len(choices) - 0.5]
    data.append(line([study.fit.params["a"]] * 2, ends, "this report", "@accent"))
    ticks = axis("", tickvals=[float(i) for i in range(len(choices))], ticktext=choices)
    figure: Figure = {
        "data": data,
        "layout": layout(height=190 + 28 * len(choices), x="exponent a of N_opt ~ C^a",
                         yaxis=ticks),
    }  # fmt: skip
    return Chart(
        name="multiverse",
        title="How far choices move the exponent",
        note="Each row is a method and a loss, each mark a choice of rows; all are sensible. a is "
        f"between {short(float(known['a'].min()))} and {short(float(known['a'].max()))}. Where "
        "this is wider than the band, the band is too narrow to be believed.",
        views=(("all", figure),),
        table=table,
    )


def _exponent_band(study: Analysis, num_rows: int) -> list[Figure]:
    ends = study.fit.ends("a")
    if ends is None:
        return []
    name = f"{100 * study.fit.confidence:.0f} % over resampled runs"
    rows = np.array([-0.5, num_rows - 0.5])
    upright = band(rows, np.full(2, ends[0]), np.full(2, ends[1]), name)
    return [{**trace, "x": trace["y"], "y": trace["x"]} for trace in upright]


def choice_name(row: Mapping[Any, Any]) -> str:
    """Name a row of the multiverse: method and loss."""
    parts = [row["method"], row["loss"]]
    return ", ".join(
        str(part).replace("_", " ") for part in parts if isinstance(part, str) and part
    )
