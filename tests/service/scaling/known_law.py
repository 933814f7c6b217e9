"""A surface whose law is known exactly, so that answers can be compared with closed forms."""

from __future__ import annotations

import numpy as np
import pandas as pd

from service.scaling.fitted import StudyFit
from service.scaling.joint_fit import JointFit, with_exponents
from service.scaling.points import Points

TRUTH = {"E": 1.8, "A": 480.0, "B": 2100.0, "alpha": 0.35, "beta": 0.37}
K = 6.0
GAMMA = TRUTH["alpha"] * TRUTH["beta"] / (TRUTH["alpha"] + TRUTH["beta"])


def surface(truth=TRUTH, *, budgets=7, sizes=7, noise=0.0, seed=0, flops=(1e18, 1e21)):
    """Points around the best size of each budget, 1/8 to 8 times; loss of the law times noise."""
    rng = np.random.default_rng(seed)
    rows = []
    for budget in np.logspace(*np.log10(flops), budgets):
        best = best_size(budget, truth)
        for times in np.logspace(-0.9, 0.9, sizes):
            size = best * times
            tokens = budget / (K * size)
            loss = truth["E"] + truth["A"] * size ** -truth["alpha"]
            loss += truth["B"] * tokens ** -truth["beta"]
            rows.append((size, tokens, budget, loss * np.exp(noise * rng.standard_normal())))
    return pd.DataFrame(rows, columns=["params", "tokens", "flops", "loss"])


def best_size(budget, truth=TRUTH):
    """Return argmin_N L(N, C / (K N)), Hoffmann et al. 2022, eq. 4."""
    alpha, beta = truth["alpha"], truth["beta"]
    scale = (alpha * truth["A"] / (beta * truth["B"])) ** (1 / (alpha + beta))
    return scale * (budget / K) ** (beta / (alpha + beta))


def best_loss(budget, truth=TRUTH):
    """Return the loss of the best size."""
    size = best_size(budget, truth)
    tokens = budget / (K * size)
    return truth["E"] + truth["A"] * size ** -truth["alpha"] + truth["B"] * tokens ** -truth["beta"]


def points_of(frame):
    return Points.from_frame(frame, params="params", tokens="tokens", flops="flops", loss="loss")


def exact_fit(truth=TRUTH, *, bootstrap=None, conformal=None, frame=None):
    """A fit that is the truth itself."""
    points = points_of(surface(truth) if frame is None else frame)
    joint = JointFit(
        law="chinchilla",
        delta=1e-3,
        method="log_huber_lbfgsb",
        params=with_exponents(dict(truth)),
        objective=0.0,
        num_points=len(points),
        num_starts=20,
        converged_share=1.0,
        converged=True,
        warnings=(),
        notes=(),
        bootstrap=bootstrap,
        correlations=pd.DataFrame(),
        seconds=0.0,
    )
    return StudyFit(points=points, joint=joint, confidence=0.9, heldout=None, conformal=conformal)


def draws(num=100, spread=0.03, seed=0, truth=TRUTH):
    """Bootstrap rows around the truth."""
    rng = np.random.default_rng(seed)
    rows = [
        with_exponents({name: value * np.exp(spread * rng.standard_normal())
                        for name, value in truth.items()})
        for _ in range(num)
    ]  # fmt: skip
    return pd.DataFrame(rows)
