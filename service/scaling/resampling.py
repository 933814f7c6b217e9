"""Bootstrap of a joint fit over runs, and how its estimates hang together.

Rows of one run (a curve's epochs, the cool-downs of one trunk) are correlated, so whole runs are
drawn (the cluster bootstrap); drawing rows would make intervals too narrow.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from service.scaling.descent import derivatives, descend
from service.scaling.design import Design
from service.scaling.joint_forms import Form
from service.scaling.joint_laws import PARAM_NAMES, FloatArray

ONE_STEP_POINTS = 5_000
"""From so many points on, each resample takes one Newton step instead of a whole descent."""
_MAX_ELEMENTS = 4_000_000
"""Numbers in one array of the one-step bootstrap."""
EXPONENTS = ("alpha", "beta")


def draw_weights(design: Design, num: int, rng: np.random.Generator) -> FloatArray:
    """Return the points' weights in `num` resamples of the runs, shape (num, P)."""
    num_runs = design.num_runs
    drawn = rng.integers(num_runs, size=(num, num_runs))
    counts = np.stack([np.bincount(row, minlength=num_runs) for row in drawn])
    return np.asarray(counts[:, design.run] * design.weight, dtype=float)


def bootstrap_thetas(
    form: Form, design: Design, theta: FloatArray, delta: float, num: int, seed: int
) -> FloatArray:
    """Return the law's coordinates in `num` resamples, shape (num, K).

    All start at the fit itself: on the Chinchilla points intervals are the same as with 21 starts
    each. With `ONE_STEP_POINTS` or more points each takes one Newton step, whose error is of the
    order of 1 / P.
    """
    rng = np.random.default_rng(seed)
    if design.num_points < ONE_STEP_POINTS:
        weights = draw_weights(design, num, rng)
        starts = np.repeat(theta[None], num, axis=0)
        return descend(form, design.log_loss, starts, weights, delta).theta
    predicted, gradient = form.log_loss(theta[None])
    residual = predicted - design.log_loss
    at_once = max(1, _MAX_ELEMENTS // gradient.size)
    thetas = []
    for first in range(0, num, at_once):
        weights = draw_weights(design, min(at_once, num - first), rng)
        slope, hessian = derivatives(
            form, theta[None], predicted, gradient, residual, weights, delta
        )
        thetas.append(theta - np.linalg.solve(hessian, slope[..., None])[..., 0])
    return np.concatenate(thetas)


def as_frame(law: str, values: dict[str, FloatArray]) -> pd.DataFrame:
    """Return resampled parameters, with the exponents `a` and `b`, one row each."""
    frame = pd.DataFrame({name: values[name] for name in PARAM_NAMES[law]})
    share = frame["beta"] / (frame["alpha"] + frame["beta"])
    return frame.assign(a=share, b=1.0 - share)


def correlations_of(frame: pd.DataFrame, law: str) -> pd.DataFrame:
    """Return correlations between estimates over resamples, scales as logarithms."""
    names = PARAM_NAMES[law]
    with np.errstate(divide="ignore", invalid="ignore"):
        columns = {
            label(name): frame[name] if name in EXPONENTS else np.log(frame[name]) for name in names
        }
        return pd.DataFrame(columns).replace([np.inf, -np.inf], np.nan).corr()


def label(name: str) -> str:
    """Return a parameter's name in a table of correlations: scales spread multiplicatively."""
    return name if name in EXPONENTS else f"log_{name}"


def linear_correlations(form: Form, law: str, theta: FloatArray, design: Design) -> pd.DataFrame:
    """Return correlations between estimates by the linearised fit, scales as logarithms.

    The covariance of least squares is (J' W J)^-1 with J the slopes of log L; reported parameters
    follow from the coordinates by their own slopes, taken by central differences.
    """
    _, gradient = form.log_loss(theta[None])
    slopes = gradient[0]
    unit = np.sqrt(np.maximum((slopes**2 * design.weight).sum(axis=1), np.finfo(float).tiny))
    metric = (slopes * design.weight) @ slopes.T / np.outer(unit, unit)
    covariance = np.linalg.pinv(metric, hermitian=True) / np.outer(unit, unit)
    names, step = PARAM_NAMES[law], 1e-5
    apart = np.concatenate([theta + step * np.eye(len(theta)), theta - step * np.eye(len(theta))])
    with np.errstate(divide="ignore", over="ignore"):
        reported = form.values(apart)
        shown = [reported[n] if n in EXPONENTS else np.log(reported[n]) for n in names]
    turned = np.array(shown).reshape(len(names), 2, -1)
    jacobian = (turned[:, 0] - turned[:, 1]) / (2 * step)
    covariance = jacobian @ covariance @ jacobian.T
    spread = np.sqrt(np.diag(covariance))
    labels = [label(name) for name in names]
    with np.errstate(invalid="ignore", divide="ignore"):
        return pd.DataFrame(covariance / np.outer(spread, spread), labels, labels)
