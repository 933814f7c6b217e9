"""Points before there is a law: what a study shows while it is young."""

from __future__ import annotations

from service.report.charts.base import Chart, Figure, layout
from service.scaling.pictures.frontier import point_text
from service.scaling.pictures.marks import dots, log_ticks
from service.scaling.points import Points

COLUMNS = ["flops", "params", "tokens", "loss", "kwh", "run"]


def points_chart(points: Points) -> Chart:
    """Draw the loss of every point over its size, without any fit."""
    frame = points.frame
    figure: Figure = {
        "data": [
            dots(
                frame["params"],
                frame["loss"],
                "points",
                "@s0",
                text=[point_text(row, points.metric) for row in frame.to_dict("records")],
            )
        ],
        "layout": layout(
            height=380,
            xaxis=log_ticks("parameters N", frame["params"]),
            yaxis=log_ticks(points.metric, frame["loss"]),
        ),
    }
    return Chart(
        name="points-so-far",
        title="Points so far",
        note="Every size that was trained to its end; a law is fitted once they can carry one.",
        views=(("all", figure),),
        table=frame[COLUMNS],
    )
