"""Which runs to add: where the same compute shrinks the prediction interval at a target most.

For a law with Jacobian J at its points, k more runs at a place with gradient g change the variance
of the prediction at the target, in units of the noise, from v = t' M t to

    v - k (t' M g)^2 / (1 + k g' M g)        with M = (J' W J)^-1

(Sherman and Morrison 1950; the c-optimal design criterion, Pukelsheim 1993, chapter 2). It assumes
that the law holds; places where that is least sure, the largest budgets, deserve a run anyway.

Notation: t, g gradients of ln L by the logarithms of the parameters; K parameters, Q places.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import norm

from service.report.numbers import percent
from service.scaling.answers.result import Answer, budgets_array, extrapolation_warnings
from service.scaling.conformal import Conformal
from service.scaling.joint_fit import JointFit
from service.scaling.points import Points
from service.scaling.spread import FloatArray, joint_jacobian, joint_spread

TARGET_TIMES = 10.0
"""By default the target is so many times the largest budget of the data."""
SIZES = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Candidates' N over the best N of their budget."""
NUM_BUDGETS = 6
WORTH_SAYING = 0.02
MAX_REPEATS = 5
"""More seeds at one place would teach about noise what other places teach about the law too."""
_COLUMNS = ("params", "tokens", "flops", "times_best_size", "runs", "spent_flops",
            "half_width_before", "half_width_after", "shrinkage", "shrinkage_per_flop")  # fmt: skip


def next_runs(
    fit: JointFit,
    points: Points,
    *,
    conformal: Conformal | None = None,
    confidence: float = 0.9,
    target_flops: float | None = None,
    spend_flops: float | None = None,
) -> Answer:
    """Rank candidate runs by how much the same compute shrinks the interval at a target budget.

    Candidates lie between the median and the largest budget of the data, at a quarter to four times
    the best size there; each gets as many runs (at most five seeds) as `spend_flops` pays for.

    Args:
        fit: the joint law.
        points: what it was fitted to.
        conformal: whose multiplier the interval has; None: a normal distribution's.
        confidence: of the interval, where there is no `conformal`.
        target_flops: the budget to predict, at its best size; ten times the largest by default.
        spend_flops: compute to spend; the largest budget of the data by default.

    Returns:
        One row per candidate, best first: `params`, `tokens`, `flops` (of one run),
        `times_best_size`, `runs`, `spent_flops`, `half_width_before` and `half_width_after` (of
        ln L at the target), `shrinkage` (the share of the half width that goes) and
        `shrinkage_per_flop`.

    Raises:
        ConfigError: if a budget is no positive, finite number.
        ScalingError: if the law has no best size at a budget.

    """
    largest = float(points.frame["flops"].max())
    target = budgets_array(TARGET_TIMES * largest if target_flops is None else target_flops,
                           "the target budget")  # fmt: skip
    spend = budgets_array(largest if spend_flops is None else spend_flops, "what to spend")[0]
    k = points.flops_per_param_token
    candidates = _candidates(fit, points, spend)
    spread = joint_spread(fit, points)
    best = fit.optimum(target, k)
    to = joint_jacobian(fit, best["params"], best["tokens"]) @ spread.root
    at = joint_jacobian(fit, candidates["params"], candidates["tokens"]) @ spread.root
    unit = spread.noise * (
        conformal.multiplier if conformal is not None else float(norm.ppf(0.5 + confidence / 2.0))
    )
    before, after = _variances(to[0], at, candidates["runs"].to_numpy(float))
    candidates["half_width_before"] = unit * np.sqrt(1.0 + before)
    candidates["half_width_after"] = unit * np.sqrt(1.0 + after)
    candidates["shrinkage"] = 1.0 - candidates["half_width_after"] / candidates["half_width_before"]
    candidates["shrinkage_per_flop"] = candidates["shrinkage"] / candidates["spent_flops"]
    frame = candidates.sort_values("shrinkage", ascending=False, kind="stable", ignore_index=True)
    frame = frame[list(_COLUMNS)]
    return Answer(
        frame=frame,
        sentence=_sentence(frame.iloc[0].to_dict(), float(target[0])),
        warnings=extrapolation_warnings(target, largest),
    )


def _candidates(fit: JointFit, points: Points, spend: float) -> pd.DataFrame:
    """Return places (N, D) that `spend` pays for at least once; the largest affordable if none."""
    flops = points.frame["flops"].to_numpy(float)
    top = min(float(flops.max()), spend)
    low = min(float(np.median(flops)), top)
    budgets = np.unique(np.geomspace(low, top, NUM_BUDGETS))
    best = fit.optimum(budgets, points.flops_per_param_token)
    rows = [
        {
            "params": row["params"] * times,
            "tokens": row["tokens"] / times,
            "flops": row["flops"],
            "times_best_size": times,
            "runs": int(np.clip(spend / row["flops"] * (1.0 + 1e-9), 1, MAX_REPEATS)),
        }
        for row in best.to_dict("records")
        for times in SIZES
    ]
    table = pd.DataFrame(rows)
    return table.assign(spent_flops=table["runs"] * table["flops"])


def _variances(to: FloatArray, at: FloatArray, runs: FloatArray) -> tuple[float, FloatArray]:
    """Return the variance at the target before and after, in units of the noise's.

    Args:
        to: t R with R R' = M, shape (K,).
        at: g R, shape (Q, K).
        runs: k, shape (Q,).

    """
    before = float(to @ to)
    shared = (at @ to) ** 2
    return before, before - runs * shared / (1.0 + runs * (at**2).sum(axis=1))


def _sentence(best: dict[Any, Any], target: float) -> str:
    runs = f"{best['runs']:.0f} runs" if best["runs"] > 1 else "a run"
    what = (
        f"{runs} of {best['params']:.3g} parameters on {best['tokens']:.3g} tokens "
        f"({best['spent_flops']:.2g} FLOP in all) would narrow the interval at {target:.2g} FLOP "
        f"most, by {percent(best['shrinkage'])}: from +-{percent(best['half_width_before'], 3)} to "
        f"+-{percent(best['half_width_after'], 3)} of the loss, if the law holds"
    )
    if best["shrinkage"] < WORTH_SAYING:
        return f"{what}; nearly all of the interval is noise between runs, which none removes"
    return what
