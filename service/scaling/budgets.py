"""Points grouped by budget: one curve of the loss over size each, and the noise of its runs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from service.scaling.joint_laws import FloatArray
from service.scaling.minima import MIN_SIZES, Interpolant, minima
from trainers.errors import ScalingError, nearest

SAME_BUDGET = 1.25
"""FLOPs that differ by less may belong to one budget, where no column says so."""
SAME_SIZE = 1.02
"""Neighbouring sizes that differ by less are one size, repeated."""
WIDEST_BUDGET = 2.0
"""A group whose FLOPs differ by more is no budget: the points are no isoFLOP curves."""


@dataclass(frozen=True)
class Budget:
    """Points of one budget, averaged over seeds: S sizes."""

    flops: float
    log_params: FloatArray
    log_tokens: FloatArray
    loss: FloatArray
    mean: FloatArray
    """Shape (S, P'): what turns the losses of its P' points into those of its sizes."""
    rows: NDArray[np.intp]
    """Positions of its points in the table, shape (P',)."""


@dataclass(frozen=True)
class Noise:
    """Standard deviation of log L of one run, None where it is unknown, and where it is from."""

    log_std: float | None
    note: str


def budget_labels(frame: pd.DataFrame, column: str | None) -> pd.Series:
    """Return each point's budget in FLOPs, NaN where it belongs to none.

    Args:
        frame: a table of points.
        column: the column of the budget; None: `budget_flops` if there, else by FLOPs.

    Raises:
        ScalingError: if there is no such column.

    """
    if column is not None and column not in frame:
        raise ScalingError(
            f"there is no column `{column}`{nearest(column, [str(n) for n in frame.columns])}"
        )
    if column is None and "budget_flops" in frame:
        column = "budget_flops"
    if column is not None:
        return frame[column].astype(float)
    return pd.Series(np.exp(_peaks(np.log(frame["flops"].to_numpy(float)))), index=frame.index)


def _peaks(log_flops: FloatArray) -> FloatArray:
    """Return the log budget of each point, NaN for those between budgets.

    Budgets are taken one after the other where most of the points that are left lie within a
    factor of `SAME_BUDGET`, if they are more than those of the same width on both sides together.
    """
    width = np.log(SAME_BUDGET)
    label = np.full(len(log_flops), np.nan)
    left = np.sort(log_flops)
    while len(left):
        counts = np.searchsorted(left, left + width, "right") - np.arange(len(left))
        low = left[int(np.argmax(counts))]
        inside = (left >= low) & (left <= low + width)
        beside = (left >= low - width) & (left <= low + 2 * width) & ~inside
        if inside.sum() > beside.sum():
            own = (log_flops >= low) & (log_flops <= low + width) & np.isnan(label)
            label[own] = log_flops[own].mean()
        left = left[~inside]
    return label


def _sizes(params: FloatArray) -> NDArray[np.intp]:
    """Return the number of each point's size, 0 to S - 1 in increasing order."""
    log_params = np.log(params)
    order = np.argsort(log_params, kind="stable")
    steps = np.diff(log_params[order], prepend=log_params[order[:1]]) > np.log(SAME_SIZE)
    size = np.empty(len(params), dtype=np.intp)
    size[order] = np.cumsum(steps)
    return size


def budgets_of(frame: pd.DataFrame, column: str | None, notes: list[str]) -> list[Budget]:
    """Group points by budget and average each size over its seeds.

    Args:
        frame: a table of points.
        column: as for `budget_labels`.
        notes: what was left out is added here.

    Raises:
        ScalingError: if fewer than two budgets have `MIN_SIZES` sizes.

    """
    labels = budget_labels(frame, column).to_numpy(float)
    budgets, few, wide = [], 0, 0
    if column is None and "budget_flops" not in frame:
        notes.append("no column names the budget, so points are grouped where FLOPs crowd")
    between = int(np.isnan(labels).sum())
    if between:
        notes.append(f"{between} points left out: their FLOPs lie between budgets")
    for label in np.unique(labels[np.isfinite(labels)]):
        rows = np.flatnonzero(labels == label)
        own = frame.iloc[rows]
        if own["flops"].max() > WIDEST_BUDGET * own["flops"].min():
            wide += 1
            continue
        size_of = _sizes(own["params"].to_numpy(float))
        num_sizes = int(size_of.max()) + 1
        if num_sizes < MIN_SIZES:
            few += 1
            continue
        weight = own["weight"].to_numpy(float)
        mean = (size_of[None] == np.arange(num_sizes)[:, None]) * weight
        mean = mean / mean.sum(axis=1, keepdims=True)
        budgets.append(
            Budget(
                flops=float(label),
                log_params=mean @ np.log(own["params"].to_numpy(float)),
                log_tokens=mean @ np.log(own["tokens"].to_numpy(float)),
                loss=mean @ own["loss"].to_numpy(float),
                mean=mean,
                rows=rows,
            )
        )
    if few:
        notes.append(f"{few} budgets left out: fewer than {MIN_SIZES} sizes")
    if wide:
        notes.append(f"{wide} groups left out: FLOPs differ more than {WIDEST_BUDGET:g}-fold")
    if len(budgets) < 2:
        raise ScalingError(
            f"isoFLOP minima need two or more budgets of {MIN_SIZES} or more sizes each, got "
            f"{len(budgets)} ({few} have fewer sizes, {wide} groups are no budgets); add sizes, or "
            "fit a joint law"
        )
    return budgets


def noise_of(frame: pd.DataFrame, budgets: list[Budget], valley: Interpolant) -> Noise:
    """Return the noise of one run: between seeds where sizes are repeated, else about valleys.

    Args:
        frame: a table of points.
        budgets: its budgets.
        valley: fitted to them.

    """
    squares, freedom = 0.0, 0
    for each in budgets:
        log_loss = np.log(frame["loss"].to_numpy(float)[each.rows])
        left = log_loss - (each.mean @ log_loss)[np.argmax(each.mean > 0, axis=0)]
        squares += float(left @ left)
        freedom += len(left) - len(each.log_params)
    if freedom > 0:
        spread = float(np.sqrt(squares / freedom))
        return Noise(spread, f"noise of one run: {100 * spread:.2g} %, between seeds")
    freedom = -2  # the shared exponents
    for each in budgets:
        u = each.log_params - each.log_params.mean()
        orthogonal, _ = np.linalg.qr(valley.terms(u))
        left = (each.loss - orthogonal @ (orthogonal.T @ each.loss)) / each.loss
        squares += float(left @ left)
        freedom += len(left) - 3
    if freedom <= 0:
        return Noise(None, "noise unknown: repeat sizes with other seeds to get intervals")
    spread = float(np.sqrt(squares / freedom))
    return Noise(spread, f"noise of one run: {100 * spread:.2g} %, what valleys leave of curves")


def redraw(
    frame: pd.DataFrame,
    budgets: list[Budget],
    interpolant: Interpolant,
    noise: Noise,
    num: int,
    seed: int,
) -> FloatArray | None:
    """Return log N_opt under redrawn noise, shape (num, budgets); NaN at an edge.

    All points of one run get the same noise. A valley keeps its exponents.

    Args:
        frame: a table of points.
        budgets: its budgets.
        interpolant: how to draw their curves.
        noise: of one run; None is returned where it is unknown.
        num: how many draws; None is returned for fewer than two.
        seed: of the noise.

    """
    if noise.log_std is None or num < 2:
        return None
    runs = pd.factorize(frame["run"])[0]
    rng = np.random.default_rng(seed)
    of_run = noise.log_std * rng.standard_normal((num, int(runs.max()) + 1))
    loss = frame["loss"].to_numpy(float)
    columns = []
    for each in budgets:
        noisy = loss[each.rows] * np.exp(of_run[:, runs[each.rows]])
        found = minima(each.log_params, noisy @ each.mean.T, interpolant)
        columns.append(np.where(found.at_edge, np.nan, found.log_params))
    return np.stack(columns, axis=1)
