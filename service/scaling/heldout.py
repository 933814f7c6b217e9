"""Rolling origin: fit below a budget, predict above it, and see how far off that was.

Larger budgets are held out, never rows at random: a study is asked about budgets beyond its data,
and rows at random would be predicted by their neighbours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

from service.scaling.joint_fit import JointFit
from service.scaling.points import Points
from service.scaling.spread import joint_jacobian, joint_spread
from trainers.errors import ScalingError

FloatArray = NDArray[np.float64]

MAX_CUTS = 8
MIN_TRAIN_POINTS = 8
MIN_TRAIN_SHARE = 0.2
"""A cut keeps at least so many points, and this share of all, below it."""
SAME_BUDGET = 1.02
"""Budgets within this factor are one budget: runs end where a batch ends."""


class Predictor(Protocol):
    """What a fit must offer to be judged on held-out budgets; `JointFit` does."""

    def predict(self, params: ArrayLike, tokens: ArrayLike, /) -> FloatArray:
        """Return the loss at N and D, shape (Q,)."""
        ...


@dataclass(frozen=True, kw_only=True)
class Heldout:
    """Errors on what was held out."""

    errors: pd.DataFrame
    """One row per cut and held-out point. Columns: `cut` (the largest budget fitted, FLOP),
    `flops`, `actual`, `predicted`, `naive`, `log_error` (ln actual - ln predicted),
    `naive_log_error`, `distance` (decades of FLOP beyond the cut), `spread` (the law's own standard
    deviation of ln L there; NaN where it has none); from joint laws also `run`, `params`,
    `tokens`, `source_line`."""
    notes: tuple[str, ...] = ()

    @property
    def rmse(self) -> float:
        """Root mean square of `log_error`: 0.01 is about 1 % of the loss."""
        return _rms(self.errors["log_error"])

    @property
    def naive_rmse(self) -> float:
        """Root mean square of the naive baseline's `log_error`, on the same points."""
        return _rms(self.errors["naive_log_error"])

    @property
    def num_cuts(self) -> int:
        """How often larger budgets were held out."""
        return int(self.errors["cut"].nunique())

    def by_cut(self) -> pd.DataFrame:
        """Return `cut`, `num_heldout`, `rmse` and `naive_rmse`, one row per cut."""
        rows = [
            {
                "cut": cut,
                "num_heldout": len(rows),
                "rmse": _rms(rows["log_error"]),
                "naive_rmse": _rms(rows["naive_log_error"]),
            }
            for cut, rows in self.errors.groupby("cut")
        ]
        return pd.DataFrame(rows)


def rolling_origin(
    points: Points, fit: Callable[[Points], Predictor], *, min_cuts: int = 2
) -> Heldout:
    """Fit below each of several budgets and predict every point above it.

    The naive baseline carries the nearest known point forward: the loss of the fitted point that
    is nearest in log N and log D.

    Args:
        points: of one recipe.
        fit: makes a law of the points below a cut; where it raises ScalingError the cut is left
            out and noted.
        min_cuts: fewer cuts than this are refused.

    Raises:
        ScalingError: if fewer than `min_cuts` cuts can be made and fitted.

    """
    flops = points.frame["flops"].to_numpy(float)
    parts: list[pd.DataFrame] = []
    reasons: list[str] = []
    for cut in budget_cuts(flops):
        below, above = points.where(flops <= cut), points.where(flops > cut)
        try:
            law = fit(below)
        except ScalingError as error:
            reasons.append(f"not fitted below {cut:.3g} FLOP: {error}")
            continue
        parts.append(_errors(law, below, above, cut))
    if len(parts) < min_cuts:
        reason = f" ({reasons[-1]})" if reasons else ""
        raise ScalingError(
            f"holding larger budgets out needs at least {min_cuts} cuts with {MIN_TRAIN_POINTS} "
            f"points below, but the {len(points)} points allow {len(parts)}{reason}; add budgets"
        )
    return Heldout(errors=pd.concat(parts, ignore_index=True), notes=tuple(reasons))


def budget_cuts(values: FloatArray) -> list[float]:
    """Return the budgets after which to cut, ascending: at most `MAX_CUTS`, evenly in log C.

    Args:
        values: C of each point (or another size, > 0), shape (P,).

    """
    ordered = np.sort(values)
    lasts = []
    at = 0
    while at < len(ordered):
        # Counted from a budget's smallest run, so that a continuum of budgets is cut as well.
        at = int(np.searchsorted(ordered, SAME_BUDGET * ordered[at], side="right"))
        lasts.append(at - 1)
    enough = max(MIN_TRAIN_POINTS, MIN_TRAIN_SHARE * len(ordered))
    candidates = ordered[[last for last in lasts[:-1] if last + 1 >= enough]]
    if len(candidates) <= MAX_CUTS:
        return [float(cut) for cut in candidates]
    wanted = np.linspace(np.log(candidates[0]), np.log(candidates[-1]), MAX_CUTS)
    nearest = np.abs(np.log(candidates)[None, :] - wanted[:, None]).argmin(axis=1)
    return [float(cut) for cut in candidates[np.unique(nearest)]]


def _errors(law: Predictor, below: Points, above: Points, cut: float) -> pd.DataFrame:
    table = above.frame[["run", "source_line", "params", "tokens", "flops"]].copy()
    sizes, tokens = table["params"].to_numpy(float), table["tokens"].to_numpy(float)
    actual = above.frame["loss"].to_numpy(float)
    spread = np.full(len(table), np.nan)
    if isinstance(law, JointFit):
        spread = joint_spread(law, below).at(joint_jacobian(law, sizes, tokens))
    return with_errors(
        table,
        cut=cut,
        actual=actual,
        predicted=law.predict(sizes, tokens),
        naive=_nearest_loss(below, sizes, tokens),
        distance=np.log10(table["flops"].to_numpy(float) / cut),
        spread=spread,
    )


def with_errors(
    table: pd.DataFrame,
    *,
    cut: float,
    actual: FloatArray,
    predicted: FloatArray,
    naive: FloatArray,
    distance: FloatArray,
    spread: FloatArray,
) -> pd.DataFrame:
    """Return `table` with the columns that `Heldout.errors` has for one cut."""
    return table.assign(
        cut=cut,
        actual=actual,
        predicted=predicted,
        naive=naive,
        log_error=np.log(actual) - np.log(predicted),
        naive_log_error=np.log(actual) - np.log(naive),
        distance=distance,
        spread=spread,
    )


def _nearest_loss(below: Points, params: FloatArray, tokens: FloatArray) -> FloatArray:
    """Return the loss of the fitted point nearest to each (N, D) in log N and log D."""
    known = np.log(below.frame[["params", "tokens"]].to_numpy(float))
    loss = below.frame["loss"].to_numpy(float)
    _, nearest = cKDTree(known).query(np.log(np.stack([params, tokens], axis=1)))
    return np.asarray(loss[nearest], dtype=float)


def _rms(values: pd.Series) -> float:
    return float(np.sqrt(np.mean(np.square(values.to_numpy(float)))))
