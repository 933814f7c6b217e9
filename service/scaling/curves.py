"""Fit a law of one variable: learning curves, frontiers, throughput over workers, Elo over GPUs.

Residuals are of ln y where y is positive and falls (losses differ by factors), else of y over its
standard deviation (Elo and accuracy differ by points). They are weighed by Huber's loss with
delta = 1.345 robust standard deviations (Huber 1981, section 4.5: 95 % as efficient as least
squares on normal errors), so that a spike does not bend the curve.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from service.scaling.curve_descent import FAR, MAX_STEPS, descend_curve
from service.scaling.curve_forms import (
    BrokenPower,
    CurveForm,
    FloatArray,
    Power,
    PowerConstant,
    Saturating,
    ShiftedPower,
)
from trainers.errors import ScalingError, nearest

CURVE_LAWS = (
    "last_value",
    "power",
    "power_constant",
    "shifted_power",
    "saturating",
    "broken_power",
)
"""From the simplest; `last_value` carries the value at the largest x forward."""
MAX_BREAKS = 3
HUBER_SDS = 1.345
MAD_TO_SD = 1.4826
POLISHED_STARTS = 6
_POSITIVE_ONLY = ("power", "shifted_power")


@dataclass(frozen=True, kw_only=True)
class CurveFit:
    """A fitted law of one variable."""

    law: str
    """One of `CURVE_LAWS`."""
    params: Mapping[str, float]
    """Its parameters; `curve_forms` has the formulas."""
    increasing: bool
    breaks: int
    """Of `broken_power`; else 0."""
    scale: Literal["log", "linear"]
    """Whether residuals were of ln y, or of y over its standard deviation."""
    objective: float
    """Sum of Huber's loss over the points, in units of the residuals' scale."""
    noise: float
    """Robust standard deviation of the residuals, of ln y or of y."""
    num_points: int
    warnings: tuple[str, ...]

    def predict(self, x: ArrayLike) -> FloatArray:
        """Return y at x, as `x` is shaped."""
        places = np.asarray(x, dtype=float)
        if self.law == "last_value":
            return np.full_like(places, self.params["value"])
        form = _form(self.law, self.increasing, self.scale == "linear", self.breaks)
        return form.value(self.params, places)

    def with_params(self, params: Mapping[str, float]) -> CurveFit:
        """Return the same law with other parameters."""
        return replace(self, params=dict(params))

    def gain_per_doubling(self, x: ArrayLike) -> FloatArray:
        """Return y(2x) - y(x)."""
        places = np.asarray(x, dtype=float)
        return self.predict(2.0 * places) - self.predict(places)

    def to_mapping(self) -> dict[str, Any]:
        """Return what a machine-readable report holds."""
        return {
            "law": self.law,
            "params": dict(self.params),
            "increasing": self.increasing,
            "breaks": self.breaks,
            "scale": self.scale,
            "objective": self.objective,
            "noise": self.noise,
            "num_points": self.num_points,
            "warnings": list(self.warnings),
        }


def fit_curve(
    x: ArrayLike,
    y: ArrayLike,
    law: str,
    *,
    increasing: bool = False,
    weights: ArrayLike | None = None,
    breaks: int = 1,
) -> CurveFit:
    """Fit one law to P points.

    Args:
        x: size, compute, workers; positive, shape (P,), in any order.
        y: what is measured there, shape (P,).
        law: one of `CURVE_LAWS`.
        increasing: whether y is better, and rises, with x (Elo, accuracy, throughput).
        weights: positive weights of the points, shape (P,).
        breaks: how many breaks `broken_power` has; `choose_law` chooses it by held-out error.

    Raises:
        ScalingError: if the law is unknown (the nearest is named), values are not finite or x or
            weights not positive, the points have fewer different x than the law has parameters,
            or the law is positive and y is not.

    """
    sizes, values, weight = checked_curve(x, y, weights)
    check_curve_law(law)
    if not 1 <= breaks <= MAX_BREAKS:
        raise ScalingError(f"breaks must be 1 to {MAX_BREAKS}, got {breaks}")
    positive = bool((values > 0).all())
    scale: Literal["log", "linear"] = "log" if positive and not increasing else "linear"
    plain = CurveFit(
        law=law,
        params={},
        increasing=increasing,
        breaks=breaks if law == "broken_power" else 0,
        scale=scale,
        objective=0.0,
        noise=0.0,
        num_points=len(sizes),
        warnings=(),
    )
    if law == "last_value":
        return replace(plain, params={"value": _last_value(sizes, values, weight)})
    form = _form(
        law, increasing, scale == "linear", breaks, reach=float(np.log(sizes[-1] / sizes[0])) / 2
    )
    if law in _POSITIVE_ONLY and not positive:
        raise ScalingError(
            f"the law `{law}` is positive everywhere, but the least y is {values.min():.4g}; fit "
            "`power_constant`"
        )
    distinct = len(np.unique(sizes))
    if distinct < len(form.names):
        raise ScalingError(
            f"the law `{law}` has {len(form.names)} parameters, but the points have {distinct} "
            "different x; add points, or fit a simpler law"
        )
    return _solved(plain, form, sizes, values, weight)


def check_curve_law(law: str) -> None:
    """Raise ScalingError, naming the nearest, unless `law` is one of `CURVE_LAWS`."""
    if law not in CURVE_LAWS:
        raise ScalingError(
            f"a law of one variable must be one of {', '.join(CURVE_LAWS)}, got `{law}`"
            f"{nearest(law, CURVE_LAWS)}"
        )


def num_curve_params(law: str, breaks: int = 1) -> int:
    """Return how many parameters are fitted; carrying the last value forward fits none."""
    return 0 if law == "last_value" else len(_form(law, False, False, breaks).names)


def checked_curve(
    x: ArrayLike, y: ArrayLike, weights: ArrayLike | None
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return x, y and weights as arrays of shape (P,), ordered by x.

    Raises:
        ScalingError: as `fit_curve` says of values.

    """
    sizes, values = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    weight = np.ones_like(sizes) if weights is None else np.asarray(weights, dtype=float)
    if sizes.ndim != 1 or sizes.shape != values.shape or sizes.shape != weight.shape:
        raise ScalingError(
            "x, y and weights need one value per point each, but have the shapes "
            f"{sizes.shape}, {values.shape} and {weight.shape}"
        )
    if not len(sizes):
        raise ScalingError("a curve needs at least one point, but there is none")
    for name, column, low in (("x", sizes, 0.0), ("y", values, -np.inf), ("weights", weight, 0.0)):
        bad = ~(np.isfinite(column) & (column > low))
        if bad.any():
            rule = "finite" if low < 0 else "positive and finite"
            raise ScalingError(
                f"{name} must be {rule}, but {int(bad.sum())} of {len(column)} values are not "
                f"(first: {column[bad][0]} at position {int(np.argmax(bad))}); leave them out"
            )
    order = np.argsort(sizes, kind="stable")
    return sizes[order], values[order], weight[order]


