"""The best value of one hyperparameter at each size and budget, from tuning already paid for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from trainers.errors import ScalingError, nearest

FloatArray = NDArray[np.float64]

MIN_VALUES = 3
"""Different values that a parabola needs."""
LOCAL_VALUES = 5
"""The parabola is fitted to so many values around the best: far out, losses are no parabola."""
COLUMNS = ("params", "flops", "value", "best_tried", "loss", "curvature", "at_edge", "num_trials",
           "num_diverged")  # fmt: skip


def tuned_optima(
    trials: pd.DataFrame,
    path: str,
    *,
    others: Sequence[str] = (),
    budget: str = "budget_flops",
) -> pd.DataFrame:
    """Find the best value of `path` at each size and budget.

    ln loss is fitted by a parabola in ln value through the (at most five) values nearest to the
    best one tried. Its vertex is the optimum where it lies between the neighbours of the best; else
    the best value tried is. It is at an edge where nothing was tried beyond it on one side; values
    that diverged count as tried.

    Args:
        trials: one row per tuning trial: `params` N, `budget`, `loss` (not finite: diverged) and
            `path`.
        path: the hyperparameter, e.g. `optimizer.lr`; positive numbers.
        others: other tuned paths. Trials that share the best trial's values of these are used
            alone where they are enough.
        budget: the column of the budget in FLOP.

    Returns:
        One row per size and budget with three or more finite values: `params`, `flops`, `value`,
        `best_tried`, `loss` (of the best tried), `curvature` (of ln loss over ln value; NaN
        without a vertex), `at_edge` ("low", "high" or ""), `num_trials`, `num_diverged`.

    Raises:
        ScalingError: if a column is missing, or values are no positive numbers.

    """
    for column in ("params", budget, "loss", path, *others):
        if column not in trials:
            names = [str(name) for name in trials.columns]
            raise ScalingError(f"tuning trials have no column `{column}`{nearest(column, names)}")
    tried = trials[trials[path].notna()].reset_index(drop=True)
    values = pd.to_numeric(tried[path], errors="coerce").to_numpy(float)
    if not ((values > 0) & np.isfinite(values)).all():
        bad = tried[path][~((values > 0) & np.isfinite(values))].iloc[0]
        raise ScalingError(
            f"a law of `{path}` needs positive numbers, but a trial has {bad!r}; a law is made of "
            "numeric settings only"
        )
    rows = [
        {
            "params": float(group["params"].iloc[0]),
            "flops": float(group[budget].iloc[0]),
            **found,
        }
        for _, group in tried.groupby(["params", budget])
        for found in [_optimum(group, path, others)]
        if found is not None
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _optimum(group: pd.DataFrame, path: str, others: Sequence[str]) -> dict[str, Any] | None:
    finite = group[np.isfinite(group["loss"].astype(float))]
    if finite[path].nunique() < MIN_VALUES:
        return None
    best = finite.iloc[int(finite["loss"].to_numpy(float).argmin())]
    alike = finite
    for other in others:
        alike = alike[alike[other].eq(best[other])]
    if alike[path].nunique() >= MIN_VALUES:
        finite = alike
    # Seeds and other settings aside, a value is as good as its best trial.
    lowest = finite.groupby(finite[path].astype(float))["loss"].min()
    log_value = np.log(lowest.index.to_numpy(float))
    log_loss = np.log(lowest.to_numpy(float))
    at = int(np.argmin(log_loss))
    tried = np.log(group[path].astype(float).to_numpy())
    value, curvature = _vertex(log_value, log_loss, at)
    return {
        "value": float(np.exp(value)),
        "best_tried": float(np.exp(log_value[at])),
        "loss": float(np.exp(log_loss[at])),
        "curvature": curvature,
        "at_edge": _edge(tried, log_value[at]),
        "num_trials": len(group),
        "num_diverged": int((~np.isfinite(group["loss"].astype(float))).sum()),
    }


def _vertex(log_value: FloatArray, log_loss: FloatArray, at: int) -> tuple[float, float]:
    """Return ln of the optimum and the curvature there; the best tried and NaN without a vertex."""
    near = np.argsort(np.abs(log_value - log_value[at]), kind="stable")[:LOCAL_VALUES]
    x = log_value[near] - log_value[at]
    bend, slope, _ = np.polyfit(x, log_loss[near], 2)
    low = log_value[max(at - 1, 0)] - log_value[at]
    high = log_value[min(at + 1, len(log_value) - 1)] - log_value[at]
    if bend > 0 and low <= -slope / (2.0 * bend) <= high:
        return float(log_value[at] - slope / (2.0 * bend)), float(2.0 * bend)
    return float(log_value[at]), float("nan")


def _edge(tried: FloatArray, best: float) -> str:
    if not (tried < best - 1e-12).any():
        return "low"
    return "" if (tried > best + 1e-12).any() else "high"
