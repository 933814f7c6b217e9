"""Recipes against each other: the compute that each needs for a loss."""

from __future__ import annotations

from service.report.charts.base import Chart, Figure, layout
from service.scaling.analysis import Analysis
from service.scaling.comparison import Comparison
from service.scaling.pictures.marks import band, line, log_ticks


def recipes_chart(study: Analysis) -> Chart | None:
    """Draw the compute multiplier of each pair of recipes over their common range."""
    if not study.comparisons:
        return None
    return Chart(
        name="recipes",
        title="Recipes against each other",
        note=" ".join(f"{found.sentence[:1].upper()}{found.sentence[1:]}."
                      for found in study.comparisons),
        views=tuple(
            (f"{found.second} over {found.first}", _view(found)) for found in study.comparisons
        ),
        table=study.comparisons[0].frame,
    )  # fmt: skip


def _view(found: Comparison) -> Figure:
    frame = found.frame
    data = band(frame["flops_first"], frame["low"], frame["high"],
                f"{100 * found.confidence:.0f} % over resampled runs of both")  # fmt: skip
    data.append(line(frame["flops_first"], frame["speedup"],
                     f"{found.second} over {found.first}", "@accent"))  # fmt: skip
    ends = [float(frame["flops_first"].min()), float(frame["flops_first"].max())]
    data.append(line(ends, [1.0, 1.0], "no difference", "@muted", dash="dot", width=1))
    return {
        "data": data,
        "layout": layout(
            height=340,
            xaxis=log_ticks(f"compute of {found.first} (FLOP)", ends),
            y="times less compute for the same loss",
        ),
    }
