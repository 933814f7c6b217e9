"""L-BFGS-B from each start, as published procedures run it: the polish, and the cautionary tale.

Hoffmann et al. 2022 minimised the MEAN of the Huber loss and Besiroglu et al. 2024 (section 3)
showed that their optimiser had stopped early. With the mean, SciPy's default tolerances are met
where the sum is still 9 % above its minimum.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.optimize import Bounds, minimize

from service.scaling.descent import Descent, huber
from service.scaling.joint_forms import Form
from service.scaling.joint_laws import FloatArray

REDUCTIONS = ("sum", "mean")
TOLERANCES = ("tight", "scipy")
_OPTIONS: dict[str, Any] = {
    "tight": {"ftol": 1e-15, "gtol": 1e-12, "maxiter": 5000, "maxfun": 20000},
    "scipy": {},
}


def descend_lbfgsb(
    form: Form,
    log_loss: FloatArray,
    starts: FloatArray,
    weight: FloatArray,
    delta: float,
    *,
    reduction: str = "sum",
    tolerance: str = "tight",
    bounded: bool = True,
) -> Descent:
    """Minimise from each start by SciPy's L-BFGS-B with the analytic gradient.

    Args:
        form: the law over P points.
        log_loss: observed log L, shape (P,).
        starts: shape (M, K).
        weight: shape (P,).
        delta: Huber's threshold.
        reduction: `sum` or `mean` of the points' losses.
        tolerance: `tight`, or `scipy` for SciPy's defaults.
        bounded: whether the form's bounds hold; published procedures had none.

    Returns:
        The end of each descent; objectives are sums whatever was minimised, and `promise` is the
        part of the objective that one L-BFGS-B step changed last, unknown (NaN).

    """
    scale = 1.0 / len(log_loss) if reduction == "mean" else 1.0

    def objective(theta: FloatArray) -> tuple[float, FloatArray]:
        predicted, gradient = form.log_loss(theta[None])
        residual = predicted[0] - log_loss
        pull = weight * np.clip(residual, -delta, delta)
        return scale * float(huber(residual, weight, delta)), scale * (gradient[0] @ pull)

    bounds = Bounds(form.bounds[:, 0], form.bounds[:, 1]) if bounded else None
    ends = [
        minimize(
            objective,
            start,
            jac=True,
            method="L-BFGS-B",
            bounds=bounds,
            options=_OPTIONS[tolerance],
        )
        for start in starts
    ]
    return Descent(
        np.array([end.x for end in ends]),
        np.array([float(end.fun) / scale for end in ends]),
        np.full(len(ends), np.nan),
    )