def gains_per_doubling(x: ArrayLike, y: ArrayLike) -> pd.DataFrame:
    """Return what was measured between neighbouring x, per doubling of x.

    Values at equal x are averaged.

    Returns:
        Columns `x_from`, `x_to`, `gain` (y_to - y_from), `doublings` (log2 of the ratio of x) and
        `gain_per_doubling`.

    Raises:
        ScalingError: if x is not positive, or a value not finite.

    """
    sizes, values, _ = checked_curve(x, y, None)
    means = pd.Series(values).groupby(sizes).mean()
    places = means.index.to_numpy(float)
    gain, doublings = np.diff(means.to_numpy(float)), np.diff(np.log2(places))
    return pd.DataFrame(
        {
            "x_from": places[:-1],
            "x_to": places[1:],
            "gain": gain,
            "doublings": doublings,
            "gain_per_doubling": gain / doublings,
        }
    )


def _form(law: str, increasing: bool, signed: bool, breaks: int, reach: float = 0.0) -> CurveForm:
    match law:
        case "power":
            return Power(increasing)
        case "shifted_power":
            return ShiftedPower(increasing)
        case "power_constant":
            return PowerConstant(increasing, signed)
        case "saturating":
            return Saturating(increasing, signed)
    return BrokenPower(breaks, signed, reach)


def _last_value(x: FloatArray, y: FloatArray, weight: FloatArray) -> float:
    last = x == x[-1]
    return float(np.average(y[last], weights=weight[last]))


def _solved(
    plain: CurveFit, form: CurveForm, x: FloatArray, y: FloatArray, weight: FloatArray
) -> CurveFit:
    """Minimise Huber's loss from the best starts, over scaled x and y."""
    x_unit = float(np.sqrt(x[0] * x[-1]))
    y_unit = float(np.median(np.abs(y))) or 1.0
    u, v = x / x_unit, y / y_unit
    weight = weight / weight.mean()
    unit = (float(np.std(v)) or 1.0) if plain.scale == "linear" else 1.0

    def residuals(theta: FloatArray) -> FloatArray:
        value = form.value(form.params(theta), u)
        if plain.scale == "linear":
            miss = (value - v) / unit
        else:
            miss = np.log(np.maximum(value, 1e-300)) - np.log(v)
        return np.nan_to_num(np.clip(miss, -FAR, FAR), nan=FAR)

    starts = np.array([theta for theta in form.starts(u, v) if np.isfinite(theta).all()])
    order = np.argsort((weight * residuals(starts) ** 2).sum(axis=1), kind="stable")
    starts = starts[order[:POLISHED_STARTS]]
    rough = descend_curve(residuals, starts, weight, delta=FAR)
    typical = _robust_sd(residuals(rough.theta[None])[0])
    starts = np.concatenate([rough.theta[None], starts[1:]])
    best = descend_curve(residuals, starts, weight, delta=max(HUBER_SDS * typical, 1e-9))
    params = {
        name: float(np.squeeze(value)) for name, value in form.params(best.theta[None]).items()
    }
    noise = _robust_sd(residuals(best.theta[None])[0]) * unit
    return replace(
        plain,
        params=form.rescaled(params, x_unit, y_unit),
        objective=best.objective,
        noise=noise * (y_unit if plain.scale == "linear" else 1.0),
        warnings=_warnings(best.converged, plain.law, form.value(params, u), noise),
    )


def _robust_sd(residuals: FloatArray) -> float:
    return MAD_TO_SD * float(np.median(np.abs(residuals)))


def _warnings(converged: bool, law: str, value: FloatArray, noise: float) -> tuple[str, ...]:
    told = []
    if not converged:
        told.append(f"the fit of `{law}` still improved after {MAX_STEPS} steps")
    if float(np.ptp(value)) <= noise:
        told.append(f"the fit of `{law}` is flat: y does not change with x beyond its noise")
    return tuple(told)
