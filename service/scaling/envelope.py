"""The lower envelope of training curves: which size is best after each amount of compute.

Hoffmann et al. 2022, section 3.1 (approach 1): 1,500 FLOP values on a log scale, at each the run
with the lowest loss. Two biases cannot be repaired afterwards and are noted with every fit: the
lowest of noisy curves lies below the true one, and a point within a run whose learning rate has
not decayed yet lies above what a run of that length would reach.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from service.scaling.joint_laws import FloatArray
from service.scaling.points import Points
from service.scaling.size_fit import SizeFit, fit_floor, fit_power, regress
from trainers.errors import ScalingError

NUM_BINS = 1500
"""FLOP values at which curves are compared."""
MIN_RUNS = 3
"""Curves below which no envelope has a size that is neither the smallest nor the largest."""


@dataclass(frozen=True, kw_only=True)
class EnvelopeFit(SizeFit):
    """The envelope of training curves, and the power law through its sizes."""

    envelope: pd.DataFrame
    """One row per FLOP value kept: `flops`, `run`, `params`, `tokens`, `loss`."""


def fit_envelope(points: Points, *, bootstrap: int = 400, seed: int = 0) -> EnvelopeFit:
    """Fit N_opt = k C^a to the lower envelope of the runs' curves.

    Where the best run has the smallest or the largest size among those that were trained so far,
    a size outside might be better: such values are left out.

    Args:
        points: rows along training runs; `run` tells them apart.
        bootstrap: how many resamples of the runs.
        seed: of the resamples.

    Raises:
        ScalingError: if fewer than three runs have two or more rows, or no value of compute has its
            best size between others.

    """
    table = points.frame
    lengths = table.groupby("run")["flops"].nunique()
    curves = [str(run) for run in lengths.index[lengths >= 2]]
    if len(curves) < MIN_RUNS:
        raise ScalingError(
            f"an envelope needs {MIN_RUNS} or more training curves of two or more rows each, got "
            f"{len(curves)}; name the column of the run, or fit isoFLOP minima"
        )
    kept = table[table["run"].isin(curves)]
    log_flops = np.log(np.geomspace(kept["flops"].min(), kept["flops"].max(), NUM_BINS))
    log_loss, log_tokens = _on_grid(kept, curves, log_flops)
    size = np.log(kept.groupby("run")["params"].first().loc[curves].to_numpy(float))
    best, inside = _lowest(log_loss, size)
    if len(np.unique(size[best[inside]])) < 2:
        raise ScalingError(
            "an envelope needs two or more sizes that are best somewhere between smaller and "
            "larger ones, but there are fewer; add runs of more sizes over the same compute"
        )
    bins = np.flatnonzero(inside)
    winner = best[bins]
    envelope = pd.DataFrame(
        {
            "flops": np.exp(log_flops[bins]),
            "run": np.array(curves)[winner],
            "params": np.exp(size[winner]),
            "tokens": np.exp(log_tokens[winner, bins]),
            "loss": np.exp(log_loss[winner, bins]),
        }
    )
    fit = fit_power(envelope["flops"], envelope["params"])
    notes = [f"{len(curves)} curves, {len(bins)} of {NUM_BINS} FLOP values kept"]
    if len(curves) < len(lengths):
        notes.append(f"{len(lengths) - len(curves)} runs left out: a single row is no curve")
    return EnvelopeFit(
        method="envelope",
        params={
            "a": fit.exponent,
            "b": 1.0 - fit.exponent,
            "k": fit.coefficient,
            **fit_floor(envelope["flops"], envelope["loss"]),
        },
        r2=fit.r2,
        bootstrap=_resample(log_flops, log_loss, size, bootstrap, seed),
        warnings=(
            "the envelope is biased: the lowest of noisy curves is too low, and curves are too "
            "high where the learning rate has not decayed yet; isoFLOP minima have neither bias",
        ),
        notes=tuple(notes),
        envelope=envelope,
    )


def _on_grid(
    table: pd.DataFrame, curves: list[str], log_flops: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return log L and log D of each run at each FLOP value, (R, F); NaN outside its span."""
    losses, tokens = [], []
    by_run = dict(list(table.groupby("run")))
    for run in curves:
        own = by_run[run].sort_values("flops")
        at = np.log(own["flops"].to_numpy(float))
        outside = {"left": np.nan, "right": np.nan}
        losses.append(np.interp(log_flops, at, np.log(own["loss"].to_numpy(float)), **outside))
        tokens.append(np.interp(log_flops, at, np.log(own["tokens"].to_numpy(float)), **outside))
    return np.array(losses), np.array(tokens)


def _lowest(log_loss: FloatArray, size: FloatArray) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Return the best run at each FLOP value, and whether its size lies between others'."""
    alive = np.isfinite(log_loss)
    best = np.argmin(np.where(alive, log_loss, np.inf), axis=0)
    smallest = np.where(alive, size[:, None], np.inf).min(axis=0)
    largest = np.where(alive, size[:, None], -np.inf).max(axis=0)
    return best, (size[best] > smallest) & (size[best] < largest)


def _resample(
    log_flops: FloatArray, log_loss: FloatArray, size: FloatArray, num: int, seed: int
) -> pd.DataFrame | None:
    """Return `a`, `b` and `k` of resamples of the runs; a run drawn twice counts once."""
    if num < 2:
        return None
    rng = np.random.default_rng(seed)
    sizes = []
    for _ in range(num):
        drawn = np.unique(rng.integers(len(size), size=len(size)))
        best, inside = _lowest(log_loss[drawn], size[drawn])
        sizes.append(np.where(inside, size[drawn][best], np.nan))
    log_n = np.array(sizes)
    log_n = log_n[[len(np.unique(row[np.isfinite(row)])) >= 2 for row in log_n]]
    slope, intercept = regress(log_flops, log_n, np.ones_like(log_n))
    return pd.DataFrame({"a": slope, "b": 1.0 - slope, "k": np.exp(intercept)})
