"""Points of known laws, and the published ones where they are at hand."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from service.scaling.points import Points

HOFFMANN = {"E": 1.69, "A": 406.4, "B": 410.7, "alpha": 0.34, "beta": 0.28}
"""Hoffmann et al. 2022, as printed."""
PUBLISHED = Path(__file__).parents[3].parent / "shared" / "data"
OPTIMUM = 0.0010182741
"""Sum of Huber losses at the optimum of the 240 points of Besiroglu et al. 2024."""


def chinchilla_loss(params, tokens, law):
    return law["E"] + law["A"] / params ** law["alpha"] + law["B"] / tokens ** law["beta"]


def best_size(flops, law):
    """Hoffmann et al. 2022, eq. 4, with C = 6 N D."""
    total = law["alpha"] + law["beta"]
    gain = (law["alpha"] * law["A"] / (law["beta"] * law["B"])) ** (1 / total)
    return gain * (flops / 6) ** (law["beta"] / total)


def points_of(frame, **columns):
    return Points.from_frame(frame, **{"params": "N", "tokens": "D", "loss": "L", **columns})


def grid(num_sizes=6, num_tokens=6):
    """Return N and D of a full grid over three decades each."""
    params, tokens = np.meshgrid(
        np.geomspace(1e7, 1e10, num_sizes), np.geomspace(1e9, 1e12, num_tokens)
    )
    return params.ravel(), tokens.ravel()


def chinchilla_points(law=HOFFMANN, noise=0.0, seed=0, num_sizes=6, num_tokens=6):
    params, tokens = grid(num_sizes, num_tokens)
    jitter = np.random.default_rng(seed).standard_normal(len(params))
    loss = chinchilla_loss(params, tokens, law) * np.exp(noise * jitter)
    return points_of(pd.DataFrame({"N": params, "D": tokens, "L": loss}))


def isoflop_frame(budgets, spread, num_sizes, law=HOFFMANN, shift=1.0):
    """Return noise-free isoFLOP curves with sizes `spread` times either side of the best."""
    rows = []
    for flops in budgets:
        factors = np.geomspace(1 / spread, spread, num_sizes)
        rows += [(flops, size) for size in shift * best_size(flops, law) * factors]
    flops, params = np.array(rows).T
    tokens = flops / (6 * params)
    loss = chinchilla_loss(params, tokens, law)
    return pd.DataFrame({"N": params, "D": tokens, "L": loss})


def published(name):
    """Return a published table, or skip the test where it is not at hand."""
    if not (PUBLISHED / name).exists():
        pytest.skip(f"the published points {name} are not beside the repository")
    return pd.read_csv(PUBLISHED / name)


def hoffmann_points(outliers=False):
    """Return the 240 points that Besiroglu et al. 2024 fit, or all 245."""
    frame = published("chinchilla_epoch_points.csv")
    if not outliers:
        frame = frame[frame["epoch_outlier"] == 0]
    return Points.from_frame(frame, params="params", tokens="tokens", flops="flops", loss="loss")
