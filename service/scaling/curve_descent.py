"""Huber's loss of a small law minimised from several starts at once (Levenberg-Marquardt).

SciPy's least squares spend nearly all their time on one-by-one finite differences of laws this
small; here the differences of all parameters and all starts are one call.

Notation: M starts, K coordinates, P points; theta (M, K), residuals (M, P).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

FAR = 1e3
"""Residuals beyond this are as bad as this: trial steps may overflow."""
MAX_STEPS = 150
DIFFERENCE = 1e-6
SAME_OBJECTIVE = 1e-7
"""A step that lowers the objective by less than this part of it is the last."""
MAX_DAMPING = 1e8


@dataclass(frozen=True, kw_only=True)
class Descent:
    """Where the best start ended."""

    theta: FloatArray
    """Shape (K,)."""
    objective: float
    """Sum of weight x Huber's loss."""
    converged: bool


def descend_curve(
    residuals: Callable[[FloatArray], FloatArray],
    starts: FloatArray,
    weight: FloatArray,
    delta: float,
) -> Descent:
    """Minimise sum of weight x Huber's loss of the residuals.

    Each step solves the least squares in which a residual r beyond delta weighs delta / |r|: its
    gradient is that of Huber's loss (iteratively reweighted least squares).

    Args:
        residuals: theta (M, K) -> (M, P), within +-`FAR`.
        starts: shape (M, K).
        weight: of the points, shape (P,).
        delta: where Huber's loss turns from square to linear.

    """
    theta = starts.copy()
    num_starts = len(theta)
    damping = np.full(num_starts, 1e-2)
    objective = _huber(residuals(theta), weight, delta)
    running = np.ones(num_starts, bool)
    for _ in range(MAX_STEPS):
        at = np.flatnonzero(running)
        step = _steps(residuals, theta[at], weight, delta, damping[at])
        trial = theta[at] + step
        value = _huber(residuals(trial), weight, delta)
        better = value < objective[at]
        small = value >= objective[at] * (1.0 - SAME_OBJECTIVE)
        theta[at[better]], objective[at[better]] = trial[better], value[better]
        damping[at] = np.where(better, damping[at] / 4.0, damping[at] * 6.0)
        running[at] = ~(better & small) & (damping[at] < MAX_DAMPING) & (objective[at] > 0)
        damping = np.maximum(damping, 1e-9)
        if not running.any():
            break
    best = int(np.argmin(objective))
    return Descent(theta=theta[best], objective=float(objective[best]), converged=not running[best])


def _huber(residual: FloatArray, weight: FloatArray, delta: float) -> FloatArray:
    size = np.abs(residual)
    loss = np.where(size <= delta, size**2 / 2.0, delta * (size - delta / 2.0))
    return np.asarray((weight * loss).sum(axis=1), dtype=float)


def _steps(
    residuals: Callable[[FloatArray], FloatArray],
    theta: FloatArray,
    weight: FloatArray,
    delta: float,
    damping: FloatArray,
) -> FloatArray:
    """Return one damped step per start, shape (M, K)."""
    num_starts, num_free = theta.shape
    shifted = np.repeat(theta[:, None, :], num_free + 1, axis=1)
    shifted[:, range(1, num_free + 1), range(num_free)] += DIFFERENCE
    around = residuals(shifted.reshape(-1, num_free)).reshape(num_starts, num_free + 1, -1)
    now = around[:, 0]
    jacobian = (around[:, 1:] - now[:, None]) / DIFFERENCE  # (M, K, P)
    reweighted = weight * np.minimum(1.0, delta / np.maximum(np.abs(now), 1e-300))
    normal = (jacobian * reweighted[:, None]) @ jacobian.transpose(0, 2, 1)
    gradient = ((reweighted * now)[:, None] @ jacobian.transpose(0, 2, 1))[:, 0]
    diagonal = np.einsum("mkk->mk", normal)
    # A direction without effect (a limit of nearly 0) still needs a number to divide by.
    floor = 1e-12 * diagonal.max(axis=1, keepdims=True) + 1e-300
    damped = normal + np.eye(num_free) * (damping[:, None] * diagonal + floor)[:, :, None]
    step = np.linalg.solve(damped, -gradient[:, :, None])[:, :, 0]
    return np.asarray(np.clip(step, -5.0, 5.0), dtype=float)
