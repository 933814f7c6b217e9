"""`report.html` of a study: one file that opens offline, in light and dark, wide and narrow."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd

from service.report.charts.base import Chart
from service.report.html import chart_values, render
from service.report.numbers import percent, short
from service.scaling.analysis import Analysis
from service.scaling.curve_study import CurveStudy
from service.search.provenance import versions

NO_FLOOR = 1e-6
"""A floor below this share of the least loss is none."""
EXPONENTS = {
    "a": "of the best size, N ~ C^a",
    "alpha": "of the loss over parameters",
    "beta": "of the loss over data",
    "E": "the loss that no size or data removes",
}


def render_page(study: Analysis, charts: Sequence[Chart]) -> str:
    """Return the study's report as one self-contained HTML document."""
    first = [chart for chart in charts if chart.name == "frontier"]
    later = [chart for chart in charts if chart.name != "frontier"] + tables(study)
    return render(
        "study.html",
        with_plotly=True,
        name=study.name,
        what=f"scaling study · {len(study.points)} points · {_now()}",
        headline=study.sentence,
        first=[chart_values(chart) for chart in first],
        exponents=exponents(study),
        trust=trust(study),
        warnings=study.warnings,
        charts=[chart_values(chart) for chart in later],
        provenance=_provenance(study),
    )


def render_curves(study: CurveStudy, charts: Sequence[Chart]) -> str:
    """Return the report of a study of one variable as one self-contained HTML document."""
    num_points = sum(len(curve.x) for curve in study.curves)
    laws = [
        Chart(name=f"laws-{number}", title=f"How laws did on larger {study.x} held out"
              + (f": {curve.by}" if curve.by else ""), note="Best first.", views=(),
              table=curve.laws)
        for number, curve in enumerate(study.curves)
    ]  # fmt: skip
    return render(
        "study.html",
        with_plotly=True,
        name=study.name,
        what=f"{study.y} over {study.x} · {num_points} points · {_now()}",
        headline=study.sentence,
        first=[chart_values(chart, table_open=chart.name == "gains") for chart in charts],
        exponents=[],
        trust=[],
        warnings=[text for curve in study.curves for text in curve.fit.warnings],
        charts=[chart_values(chart) for chart in laws],
        provenance=[
            ("data", f"sha256 {study.data_sha256[:12]}"),
            ("rows", "; ".join(study.notes) or "all"),
            ("versions", _versions()),
        ],
    )


def exponents(study: Analysis) -> list[tuple[str, str, str]]:
    """Return (name, value with interval, meaning and spread over choices) of each exponent."""
    fit, spread = study.fit, study.multiverse
    found = []
    for name, meaning in EXPONENTS.items():
        if name not in fit.params:
            continue
        value = short(fit.params[name])
        if name == "E" and fit.params["E"] < NO_FLOOR * float(study.curve.frame["loss"].min()):
            found.append(("E", "0", "no floor is to be seen in these losses"))
            continue
        ends = fit.ends(name)
        if ends is not None:
            value += f" ({100 * fit.confidence:.0f} %: {short(ends[0])}-{short(ends[1])})"
        if spread is not None and name in spread and np.isfinite(spread[name]).any():
            values = spread[name].dropna()
            meaning += (
                f"; {short(float(values.min()))} to {short(float(values.max()))} over "
                f"{len(values)} choices of method, rows and loss"
            )
        found.append((name, value, meaning))
    return found


def trust(study: Analysis) -> list[tuple[str, str, str]]:
    """Return (label, value, note): prediction against what happened, baseline, convergence."""
    fit, found = study.fit, []
    if study.verification is not None:
        done = study.verification
        inside = "inside" if done["inside"] else "OUTSIDE"
        found.append((
            "predicted, then run",
            f"{short(done['predicted'], 4)} predicted, {short(done['actual'], 4)} happened",
            f"at {done['flops']:.3g} FLOP; {inside} the interval {short(done['low'], 4)}-"
            f"{short(done['high'], 4)} that was stored before the run",
        ))  # fmt: skip
    if fit.heldout is not None:
        found.append((
            "larger budgets", f"{percent(fit.heldout.rmse)} off",
            f"root mean square over {len(fit.heldout.errors)} predictions from smaller budgets",
        ))  # fmt: skip
        found.append((
            "naive baseline", f"{percent(fit.heldout.naive_rmse)} off",
            "carrying the last value forward"
            + ("" if fit.heldout.rmse < fit.heldout.naive_rmse else ": the law is no better"),
        ))  # fmt: skip
    if fit.conformal is not None and fit.conformal.coverage is not None:
        found.append((
            "coverage", percent(fit.conformal.coverage),
            f"of held-out points inside intervals of nominally {percent(fit.confidence)}",
        ))  # fmt: skip
    joint = fit.joint
    found.append((
        "convergence", f"{percent(joint.converged_share)} of {joint.num_starts} starts",
        f"ended at the optimum ({joint.objective:.6g}) by {joint.method.replace('_', ' ')}",
    ))  # fmt: skip
    return found


def tables(study: Analysis) -> list[Chart]:
    """Return what is said in numbers only: a chart without a picture shows its table."""
    listed: list[tuple[str, str, str, pd.DataFrame | None]] = [
        ("off-optimal", "The cost of a wrong size", _about_wrong_sizes(study),
         study.off_optimal.frame),
        ("next-runs", "Which runs would help most",
         "" if study.next_runs is None else _sentence_case(study.next_runs.sentence),
         None if study.next_runs is None else study.next_runs.frame.head(8)),
        ("leverage", "Rows that move the law most",
         "How far the parameters move when a row is left out.",
         None if study.leverage is None else study.leverage.head(10)),
    ]  # fmt: skip
    return [
        Chart(name=name, title=title, note=note, views=(), table=frame)
        for name, title, note, frame in listed
        if frame is not None and len(frame)
    ]


def _sentence_case(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _about_wrong_sizes(study: Analysis) -> str:
    wasted = dict(zip(study.off_optimal.frame["times"],
                      study.off_optimal.frame["compute_wasted"], strict=True))  # fmt: skip
    return (
        f"At the largest budget of the data. A model twice the best size wastes "
        f"{percent(wasted[2.0])} of the compute, half the best size {percent(wasted[0.5])}."
    )


def _provenance(study: Analysis) -> list[tuple[str, str]]:
    points, fit = study.points, study.fit
    rows: list[tuple[str, Any]] = [
        ("points", f"{len(points)} of {points.frame['run'].nunique()} runs; N is {points.count}; "
                   f"C = {short(points.flops_per_param_token)} N D; sha256 "
                   f"{points.data_sha256[:12]}"),
        ("rows", "; ".join(points.notes)),
        ("tuning", study.tuning or ""),
        ("law", f"{fit.law} by {fit.joint.method}, {len(fit.joint.bootstrap)} resamples of runs"
                if fit.joint.bootstrap is not None else f"{fit.law} by {fit.joint.method}"),
        ("fit", "; ".join(fit.joint.notes)),
        ("energy", study.axis_text),
        ("versions", _versions()),
    ]  # fmt: skip
    return [(name, str(value)) for name, value in rows if value]


def _versions() -> str:
    return ", ".join(f"{name} {version}" for name, version in versions().items())


def _now() -> str:
    return datetime.now(UTC).strftime("%d %b %Y, %H:%M UTC").lstrip("0")
