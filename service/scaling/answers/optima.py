"""Compute-optimal points of a law and of its bootstrap draws.

Notation: C budget in FLOP, N parameters, D tokens, L loss; B budgets, R draws.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from service.scaling.joint_fit import JointFit
from service.scaling.joint_laws import best_params, predict_loss
from trainers.errors import ScalingError

MAX_DRAWS = 400
"""Draws used for bands; more change an interval's end by less than its own noise."""


@dataclass(frozen=True, kw_only=True)
class Draws:
    """Optima of the bootstrap draws that have one: arrays of shape (R, B)."""

    params: np.ndarray
    tokens: np.ndarray
    loss: np.ndarray

    def interval(self, values: np.ndarray, confidence: float) -> tuple[np.ndarray, np.ndarray]:
        """Return low and high ends over draws, shape (B,) each, of values of shape (R, B)."""
        tail = 50.0 * (1.0 - confidence)
        low, high = np.percentile(values, [tail, 100.0 - tail], axis=0)
        return low, high


def drawn_optima(fit: JointFit, flops: np.ndarray, flops_per_param_token: float) -> Draws | None:
    """Return the optima of each bootstrap draw; None if the fit has no bootstrap."""
    if fit.bootstrap is None or fit.bootstrap.empty:
        return None
    found = []
    for row in fit.bootstrap.head(MAX_DRAWS).to_dict("records"):
        draw = {str(name): float(value) for name, value in row.items()}
        try:
            params = best_params(fit.law, draw, flops, flops_per_param_token)
        except ScalingError:
            continue  # a draw whose loss does not fall with size or data has no optimum
        tokens = flops / (flops_per_param_token * params)
        found.append((params, tokens, predict_loss(fit.law, draw, params, tokens)))
    if not found:
        return None
    params_RB, tokens_RB, loss_RB = (np.array(column) for column in zip(*found, strict=True))
    return Draws(params=params_RB, tokens=tokens_RB, loss=loss_RB)


def frontier_loss(fit: JointFit, flops: np.ndarray, flops_per_param_token: float) -> np.ndarray:
    """Return the loss of the best size at each budget, shape (B,)."""
    return fit.optimum(flops, flops_per_param_token)["loss"].to_numpy(float)


def budget_for_loss(
    fit: JointFit, loss: float, flops_per_param_token: float, *, near: float
) -> float:
    """Return the budget at which the frontier reaches `loss`, by bisection in log C.

    Args:
        fit: the law.
        loss: what to reach.
        flops_per_param_token: k in C = k N D.
        near: a budget to start from; 40 decades on both sides are searched.

    Returns:
        FLOP; infinite where no budget reaches it, 0 where every budget does.

    """
    low, high = np.log10(near) - 40.0, np.log10(near) + 40.0
    ends = frontier_loss(fit, np.array([10.0**low, 10.0**high]), flops_per_param_token)
    if ends[1] > loss:
        return float("inf")
    if ends[0] < loss:
        return 0.0
    for _ in range(60):  # 80 decades / 2^60 is below a float's own step
        middle = 0.5 * (low + high)
        if frontier_loss(fit, np.array([10.0**middle]), flops_per_param_token)[0] > loss:
            low = middle
        else:
            high = middle
    return float(10.0 ** (0.5 * (low + high)))
