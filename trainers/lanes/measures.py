"""Metrics of stacked lanes on one part of the data, all lanes in one pass."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from trainers.data import Dataset
from trainers.lanes.engine import BoundLanes

_ROWS_PER_CHUNK = 256
_WINDOWS_PER_CHUNK = 32
"""Fixed, so that sums are made in the same order everywhere; a window has many outputs."""


def measure(
    lanes: BoundLanes, x: Tensor, target: Tensor, y: Tensor, dataset: Dataset
) -> dict[str, list[float]]:
    """Return the loss and the task's own metrics, each [W].

    `error` for classes, `rmse` and `r2` for numbers, `error` and `bits_per_byte` for a language.
    The loss is the data's alone, without penalties or label smoothing. `rmse` is in the target's
    own units; `r2` is 1 - residual / total sum of squares, averaged over target columns.
    A language's `error` is the share of tokens not foreseen; its loss is in nats per token, and
    `bits_per_byte` is the same in bits: what a byte would take when compressed by the model.

    Args:
        lanes: A bound group.
        x: Inputs as the engine made them, [N, ...].
        target: Targets as the engine made them, [N, ...].
        y: Targets of the data set, [N] classes or [N, K] numbers.
        dataset: For its task and the targets' units.
    """
    loss_sums, misses, residuals = [], [], []
    chunk = _WINDOWS_PER_CHUNK if dataset.task == "language" else _ROWS_PER_CHUNK
    for start in range(0, len(x), chunk):
        rows = slice(start, start + chunk)
        outputs, row_losses = lanes.evaluate(x[rows], target[rows])  # [W, n, K], [W, n]
        loss_sums.append(row_losses.double().sum(1))
        if dataset.task != "regression":
            misses.append((outputs.argmax(-1) != y[rows]).flatten(1).sum(1))
        else:
            residuals.append((outputs - y[rows]).double().square().sum(1))  # [W, K]
    metrics: Mapping[str, Tensor] = {"loss": torch.stack(loss_sums).sum(0) / len(x)}
    if misses:
        metrics = {**metrics, "error": torch.stack(misses).sum(0).double() / y.numel()}
    else:
        metrics = {**metrics, **_fit_of_numbers(torch.stack(residuals).sum(0), y, dataset)}
    if dataset.task == "language":
        metrics = {**metrics, "bits_per_byte": metrics["loss"] / math.log(2)}
    return {name: values.tolist() for name, values in metrics.items()}


def _fit_of_numbers(residual: Tensor, y: Tensor, dataset: Dataset) -> dict[str, Tensor]:
    """Return rmse [W] and r2 [W] from sums of squared residuals [W, K]."""
    numbers = y.double()
    total = (numbers - numbers.mean(0)).square().sum(0)  # [K]
    r2 = 1 - residual / total.clamp(min=torch.finfo(torch.float64).tiny)
    scale = torch.ones_like(total)
    if dataset.target_scaler is not None:
        scale = dataset.target_scaler.std.to(total)
    rmse = (residual * scale.square() / len(y)).mean(1).sqrt()
    return {"rmse": rmse, "r2": r2.mean(1)}
