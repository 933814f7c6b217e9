"""Fit joint laws L(N, D) to points: `fit_joint`, and the fits of compute-optimal sizes beside it.

    joint_laws.py            the laws' formulas and optima       joint_fit.py   the result
    log_huber.py             many starts and their convergence   descent.py     many fits at once
    variable_projection.py   the second opinion                  resampling.py  bootstrap over runs
    leverage.py              each row's pull on the exponents
    isoflop.py, envelope.py  N_opt(C) without a joint law

The objective is the sum over points of Huber's loss of log L, delta 1e-3 (Hoffmann et al. 2022,
eq. 3), minimised until nothing is left to gain: a fit that stopped early looks like any other.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import pandas as pd

from service.scaling.design import Design, design_of
from service.scaling.envelope import EnvelopeFit, fit_envelope
from service.scaling.isoflop import IsoflopFit, fit_isoflop
from service.scaling.joint_fit import JointFit, with_exponents
from service.scaling.joint_forms import FORMS
from service.scaling.joint_laws import LAWS, check_law
from service.scaling.leverage import leverage
from service.scaling.log_huber import (
    Found,
    Starts,
    about_values,
    fit_as_published,
    fit_tightly,
)
from service.scaling.plain_lbfgsb import REDUCTIONS, TOLERANCES
from service.scaling.points import Points
from service.scaling.resampling import (
    ONE_STEP_POINTS,
    as_frame,
    bootstrap_thetas,
    correlations_of,
    linear_correlations,
)
from service.scaling.variable_projection import fit_projection
from trainers.errors import ScalingError, nearest

__all__ = [
    "LAWS",
    "METHODS",
    "EnvelopeFit",
    "IsoflopFit",
    "JointFit",
    "fit_envelope",
    "fit_isoflop",
    "fit_joint",
    "leverage",
]

DEFAULT_STARTS = 32
DEFAULT_DELTA = 1e-3
METHODS = ("log_huber_lbfgsb", "variable_projection")


def fit_joint(
    points: Points,
    law: str = "chinchilla",
    *,
    method: str = "log_huber_lbfgsb",
    starts: Starts = DEFAULT_STARTS,
    delta: float = DEFAULT_DELTA,
    reduction: str = "sum",
    tolerance: str = "tight",
    unique_tokens: str | None = None,
    bootstrap: int = 0,
    seed: int = 0,
) -> JointFit:
    """Fit L(N, D) to the points of one recipe.

    Args:
        points: at least as many as the law has parameters.
        law: `chinchilla`, `repeated_data` or `kaplan`; see `joint_laws`.
        method: `log_huber_lbfgsb`, or `variable_projection` (squares of L, `chinchilla` only).
        starts: how many random starts; `grid` audits with the published 4,500.
        delta: Huber's threshold in log L: residuals beyond it count linearly.
        reduction: `sum`; `mean` repeats a published mistake and says what it costs.
        tolerance: `tight`; `scipy` are L-BFGS-B's defaults, with the same remark.
        unique_tokens: the column of unique tokens, for `repeated_data`.
        bootstrap: how many resamples of the runs to refit; 400 are enough for 90 % intervals.
            None are drawn from no more runs than the law has parameters, with a warning.
        seed: of starts, subsamples and resamples.

    Returns:
        The fit with its convergence, its warnings and, if asked, its resamples.

    Raises:
        ScalingError: if an option is unknown or does not fit the law, or the points cannot carry
            the law (`design.design_of` says when).

    """
    started_s = time.perf_counter()
    options = _Options(
        method=method, starts=starts, delta=delta, reduction=reduction, tolerance=tolerance
    )
    check_law(law)
    _check_bootstrap(bootstrap)
    design = design_of(points, law, unique_tokens)
    warnings: tuple[str, ...] = ()
    if bootstrap and design.num_runs <= FORMS[law].num_free:
        bootstrap, warnings = 0, (_no_interval(design.num_runs, FORMS[law].num_free),)
    if method == "variable_projection":
        fitted = fit_projection(design, law, bootstrap, seed)
        found, values, resamples = fitted.found, fitted.values, fitted.resamples
    else:
        found = _log_huber(design, law, options, seed)
        values, resamples = _report(design, law, found, delta, bootstrap, seed)
    notes = found.notes
    if resamples is not None:
        notes += _about_bootstrap(design, method)
    form = FORMS[law](design)
    if resamples is None:
        correlations = linear_correlations(form, law, form.theta(values), design)
    else:
        correlations = correlations_of(resamples, law)
    return JointFit(
        law=law,
        method=method,
        delta=delta,
        params=with_exponents(values),
        objective=found.objective,
        num_points=design.num_points,
        num_starts=found.num_starts,
        converged_share=found.converged_share,
        converged=found.converged,
        warnings=found.warnings + about_values(law, values, design) + warnings,
        notes=notes,
        bootstrap=resamples,
        correlations=correlations,
        seconds=time.perf_counter() - started_s,
    )


@dataclass(frozen=True, kw_only=True)
class _Options:
    """How to minimise; refuses what is unknown."""

    method: str
    starts: Starts
    delta: float
    reduction: str
    tolerance: str

    def __post_init__(self) -> None:
        for name, valid in (
            ("method", METHODS),
            ("reduction", REDUCTIONS),
            ("tolerance", TOLERANCES),
        ):
            value = getattr(self, name)
            if value not in valid:
                raise ScalingError(
                    f"{name} must be one of {', '.join(valid)}, got `{value}`"
                    + nearest(str(value), valid)
                )
        if not (np.isfinite(self.delta) and self.delta > 0):
            raise ScalingError(f"delta must be positive, got {self.delta}; the usual one is 1e-3")
        usual = self.tight and self.starts == DEFAULT_STARTS and self.delta == DEFAULT_DELTA
        if self.method == "variable_projection" and not usual:
            raise ScalingError(
                "variable_projection reads neither starts, delta, reduction nor tolerance; leave "
                "them out"
            )

    @property
    def tight(self) -> bool:
        """Whether the optimum is wanted, rather than what a published procedure finds."""
        return self.reduction == "sum" and self.tolerance == "tight"


def _check_bootstrap(num: int) -> None:
    if isinstance(num, bool) or not isinstance(num, int) or num < 0 or num == 1:
        raise ScalingError(
            f"bootstrap must be 0 or a number of resamples from 2 on, got {num!r}; try 400"
        )


def _log_huber(design: Design, law: str, options: _Options, seed: int) -> Found:
    rng = np.random.default_rng(seed)
    if options.tight:
        return fit_tightly(design, law, starts=options.starts, delta=options.delta, rng=rng)
    return fit_as_published(
        design,
        law,
        starts=options.starts,
        delta=options.delta,
        reduction=options.reduction,
        tolerance=options.tolerance,
        rng=rng,
    )


def _report(
    design: Design, law: str, found: Found, delta: float, bootstrap: int, seed: int
) -> tuple[dict[str, float], pd.DataFrame | None]:
    """Return the fit's parameters as reported, and those of its resamples if asked."""
    form = FORMS[law](design)
    values = {name: float(value[0]) for name, value in form.values(found.theta[None]).items()}
    if bootstrap == 0:
        return values, None
    thetas = bootstrap_thetas(form, design, found.theta, delta, bootstrap, seed)
    return values, as_frame(law, form.values(thetas))


def _no_interval(num_runs: int, num_params: int) -> str:
    """Say why there is no interval: a law through as many runs passes exactly, resampled or not."""
    return (
        f"{num_runs} runs for {num_params} parameters: intervals need more runs than parameters, "
        f"so there are none; add at least {num_params + 1 - num_runs} run"
        f"{'s' if num_params > num_runs else ''}"
    )


def _about_bootstrap(design: Design, method: str) -> tuple[str, ...]:
    of_what = (
        f"{design.num_runs:,} runs resampled"
        if design.num_runs < design.num_points
        else f"{design.num_points:,} points resampled, each a run of its own"
    )
    if method == "variable_projection" or design.num_points < ONE_STEP_POINTS:
        return (of_what,)
    return (f"{of_what}; one Newton step per resample, as there are {ONE_STEP_POINTS:,} or more",)
