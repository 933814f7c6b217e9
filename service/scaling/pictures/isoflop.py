"""IsoFLOP curves: the loss over model size at each budget, with its minimum."""

from __future__ import annotations

import numpy as np

from service.report.charts.base import Chart, Figure, layout
from service.report.numbers import short
from service.scaling.analysis import Analysis
from service.scaling.budgets import budget_labels
from service.scaling.pictures.frontier import point_text
from service.scaling.pictures.marks import dots, line, log_ticks

COLOURS = tuple(f"@s{i}" for i in range(1, 7))


def isoflop_chart(study: Analysis) -> Chart | None:
    """Draw each budget's points, the curve through them, and its minimum with edge flags."""
    if study.isoflop is None:
        return None
    found, frame, metric = study.isoflop, study.points.frame, study.points.metric
    labels = budget_labels(frame, None).to_numpy(float)
    many = len(found.minima) > len(COLOURS)
    data: list[Figure] = []
    for number, flops in enumerate(found.minima["flops"]):
        colour = COLOURS[number % len(COLOURS)]
        curve = found.curves[found.curves["flops"] == flops]
        own = frame[np.isclose(labels, flops, rtol=1e-6)]
        name = f"{short(flops, 2)} FLOP"
        data.append(line(curve["params"], curve["loss"], name, colour, width=1.5, legend=not many))
        data.append(
            dots(own["params"], own["loss"], name, colour, size=5, legend=False,
                 text=[point_text(row, metric) for row in own.to_dict("records")])
        )  # fmt: skip
    for edge, name, symbol in (
        (False, "minimum", "star"),
        (True, "at the edge of the sizes", "triangle-up-open"),
    ):
        some = found.minima[found.minima["at_edge"] == edge]
        if len(some):
            data.append(dots(some["params"], some["loss"], name, "@best", symbol=symbol, size=11))
    figure: Figure = {
        "data": data,
        "layout": layout(
            height=430,
            xaxis=log_ticks("parameters N", frame["params"]),
            yaxis=log_ticks(metric, frame["loss"]),
        ),
    }
    edges = int(found.minima["at_edge"].sum())
    note = (
        f"Each curve is one budget, drawn by {found.interpolant} interpolation. The minima give "
        f"N ~ C^{short(found.params['a'])}"
    )
    if edges:
        note += (
            f"; {edges} of {len(found.minima)} lie at the edge of their sizes and do not count: "
            "train smaller or larger models there"
        )
    return Chart(name="isoflop", title="IsoFLOP curves", note=f"{note}.",
                 views=(("all", figure),), table=found.minima)  # fmt: skip
