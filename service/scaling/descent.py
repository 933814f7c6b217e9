"""Many Huber fits of a joint law at once: starts, resamples or left-out rows as one batch.

The objective of problem m is sum_i w_mi huber(log L_theta(i) - log L_i), a SUM: divided by the
number of points it is so small that usual tolerances stop long before the optimum.

Each step solves (|H| + mu Q) step = -g, where H is the exact second derivative, Q that of
iteratively re-weighted least squares (Holland and Welsch 1977) and mu the damping, raised on
failure and lowered on success (Levenberg-Marquardt). |H| has the eigenvalues' absolute values, in
the metric of Q. So far from the optimum a step is a damped re-weighted one, which cannot diverge,
and near it Newton's, which needs a handful. With 240 points and 32 starts that is a thousand times
less work than L-BFGS with finite differences from each start.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.scaling.joint_forms import Form
from service.scaling.joint_laws import FloatArray

MAX_STEPS = 300
STATIONARY = 1e-13
"""A problem is solved once a step promises less than this part of the objective."""
_MAX_ELEMENTS = 2_000_000
"""Numbers in one array of a batch; larger batches are cut, so that arrays stay in the cache."""


@dataclass(frozen=True)
class Descent:
    """Where M problems ended."""

    theta: FloatArray
    """Shape (M, K)."""
    objective: FloatArray
    """Shape (M,)."""
    promise: FloatArray
    """What the next step would have gained by the quadratic model, as a part of the objective."""


def huber(residual: FloatArray, weight: FloatArray, delta: float) -> FloatArray:
    """Return the weighted sum over the last axis of Huber's loss (Huber 1964)."""
    size = np.abs(residual)
    near = np.minimum(size, delta)
    return np.asarray((weight * near * (size - 0.5 * near)).sum(axis=-1))


def descend(
    form: Form, log_loss: FloatArray, starts: FloatArray, weight: FloatArray, delta: float
) -> Descent:
    """Minimise M objectives.

    Args:
        form: the law over P points.
        log_loss: observed log L, shape (P,).
        starts: shape (M, K).
        weight: of each point, shape (P,), or of each problem's points, (M, P).
        delta: Huber's threshold, in units of log L.

    Returns:
        The end of each descent, in the order of `starts`.

    """
    at_once = max(1, _MAX_ELEMENTS // (form.num_free * len(log_loss)))
    parts = []
    for first in range(0, len(starts), at_once):
        some = slice(first, first + at_once)
        own = np.broadcast_to(weight, (len(starts), len(log_loss)))[some]
        parts.append(_descend(form, log_loss, starts[some], own, delta))
    return Descent(
        np.concatenate([part.theta for part in parts]),
        np.concatenate([part.objective for part in parts]),
        np.concatenate([part.promise for part in parts]),
    )


def _descend(
    form: Form, observed: FloatArray, starts: FloatArray, weight: FloatArray, delta: float
) -> Descent:
    theta, damping = np.array(starts), np.ones(len(starts))
    predicted, gradient = form.log_loss(theta)
    objective = huber(predicted - observed, weight, delta)
    end = Descent(theta.copy(), objective.copy(), np.full(len(theta), np.inf))
    going: NDArray[np.intp] = np.arange(len(theta))
    for _ in range(MAX_STEPS):
        step, gain = _step(form, theta, predicted, gradient, observed, weight, delta, damping)
        tried = np.clip(theta + step, form.bounds[:, 0], form.bounds[:, 1])
        new_predicted, new_gradient = form.log_loss(tried)
        new_objective = huber(new_predicted - observed, weight, delta)
        better = new_objective < objective  # False for NaN as well
        theta = np.where(better[:, None], tried, theta)
        predicted = np.where(better[:, None], new_predicted, predicted)
        gradient = np.where(better[:, None, None], new_gradient, gradient)
        objective = np.where(better, new_objective, objective)
        end.theta[going], end.objective[going] = theta, objective
        # A perfect fit has objective 0; its promise is 0 as well.
        promise = gain / np.maximum(objective, np.finfo(float).tiny)
        end.promise[going] = promise
        damping = np.maximum(np.where(better, damping / 5.0, damping * 4.0), 1e-8)
        more = (gain > STATIONARY * objective) & (damping < 1e8)
        if not more.any():
            break
        going, theta, damping, weight = going[more], theta[more], damping[more], weight[more]
        predicted, gradient, objective = predicted[more], gradient[more], objective[more]
    return end


def _step(
    form: Form,
    theta: FloatArray,
    predicted: FloatArray,
    gradient: FloatArray,
    observed: FloatArray,
    weight: FloatArray,
    delta: float,
    damping: FloatArray,
) -> tuple[FloatArray, FloatArray]:
    """Return the steps (M, K), and what the undamped quadratic model would gain by one (M,)."""
    residual = predicted - observed
    slope, hessian = derivatives(form, theta, predicted, gradient, residual, weight, delta)
    reweighted = weight * delta / np.maximum(np.abs(residual), delta)
    metric = (gradient * reweighted[:, None]) @ gradient.transpose(0, 2, 1)
    unit = np.sqrt(np.maximum(np.einsum("mkk->mk", metric), np.finfo(float).tiny))
    scale = unit[:, :, None] * unit[:, None, :]
    # Scaled to a unit diagonal; the ridge keeps a direction without any effect solvable.
    root = np.linalg.cholesky(metric / scale + 1e-12 * np.eye(form.num_free))
    inverse_root = np.linalg.inv(root)
    bent = inverse_root @ (hessian / scale) @ inverse_root.transpose(0, 2, 1)
    eigenvalues, vectors = np.linalg.eigh(bent)
    to_own = vectors.transpose(0, 2, 1) @ inverse_root
    own_slope = np.einsum("mjk,mk->mj", to_own, slope / unit)
    own_step = -own_slope / (np.abs(eigenvalues) + damping[:, None])
    gain = (own_slope**2 / np.maximum(np.abs(eigenvalues), 1e-9)).sum(axis=1)
    return np.einsum("mjk,mj->mk", to_own, own_step) / unit, gain


def derivatives(
    form: Form,
    theta: FloatArray,
    predicted: FloatArray,
    gradient: FloatArray,
    residual: FloatArray,
    weight: FloatArray,
    delta: float,
) -> tuple[FloatArray, FloatArray]:
    """Return the objective's gradient (M, K) and its second derivative (M, K, K)."""
    pull = weight * np.clip(residual, -delta, delta)
    near = weight * (np.abs(residual) <= delta)
    slope = np.einsum("mkp,mp->mk", gradient, pull)
    hessian = (gradient * near[:, None]) @ gradient.transpose(0, 2, 1)
    return slope, hessian + form.curvature(theta, predicted, gradient, pull)
