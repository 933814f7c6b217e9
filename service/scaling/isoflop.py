"""IsoFLOP minima: the best size at each budget, and their exponent (Hoffmann et al. 2022, 3.2).

Budgets whose curve is lowest at its smallest or largest size are flagged and left out of the
exponent: their minimum lies outside, and where it would be taken for inside the exponent is that of
the grid (Porian et al. 2024, section 2).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from service.scaling.budgets import Budget, budgets_of, noise_of, redraw
from service.scaling.joint_laws import FloatArray
from service.scaling.minima import (
    INTERPOLANTS,
    Interpolant,
    Minima,
    interpolation_bias,
    minima,
    valley_exponents,
)
from service.scaling.points import Points
from service.scaling.size_fit import PowerFit, SizeFit, fit_floor, fit_power, regress
from trainers.errors import ScalingError, nearest

_NUM_BOOTSTRAPS = 400


@dataclass(frozen=True, kw_only=True)
class IsoflopFit(SizeFit):
    """Minima over size at each budget, and the power law through them."""

    minima: pd.DataFrame
    """One row per budget: `flops`, `params`, `tokens`, `loss`, `at_edge`, `num_points`, and the
    90 % interval of `params` as `low` and `high` (NaN where the noise is unknown)."""
    curves: pd.DataFrame
    """The interpolants for pictures: `flops` (the budget), `params`, `loss`."""
    interpolant: str


def fit_isoflop(
    points: Points,
    interpolant: str = "valley",
    *,
    budget: str | None = None,
    bootstrap: int = _NUM_BOOTSTRAPS,
    seed: int = 0,
) -> IsoflopFit:
    """Find the best size at each budget and fit N_opt = k C^a through them.

    Uncertainty comes from the noise of single runs: the pooled spread between seeds where sizes
    are repeated, else what valleys leave of the curves. All points of one run get the same noise.
    Budgets weigh by the inverse variance of their minimum. Where minima scatter about the line more
    than that noise explains, the interval of the exponent is widened by the ratio (Birge 1932).

    Args:
        points: of one recipe, in groups of nearly equal FLOPs.
        interpolant: `valley`, `akima` or `parabola`; see `minima`.
        budget: the column of the budget; by default `budget_flops` where there is one, else points
            are grouped by their FLOPs.
        bootstrap: how many resamples of the noise.
        seed: of the noise.

    Raises:
        ScalingError: if the interpolant or column is unknown, the points hold several recipes, or
            fewer than two budgets have a minimum inside their sizes.

    """
    if interpolant not in INTERPOLANTS:
        raise ScalingError(
            f"interpolant must be one of {', '.join(INTERPOLANTS)}, got `{interpolant}`"
            + nearest(interpolant, INTERPOLANTS)
        )
    if len(points.recipes) > 1:
        raise ScalingError(
            f"isoFLOP minima are of one recipe, but the points have {len(points.recipes)}; take "
            "one by points.only(by=...)"
        )
    notes: list[str] = []
    budgets = budgets_of(points.frame, budget, notes)
    exponents = valley_exponents([(each.log_params, each.loss) for each in budgets])
    drawn_by = Interpolant(interpolant, *exponents)
    found = [minima(each.log_params, each.loss[None], drawn_by) for each in budgets]
    noise = noise_of(points.frame, budgets, Interpolant("valley", *exponents))
    notes.append(noise.note)
    draws = redraw(points.frame, budgets, drawn_by, noise, bootstrap, seed)
    table = _table(budgets, found, draws)
    inside = ~table["at_edge"].to_numpy(bool)
    warnings = _about_minima(table, inside)
    flops = table["flops"].to_numpy(float)[inside]
    log_std = _log_std(draws, len(budgets))[inside]
    fit = fit_power(flops, table["params"][inside], log_std)
    floor = fit_floor(flops, table["loss"][inside])
    scatter = _scatter(flops, table["params"].to_numpy(float)[inside], fit, log_std, draws)
    if scatter.excess > 1.0:
        notes.append(
            f"minima scatter {scatter.excess:.2g} times as much as the noise of their runs "
            "explains; the interval of the exponent is widened by it"
        )
    if interpolant == "parabola":
        notes.append(_about_parabola(budgets, table, drawn_by))
    return IsoflopFit(
        method="isoflop",
        params={"a": fit.exponent, "b": 1 - fit.exponent, "k": fit.coefficient, **floor},
        r2=fit.r2,
        bootstrap=_exponents(flops, None if draws is None else draws[:, inside], scatter),
        warnings=warnings,
        notes=tuple(notes),
        minima=table,
        curves=_curves(budgets, drawn_by),
        interpolant=interpolant,
    )


def _table(budgets: list[Budget], found: list[Minima], draws: FloatArray | None) -> pd.DataFrame:
    rows = []
    for i, (each, one) in enumerate(zip(budgets, found, strict=True)):
        inside = draws[:, i][np.isfinite(draws[:, i])] if draws is not None else np.empty(0)
        low, high = np.exp(np.quantile(inside, [0.05, 0.95])) if len(inside) else (np.nan, np.nan)
        log_tokens = np.interp(one.log_params[0], each.log_params, each.log_tokens)
        rows.append(
            {
                "flops": each.flops,
                "params": float(np.exp(one.log_params[0])),
                "tokens": float(np.exp(log_tokens)),
                "loss": float(one.loss[0]),
                "at_edge": bool(one.at_edge[0]),
                "num_points": len(each.rows),
                "low": float(low),
                "high": float(high),
            }
        )
    return pd.DataFrame(rows)


def _about_minima(table: pd.DataFrame, inside: NDArray[np.bool_]) -> tuple[str, ...]:
    edges = ", ".join(f"{flops:.2g}" for flops in table["flops"][~inside])
    if inside.sum() < 2:
        raise ScalingError(
            f"an exponent needs minima at two or more budgets, but {int(inside.sum())} of "
            f"{len(table)} lie inside their sizes (at an edge: {edges} FLOPs); add smaller or "
            "larger sizes there"
        )
    warnings = []
    if edges:
        warnings.append(
            f"the minimum lies at the edge of the sizes at {edges} FLOPs, left out: add smaller or "
            "larger sizes there"
        )
    if inside.sum() == 2:
        warnings.append("two budgets make an exponent without any check; add a third")
    return tuple(warnings)


def _log_std(draws: FloatArray | None, num_budgets: int) -> FloatArray:
    """Return standard deviations of log N_opt, shape (budgets,), for weights only."""
    if draws is None:
        return np.ones(num_budgets)
    known = np.isfinite(draws)
    count = known.sum(axis=0)
    mean = np.where(known, draws, 0.0).sum(axis=0) / np.maximum(count, 1)
    squares = np.where(known, (draws - mean) ** 2, 0.0).sum(axis=0)
    spread = np.sqrt(squares / np.maximum(count - 1, 1))
    # Minima that noise often drives to an edge look sharp, because only the rest is counted.
    spread = spread / np.maximum(count / len(draws), 1e-2)
    middle = float(np.median(spread))
    return np.maximum(spread, 0.1 * middle) if middle > 0 else np.ones(num_budgets)


@dataclass(frozen=True)
class _Scatter:
    """How the minima lie about their line."""

    log_params: FloatArray
    log_std: FloatArray
    """From the noise of runs alone; for weights."""
    excess: float
    """Birge's ratio: observed over expected scatter, at least 1."""


