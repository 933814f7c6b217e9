"""How far a prediction may be off if the law is right: noise of the points, and of its parameters.

    sd(log L at z)^2 = s^2 (1 + g(z)' (J' W J)^-1 g(z))        (the delta method)

Notation:
    P   points of the fit        K   parameters of the law
    J   d log L / d log parameter at the points, shape (P, K); g the same at a new place, (Q, K)
    W   weights of the points    s   standard deviation of the points' log residuals

This alone covers too little (the law is never quite right, and rows of one run are not
independent), so it is only the unit in which held-out errors are measured: see conformal.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from service.scaling.joint_fit import JointFit
from service.scaling.joint_laws import PARAM_NAMES
from service.scaling.points import Points

FloatArray = NDArray[np.float64]

STEP = 1e-5
"""Relative step of the central differences; their error is about its square."""
RANK_TOLERANCE = 1e-9
"""Directions of the parameters that move predictions less than this part of the most are unseen."""
OUTLIER_SDS = 5.0
"""Residuals count as at most so many robust standard deviations in s."""
MAD_TO_SD = 1.4826
"""Standard deviation of a normal distribution over its median absolute deviation."""


@dataclass(frozen=True, kw_only=True)
class Spread:
    """The unit of prediction errors of one fit."""

    noise: float
    """s, of log L."""
    root: FloatArray
    """R with R R' = (J' W J)^-1 on the directions that the points see, shape (K, K)."""

    def at(self, jacobian: FloatArray) -> FloatArray:
        """Return the standard deviation of log L at Q places from g, shape (Q, K): shape (Q,)."""
        reach = jacobian @ self.root
        return np.asarray(self.noise * np.sqrt(1.0 + (reach**2).sum(axis=1)), dtype=float)


def spread_of(jacobian: FloatArray, residuals: FloatArray, weight: FloatArray) -> Spread:
    """Return the spread of a fit.

    Args:
        jacobian: J, shape (P, K).
        residuals: log actual - log predicted, shape (P,).
        weight: weights of the points, shape (P,); only their ratios matter.

    """
    num_points, num_params = jacobian.shape
    relative = weight / weight.mean()
    typical = MAD_TO_SD * float(np.median(np.abs(residuals)))
    kept = np.clip(residuals, -OUTLIER_SDS * typical, OUTLIER_SDS * typical)
    free = max(num_points - num_params, 1)
    noise = float(np.sqrt((relative * kept**2).sum() / free))
    _, values, right = np.linalg.svd(jacobian * np.sqrt(relative)[:, None], full_matrices=False)
    seen = values > RANK_TOLERANCE * values[0]
    root = right.T[:, seen] / values[seen]
    # A law that fits exactly still gets a unit, so that scores stay finite.
    return Spread(noise=max(noise, np.finfo(float).eps), root=root)


def log_jacobian(
    log_predict: Callable[[Mapping[str, float]], FloatArray], params: Mapping[str, float]
) -> FloatArray:
    """Return d log L / d log parameter by central differences, shape (Q, K).

    A parameter that is 0 has no effect on a relative step, so its column is 0.
    """
    columns = []
    for name, value in params.items():
        above = log_predict({**params, name: value * (1.0 + STEP)})
        below = log_predict({**params, name: value * (1.0 - STEP)})
        columns.append((above - below) / (2.0 * STEP))
    return np.stack(columns, axis=1)


def joint_jacobian(fit: JointFit, params: ArrayLike, tokens: ArrayLike) -> FloatArray:
    """Return d log L / d log parameter of a joint law at Q places (N, D), shape (Q, K)."""
    free = {name: fit.params[name] for name in PARAM_NAMES[fit.law]}
    sizes, seen = (np.atleast_1d(np.asarray(values, dtype=float)) for values in (params, tokens))
    return log_jacobian(lambda values: np.log(fit.with_params(values).predict(sizes, seen)), free)


def joint_spread(fit: JointFit, points: Points) -> Spread:
    """Return the spread of a joint law fitted to `points`."""
    frame = points.frame
    sizes, tokens = frame["params"].to_numpy(float), frame["tokens"].to_numpy(float)
    residuals = np.log(frame["loss"].to_numpy(float)) - np.log(fit.predict(sizes, tokens))
    return spread_of(joint_jacobian(fit, sizes, tokens), residuals, frame["weight"].to_numpy(float))
