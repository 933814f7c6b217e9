"""Losses as pure functions of a net's outputs, for one trial or for stacked lanes.

Shapes: L lanes, B rows, C classes, K target columns. Every function takes outputs [B, C] or
[L, B, C]; targets may be shared ([B]) or per lane ([L, B]). The mean is over rows only, so a
stack of lanes gives one loss per lane, [L].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from trainers.errors import ConfigError

LossKind = Literal["cross_entropy", "half_mse", "token_cross_entropy"]
Task = Literal["classification", "regression", "language"]
Loss = Callable[[Tensor, Tensor, "float | Tensor"], Tensor]


def cross_entropy_rows(logits: Tensor, y: Tensor, smoothing: float | Tensor = 0.0) -> Tensor:
    """Cross-entropy of each row in nats (lecture, p. 18), as `F.cross_entropy` defines it.

    With label smoothing s the target is (1 - s) * one_hot + s / C (Szegedy et al., 2016).

    Args:
        logits: [..., B, C].
        y: class indices int64, [B] or [..., B].
        smoothing: one number, or one per lane [L].

    Returns:
        [..., B]

    """
    log_p = torch.log_softmax(logits, dim=-1)
    index = y.expand(log_p.shape[:-1]).unsqueeze(-1)
    negative_log_likelihood = -log_p.gather(-1, index).squeeze(-1)
    if isinstance(smoothing, (int, float)) and smoothing == 0.0:
        return negative_log_likelihood
    s = _per_row(smoothing, logits)
    return (1 - s) * negative_log_likelihood - s * log_p.mean(dim=-1)


def half_mse_rows(outputs: Tensor, y: Tensor, smoothing: float | Tensor = 0.0) -> Tensor:
    """Half the squared error of each row, summed over outputs (lecture, p. 18).

    This is 1/2 * ||y - yhat||^2 per row: torch's `MSELoss` has no 1/2 and also averages over
    outputs, so it is smaller by a factor K / 2.

    Args:
        outputs: [..., B, K].
        y: numbers [..., B, K], or class indices int64 [..., B], which become one-hot targets.
        smoothing: label smoothing of those one-hot targets; numbers are never smoothed.

    Returns:
        [..., B]

    """
    if y.dtype == torch.int64:
        num_classes = outputs.shape[-1]
        classes = torch.arange(num_classes, device=outputs.device)
        target = (y.unsqueeze(-1) == classes).to(outputs.dtype)
        if not (isinstance(smoothing, (int, float)) and smoothing == 0.0):
            s = _per_row(smoothing, outputs).unsqueeze(-1)
            target = (1 - s) * target + s / num_classes
    else:
        target = y.to(outputs.dtype)
    return 0.5 * (outputs - target).square().sum(dim=-1)


def token_cross_entropy_rows(logits: Tensor, y: Tensor, smoothing: float | Tensor = 0.0) -> Tensor:
    """Cross-entropy of each row of T tokens, in nats per token: the mean over its positions.

    Args:
        logits: [..., B, T, C].
        y: token indices int64, [B, T] or [..., B, T].
        smoothing: one number, or one per lane [L].

    Returns:
        [..., B]

    """
    if isinstance(smoothing, Tensor) and smoothing.ndim:
        smoothing = smoothing.unsqueeze(-1)
    return cross_entropy_rows(logits, y, smoothing).mean(dim=-1)


def cross_entropy(logits: Tensor, y: Tensor, smoothing: float | Tensor = 0.0) -> Tensor:
    """Mean of `cross_entropy_rows` over the B rows: [] for [B, C] and [L] for [L, B, C]."""
    if logits.dim() == 2 and isinstance(smoothing, float | int):
        return nn.functional.cross_entropy(logits, y, label_smoothing=smoothing)  # one kernel
    return cross_entropy_rows(logits, y, smoothing).mean(dim=-1)


def half_mse(outputs: Tensor, y: Tensor, smoothing: float | Tensor = 0.0) -> Tensor:
    """Mean of `half_mse_rows` over the B rows: [] for [B, K] and [L] for [L, B, K]."""
    return half_mse_rows(outputs, y, smoothing).mean(dim=-1)


def token_cross_entropy(logits: Tensor, y: Tensor, smoothing: float | Tensor = 0.0) -> Tensor:
    """Mean of `token_cross_entropy_rows` over the B rows: [] or [L]."""
    if logits.dim() == 3 and isinstance(smoothing, float | int) and y.shape == logits.shape[:-1]:
        return cross_entropy(logits.flatten(0, 1), y.flatten(), smoothing)
    return token_cross_entropy_rows(logits, y, smoothing).mean(dim=-1)


def resolve_loss(kind: Literal["auto", "cross_entropy", "half_mse"], task: Task) -> LossKind:
    """Return the loss that `train.loss` means for a task.

    Raises:
        ConfigError: for cross-entropy on numbers, and for half_mse on a language.

    """
    if task == "language":
        if kind == "half_mse":
            raise ConfigError(
                "`train.loss: half_mse` needs classes or numbers, but the data is a language; "
                "use `cross_entropy` or `auto`"
            )
        return "token_cross_entropy"
    if kind == "auto":
        return "cross_entropy" if task == "classification" else "half_mse"
    if kind == "cross_entropy" and task == "regression":
        raise ConfigError(
            "`train.loss: cross_entropy` needs classes, but the targets are numbers; "
            "use `half_mse` or `auto`, or register the data with task `classification`"
        )
    return kind


def loss_function(kind: LossKind) -> Loss:
    """Return the loss averaged over rows, as `loss(outputs, y, smoothing)`."""
    return _LOSSES[kind][0]


def loss_rows_function(kind: LossKind) -> Loss:
    """Return the loss of each row, as `loss(outputs, y, smoothing)`."""
    return _LOSSES[kind][1]


_LOSSES: dict[LossKind, tuple[Loss, Loss]] = {
    "cross_entropy": (cross_entropy, cross_entropy_rows),
    "half_mse": (half_mse, half_mse_rows),
    "token_cross_entropy": (token_cross_entropy, token_cross_entropy_rows),
}
"""Each loss averaged over rows, and row by row."""


def _per_row(smoothing: float | Tensor, outputs: Tensor) -> Tensor:
    """Shape one number, or one per lane [L], so that it multiplies rows [..., B]."""
    s = torch.as_tensor(smoothing, dtype=outputs.dtype, device=outputs.device)
    return s.unsqueeze(-1) if s.ndim else s