def _scatter(
    flops: FloatArray,
    params: FloatArray,
    fit: PowerFit,
    log_std: FloatArray,
    draws: FloatArray | None,
) -> _Scatter:
    freedom = len(flops) - 2
    excess = 1.0
    if draws is not None and freedom > 0:
        left = np.log(params) - np.log(fit.coefficient) - fit.exponent * np.log(flops)
        excess = max(1.0, float(np.sqrt(np.sum((left / log_std) ** 2) / freedom)))
    return _Scatter(np.log(params), log_std, excess)


def _exponents(
    flops: FloatArray, draws: FloatArray | None, scatter: _Scatter
) -> pd.DataFrame | None:
    """Return `a`, `b` and `k` of each draw that has two or more minima inside.

    Draws are spread about the minima by as much as those scatter more than the noise explains.
    """
    if draws is None:
        return None
    widened = scatter.log_params + scatter.excess * (draws - scatter.log_params)
    known = widened[np.isfinite(widened).sum(axis=1) >= 2]
    weight = np.broadcast_to(scatter.log_std**-2.0, known.shape)
    slope, intercept = regress(np.log(flops), known, weight)
    return pd.DataFrame({"a": slope, "b": 1.0 - slope, "k": np.exp(intercept)})


def _curves(budgets: list[Budget], interpolant: Interpolant) -> pd.DataFrame:
    parts = []
    for each in budgets:
        fine, loss = interpolant.curve(each.log_params, each.loss[None])
        shown = slice(None, None, 5)
        parts.append(
            pd.DataFrame(
                {"flops": each.flops, "params": np.exp(fine[shown]), "loss": loss[0, shown]}
            )
        )
    return pd.concat(parts, ignore_index=True)


def _about_parabola(budgets: list[Budget], table: pd.DataFrame, parabola: Interpolant) -> str:
    """Say how far off parabolas would be on Hoffmann's surface at these very sizes."""
    errors = [
        interpolation_bias(each.log_params - np.log(best), parabola)
        for each, best, edge in zip(budgets, table["params"], table["at_edge"], strict=True)
        if not edge
    ]
    return (
        "parabolas are biased: on a surface without noise (exponents .34 and .28) D_opt would be "
        f"off by {100 * min(errors):+.1f} to {100 * max(errors):+.1f} % at these sizes; a valley "
        "is as steady and has the skew"
    )
