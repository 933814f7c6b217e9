"""The log-Huber fit of a joint law from many starts, and what must be said about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from service.scaling.descent import STATIONARY, Descent, descend
from service.scaling.design import Design
from service.scaling.joint_forms import EXPONENT_LIMIT, FORMS, ChinchillaForm, Form
from service.scaling.joint_laws import PARAM_NAMES, FloatArray
from service.scaling.plain_lbfgsb import descend_lbfgsb
from trainers.errors import ScalingError

Starts = int | Literal["grid"]

AT_OPTIMUM = 1e-4
"""A start is at the optimum if its objective exceeds the best by less than this part of it."""
SUBSAMPLE_POINTS = 4_000
"""With more points the starts descend on so many of them, and the best ends on all."""
_SOLVED = 1e-6
"""A fit is stationary if a step promises less than this part of the objective."""
_NO_RESIDUAL = 1e-20
"""Objective per point, in units of delta, below which a fit passes through all points."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """The best end of many descents."""

    theta: FloatArray
    """Coordinates of the form over the centred design, shape (K,)."""
    objective: float
    num_starts: int
    converged_share: float
    converged: bool
    warnings: tuple[str, ...]
    notes: tuple[str, ...]


def fit_tightly(
    design: Design, law: str, *, starts: Starts, delta: float, rng: np.random.Generator
) -> Found:
    """Descend together from all starts, and hand the best to L-BFGS-B.

    Args:
        design: the points.
        law: one of `joint_laws.LAWS`.
        starts: how many; `grid` is the published grid of 4,500.
        delta: Huber's threshold in units of log L.
        rng: draws starts, and the subsample of many points.

    """
    form = FORMS[law](design)
    thetas = start_thetas(form, law, starts, rng)
    notes = [
        f"sum of Huber losses of log L, delta {delta:g}: damped Newton steps from all starts until "
        f"one promised less than {STATIONARY:g} of it, then L-BFGS-B"
    ]
    if design.num_points > SUBSAMPLE_POINTS:
        rows = np.sort(rng.choice(design.num_points, SUBSAMPLE_POINTS, replace=False))
        part = design.rows(rows)
        ends = descend(FORMS[law](part), part.log_loss, thetas, part.weight, delta)
        finalists = ends.theta[np.argsort(ends.objective)[:2]]
        best = _lowest(descend(form, design.log_loss, finalists, design.weight, delta))
        notes.append(
            f"starts descended on {SUBSAMPLE_POINTS:,} of {design.num_points:,} points drawn at "
            "random, and the best of them on all points; the share of starts is the subsample's"
        )
    else:
        ends = descend(form, design.log_loss, thetas, design.weight, delta)
        best = _lowest(ends)
    polished = descend_lbfgsb(form, design.log_loss, best.theta, design.weight, delta)
    if polished.objective[0] < best.objective[0]:
        best = Descent(polished.theta, polished.objective, best.promise)
    share = _share(ends, float(ends.objective.min()), design, delta)
    perfect = best.objective[0] <= _perfect(design, delta)
    warnings = _about_convergence(share, len(thetas), bool(perfect or best.promise[0] < _SOLVED))
    return Found(
        theta=best.theta[0],
        objective=float(best.objective[0]),
        num_starts=len(thetas),
        converged_share=share,
        converged=not warnings,
        warnings=warnings,
        notes=tuple(notes),
    )


def fit_as_published(
    design: Design,
    law: str,
    *,
    starts: Starts,
    delta: float,
    reduction: str,
    tolerance: str,
    rng: np.random.Generator,
) -> Found:
    """Run L-BFGS-B from each start in plain logarithms, and measure what that misses.

    Args:
        design: the points.
        law: one of `joint_laws.LAWS`.
        starts: as for `fit_tightly`.
        delta: Huber's threshold.
        reduction: one of `plain_lbfgsb.REDUCTIONS`.
        tolerance: one of `plain_lbfgsb.TOLERANCES`.
        rng: draws the starts.

    """
    form, plain_design = FORMS[law](design), design.uncentred()
    plain = FORMS[law](plain_design)
    thetas = start_thetas(form, law, starts, rng)
    values = form.values(thetas)
    plain_thetas = np.array([plain.theta(_row(values, m)) for m in range(len(thetas))])
    ends = descend_lbfgsb(
        plain,
        design.log_loss,
        plain_thetas,
        design.weight,
        delta,
        reduction=reduction,
        tolerance=tolerance,
        bounded=False,
    )
    best = _lowest(ends)
    theta = form.theta(_row(plain.values(best.theta), 0))
    optimum = fit_tightly(design, law, starts=32, delta=delta, rng=rng)
    lowest = min(optimum.objective, float(best.objective[0]))
    share = _share(ends, lowest, design, delta)
    gap = float(best.objective[0]) - optimum.objective
    warnings: tuple[str, ...] = ()
    if gap > max(AT_OPTIMUM * optimum.objective, _perfect(design, delta)):
        names = {"alpha", "beta"}
        got = {n: v for n, v in _row(plain.values(best.theta), 0).items() if n in names}
        true = {n: v for n, v in _row(form.values(optimum.theta[None]), 0).items() if n in names}
        warnings = (
            f"NOT CONVERGED: the {reduction} of Huber losses at {tolerance} tolerances stopped at "
            f"{best.objective[0]:.6g} (as a sum), {100 * gap / optimum.objective:.2g} % above the "
            f"optimum {optimum.objective:.6g}; there {_listed(true)}, here {_listed(got)}. Fit "
            'with reduction="sum" and tolerance="tight"',
        )
    return Found(
        theta=theta,
        objective=float(best.objective[0]),
        num_starts=len(thetas),
        converged_share=share,
        converged=not warnings,
        warnings=warnings,
        notes=(f"L-BFGS-B from each start, {reduction} of Huber losses, {tolerance} tolerances",),
    )


def start_thetas(form: Form, law: str, starts: Starts, rng: np.random.Generator) -> FloatArray:
    """Return the starts' coordinates, shape (M, K).

    Raises:
        ScalingError: if `starts` is neither a positive number nor `grid`, or `grid` is asked of a
            law that has no published grid.

    """
    if starts == "grid":
        if law != "chinchilla" or not isinstance(form, ChinchillaForm):
            raise ScalingError(
                f"the published grid of starts is of the law `chinchilla`, not of `{law}`; give "
                "a number of starts, e.g. 32"
            )
        return form.published_grid()
    if isinstance(starts, bool) or not isinstance(starts, int) or starts < 1:
        raise ScalingError(f"starts must be a positive number or `grid`, got {starts!r}; try 32")
    return form.starts(starts, rng)


def about_values(law: str, values: Mapping[str, float], design: Design) -> tuple[str, ...]:
    """Return warnings about parameters that these points do not determine."""
    warnings = []
    num_free = len(PARAM_NAMES[law])
    if design.num_points < 2 * num_free:
        warnings.append(
            f"{design.num_points} points for {num_free} parameters: the fit can follow noise; "
            f"{2 * num_free} or more would show it"
        )
    lowest = float(np.exp(design.log_loss.min()))
    if "E" in values and values["E"] < 1e-3 * lowest:
        warnings.append(
            "E went to zero: the points show no floor yet, so how far the loss can fall is unknown"
        )
    warnings += [
        f"{name} = {values[name]:.3g} is not positive: the loss does not fall with {what} here"
        for name, what in (("alpha", "parameters"), ("beta", "tokens"))
        if values[name] <= 0
    ]
    warnings += [
        f"{name} = {values[name]:.3g} is at its limit: the points show a step in {what}, no power"
        for name, what in (("alpha", "parameters"), ("beta", "tokens"))
        if values[name] > 0.99 * EXPONENT_LIMIT
    ]
    warnings += [
        f"{name} is not determined: the points would fit as well with ever more extreme values"
        for name, value in values.items()
        if not np.isfinite(value)
    ]
    decay = values.get("repeats_decay")
    if decay is not None and not 1e-2 < decay < 1e3:
        warnings.append(
            f"repeats_decay = {decay:.3g} is not determined: the points repeat their data too "
            "little, or repeats change nothing"
        )
    return tuple(warnings)


def _about_convergence(share: float, num_starts: int, stationary: bool) -> tuple[str, ...]:
    warnings = []
    if num_starts > 1 and round(share * num_starts) < 2:
        warnings.append(
            f"only 1 of {num_starts} starts reached the best objective, so there may be a better "
            'one; raise starts, or audit with starts="grid"'
        )
    if not stationary:
        warnings.append(
            "the best end is no stationary point: the points do not determine all parameters; add "
            "runs that vary parameters and tokens more widely"
        )
    return tuple(warnings)


def _perfect(design: Design, delta: float) -> float:
    """Return the objective below which a fit passes through all points to rounding."""
    return _NO_RESIDUAL * delta * float(design.weight.sum())


def _share(ends: Descent, lowest: float, design: Design, delta: float) -> float:
    limit = max(lowest * (1.0 + AT_OPTIMUM), _perfect(design, delta))
    return float(np.mean(ends.objective <= limit))


def _lowest(ends: Descent) -> Descent:
    """Return the best end alone, as a descent of one problem."""
    best = [int(np.nanargmin(ends.objective))]
    return Descent(ends.theta[best], ends.objective[best], ends.promise[best])


def _row(values: Mapping[str, FloatArray], m: int) -> dict[str, float]:
    return {name: float(column[m]) for name, column in values.items()}


def _listed(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in values.items())
