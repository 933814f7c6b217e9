"""How far a joint fit moves when one point is left out."""

from __future__ import annotations

import numpy as np
import pandas as pd

from service.scaling.descent import derivatives, descend
from service.scaling.design import Design, design_of
from service.scaling.joint_fit import JointFit
from service.scaling.joint_forms import FORMS, Form
from service.scaling.joint_laws import FloatArray
from service.scaling.points import Points
from service.scaling.resampling import as_frame

EXACT_POINTS = 1_000
"""Up to so many points each is left out in earnest; beyond, by one Newton step."""


def leverage(points: Points, fit: JointFit, *, unique_tokens: str | None = None) -> pd.DataFrame:
    """Return what leaving out each point would change.

    Up to 1,000 points the log-Huber fit is repeated without each, started at the full fit; with
    more, one Newton step tells (the influence function, Hampel 1974), to the order of 1 / P.

    Args:
        points: those that were fitted.
        fit: their fit by the method `log_huber_lbfgsb`.
        unique_tokens: as for `fit_joint`.

    Returns:
        One row per point in the points' order: `row`, `run`, `source_line`, and the changes `da`,
        `dalpha`, `dbeta` and, where the law has a floor, `dE`. Sort by the largest |da| to see
        which rows carry the exponent.

    """
    design = design_of(points, fit.law, unique_tokens)
    form = FORMS[fit.law](design)
    start = form.theta(fit.params)[None]
    ends = descend(form, design.log_loss, start, design.weight, fit.delta)
    theta = ends.theta[0]
    if design.num_points <= EXACT_POINTS:
        left_out = np.where(np.eye(design.num_points, dtype=bool), 0.0, design.weight)
        starts = np.repeat(theta[None], design.num_points, axis=0)
        thetas = descend(form, design.log_loss, starts, left_out, fit.delta).theta
    else:
        thetas = theta + _influence(form, design, theta, fit.delta)
    full = as_frame(fit.law, form.values(theta[None])).iloc[0]
    moved = as_frame(fit.law, form.values(thetas))
    shown = [name for name in ("a", "alpha", "beta", "E") if name in moved]
    return pd.DataFrame(
        {
            "row": np.arange(design.num_points),
            "run": points.frame["run"].to_numpy(),
            "source_line": points.frame["source_line"].to_numpy(),
            **{f"d{name}": moved[name].to_numpy() - full[name] for name in shown},
        }
    )


def _influence(form: Form, design: Design, theta: FloatArray, delta: float) -> FloatArray:
    """Return the coordinates' change by leaving out each point, shape (P, K)."""
    predicted, gradient = form.log_loss(theta[None])
    residual = predicted - design.log_loss
    _, hessian = derivatives(form, theta[None], predicted, gradient, residual, design.weight, delta)
    slopes = gradient[0] * (design.weight * np.clip(residual[0], -delta, delta))  # (K, P)
    return np.asarray(np.linalg.solve(hessian[0], slopes).T)
