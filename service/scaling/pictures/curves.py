"""One variable: the points with their law, and what each doubling gained."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from service.report.charts.base import Chart, Figure, layout
from service.scaling.pictures.marks import dots, line, log_ticks

if TYPE_CHECKING:
    from service.scaling.curve_study import Curve, CurveStudy


def curve_charts(study: CurveStudy) -> list[Chart]:
    """Draw every group's points and law, then gains per doubling."""
    return [_points_chart(study), _gains_chart(study)]


def _points_chart(study: CurveStudy) -> Chart:
    data: list[Figure] = []
    tables = []
    for number, curve in enumerate(study.curves):
        colour = f"@s{1 + number % 6}"
        inside = np.geomspace(curve.x[0], curve.x[-1], 80)
        beyond = np.geomspace(curve.x[-1], 2.0 * curve.x[-1], 20)
        name = _name(curve)
        data += [
            dots(curve.x, curve.y, f"{name}measured", colour, size=8),
            line(inside, curve.fit.predict(inside), f"{name}{_law(curve)}", colour),
            line(beyond, curve.fit.predict(beyond), "extrapolated", colour, dash="dash",
                 legend=False),
        ]  # fmt: skip
        tables.append(
            pd.DataFrame({"by": curve.by, study.x: curve.x, study.y: curve.y,
                          "law": curve.fit.predict(curve.x)})
        )  # fmt: skip
    xs = np.concatenate([np.append(curve.x, 2.0 * curve.x[-1]) for curve in study.curves])
    ys = np.concatenate([curve.y for curve in study.curves])
    y_axis = layout(height=400, y=study.y)["yaxis"]
    if not study.increasing:
        y_axis = log_ticks(study.y, ys)
    figure: Figure = {
        "data": data,
        "layout": layout(height=400, xaxis=log_ticks(study.x, xs), yaxis=y_axis),
    }
    return Chart(
        name="curve",
        title=f"{study.y} over {study.x}",
        note=_about_laws(study),
        views=(("all", figure),),
        table=pd.concat(tables, ignore_index=True),
    )


def _gains_chart(study: CurveStudy) -> Chart:
    data: list[Figure] = []
    tables = []
    for number, curve in enumerate(study.curves):
        colour, gains, name = f"@s{1 + number % 6}", curve.gains, _name(curve)
        middle = np.sqrt(gains["x_from"] * gains["x_to"])
        data.append(dots(middle, gains["gain_per_doubling"], f"{name}measured", colour, size=9))
        if curve.fit.law != "last_value":
            starts = np.geomspace(curve.x[0], curve.x[-1], 60)
            rise = curve.fit.gain_per_doubling(starts)
            data.append(line(starts * np.sqrt(2.0), rise, f"{name}{_law(curve)}", colour))
        tables.append(gains.assign(by=curve.by))
    xs = np.concatenate([curve.x for curve in study.curves])
    figure: Figure = {
        "data": data,
        "layout": layout(
            height=360,
            xaxis=log_ticks(f"{study.x}, middle of the doubling", np.append(xs, 1.5 * xs.max())),
            y=f"{study.y} gained per doubling",
        ),
    }
    return Chart(
        name="gains",
        title="Gain per doubling",
        note=f"What doubling {study.x} brought between neighbouring measurements (points), and "
        "what the law says (line).",
        views=(("all", figure),),
        table=pd.concat(tables, ignore_index=True),
    )


def _about_laws(study: CurveStudy) -> str:
    if all(curve.judged for curve in study.curves):
        return (
            "Each law was chosen for its error on larger values that were held out, never for how "
            "well it goes through the points."
        )
    return "Too few values to hold larger ones out: the lines are fits that nothing has checked."


def _name(curve: Curve) -> str:
    return f"{curve.by}, " if curve.by else ""


def _law(curve: Curve) -> str:
    return curve.fit.law.replace("_", " ")
