"""Ask a study every default question, and collect what to be careful about."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pandas as pd

from service.report.numbers import percent, short
from service.scaling.analysis import Analysis, core_answers, residuals
from service.scaling.comparison import Comparison
from service.scaling.fits import EnvelopeFit, IsoflopFit, fit_envelope, fit_isoflop, fit_joint
from service.scaling.fitted import StudyFit
from service.scaling.leverage import leverage
from service.scaling.multiverse import multiverse
from service.scaling.points import Points
from trainers.errors import ScalingError

if TYPE_CHECKING:
    from service.scaling.questions import Questions

Found = TypeVar("Found")
FLOOR_SHARE = 0.5
"""A floor whose interval is wider than this share of what is reducible is warned about."""
BEND_SHARE = 0.4
"""Residuals of which compute explains more, by a parabola, do not come from the law's form."""
MIN_FOR_FORM = 15
TINY = 1e-16
"""Variance of log residuals below which a fit is exact."""
MULTIVERSE_POINTS = 2_000
COVERAGE_SLACK = 0.1
"""Measured coverage that falls short of the nominal one by more is warned about."""


def gather(study: Questions) -> Analysis:
    """Answer every default question of a study.

    What the points cannot carry (isoFLOP minima of scattered budgets, an envelope without curves)
    is left out.

    Raises:
        ScalingError: there are too few points for the law itself.

    """
    fit = study.fitted
    answers = core_answers(fit, study.axis, study.knee_share)
    isoflop = _or_none(lambda: fit_isoflop(fit.points))
    envelope = _or_none(lambda: fit_envelope(fit.points))
    return Analysis(
        name=study.name,
        seed=study.seed,
        unique_tokens=study.unique_tokens,
        isoflop=isoflop,
        second_opinions=_second_opinions(fit, isoflop, envelope),
        multiverse=multiverse(_thinned(fit.points)) if fit.law == "chinchilla" else None,
        leverage=_leverage(fit),
        next_runs=study.next_runs(),
        comparisons=_comparisons(study),
        hyperparameters=_or_none(study.hyperparameters) or (),
        tuning=_tuning(study),
        verification=_verification(study),
        warnings=warnings_of(study, isoflop),
        **answers,
    )


def _or_none(ask: Callable[[], Found]) -> Found | None:
    try:
        return ask()
    except ScalingError:
        return None


def _comparisons(study: Questions) -> tuple[Comparison, ...]:
    """Compare every other recipe with the first."""
    if len(study.recipes) < 2 or study.fitted.law == "repeated_data":
        return ()
    first, *others = study.recipes
    pairs = (_or_none(partial(study.compare, first, other)) for other in others)
    return tuple(found for found in pairs if found is not None)


def _thinned(points: Points) -> Points:
    """Return at most `MULTIVERSE_POINTS` of the points: dozens of fits need not see them all."""
    if len(points) <= MULTIVERSE_POINTS:
        return points
    keep = np.zeros(len(points), bool)
    keep[np.random.default_rng(0).choice(len(points), MULTIVERSE_POINTS, replace=False)] = True
    note = f"the table of choices is of {MULTIVERSE_POINTS} of {len(points)} points, at random"
    return replace(points.where(keep), notes=(*points.notes, note))


def _tuning(study: Questions) -> str | None:
    tune = study.recorded.spec.tune if study.recorded is not None else None
    return None if tune is None else tune.sentence


def _verification(study: Questions) -> Mapping[str, Any] | None:
    """Return the latest prediction of this recipe that was trained, beside what happened."""
    if study.recorded is None:
        return None
    own = [found for found in study.recorded.verifications if found["recipe"] == study.recipe]
    return own[-1] if own else None


def _second_opinions(
    fit: StudyFit, isoflop: IsoflopFit | None, envelope: EnvelopeFit | None
) -> tuple[object, ...]:
    found: list[object] = []
    if fit.law == "chinchilla" and fit.joint.method != "variable_projection":
        projected = _or_none(lambda: fit_joint(fit.points, method="variable_projection"))
        found += [projected] if projected is not None else []
    return (*found, *(one for one in (isoflop, envelope) if one is not None))


def _leverage(fit: StudyFit) -> pd.DataFrame | None:
    """Return the rows by how far leaving them out moves the exponent a, most first."""
    if fit.joint.method == "variable_projection" or fit.law == "repeated_data":
        return None
    table = leverage(fit.points, fit.joint)
    return table.sort_values("da", key=abs, ascending=False, ignore_index=True)


def warnings_of(study: Questions, isoflop: IsoflopFit | None) -> tuple[str, ...]:
    """Return what a reader has to be careful about."""
    fit = study.fitted
    found = list(fit.joint.warnings)
    if len(study.recipes) > 1:
        others = ", ".join(name for name in study.recipes if name != study.recipe)
        found.append(f"the answers are of the recipe `{study.recipe}`; others: {others}")
    found += _about_floor(fit)
    found += _about_heldout(fit)
    found += _about_form(fit)
    found += list(isoflop.warnings) if isoflop is not None else []
    return tuple(dict.fromkeys(found))


def _about_floor(fit: StudyFit) -> Sequence[str]:
    """Warn where extrapolation is mostly a guess about E."""
    ends = fit.ends("E") if "E" in fit.params else None
    if ends is None:
        return []
    width = ends[1] - ends[0]
    loss = float(fit.optimum(np.array([fit.largest_flops]))["loss"].iloc[0])
    reducible = loss - fit.params["E"]
    if width < FLOOR_SHARE * reducible:
        return []
    return [
        f"the floor E is known to {short(ends[0])}-{short(ends[1])} only, which is "
        f"{percent(width / reducible)} of what is reducible at the largest budget: predictions far "
        "beyond the data are mostly a guess about E"
    ]


def _about_form(fit: StudyFit) -> Sequence[str]:
    """Warn where what the law leaves unexplained still follows compute."""
    left = residuals(fit)
    if len(left) < MIN_FOR_FORM or left["flops"].nunique() < 4:
        return []
    x, y = np.log(left["flops"].to_numpy(float)), left["log_residual"].to_numpy(float)
    bend = np.polyval(np.polyfit(x - x.mean(), y, 2), x - x.mean())
    share = 1.0 - float(np.var(y - bend) / np.var(y)) if np.var(y) > TINY else 0.0
    if share < BEND_SHARE:
        return []
    return [
        f"{percent(share)} of what the law leaves unexplained follows compute: its form does not "
        "fit these runs, so trust neither its floor nor far predictions"
    ]


def _about_heldout(fit: StudyFit) -> Sequence[str]:
    found = []
    heldout, conformal = fit.heldout, fit.conformal
    if heldout is None or conformal is None:
        return ["nothing could be held out: no prediction interval, and no check of the law"]
    if heldout.rmse >= heldout.naive_rmse:
        found.append(
            f"larger budgets were predicted no better ({percent(heldout.rmse)}) than by carrying "
            f"the last value forward ({percent(heldout.naive_rmse)})"
        )
    if conformal.coverage is not None and conformal.coverage < fit.confidence - COVERAGE_SLACK:
        found.append(
            f"intervals of nominally {percent(fit.confidence)} covered "
            f"{percent(conformal.coverage)} of the larger budgets held out: read the band as "
            "too narrow"
        )
    return found
