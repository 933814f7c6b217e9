"""Dynamic routing between capsules as one differentiable operation, backward written out.

Sabour, Frosst & Hinton, "Dynamic routing between capsules" (2017), procedure 1. Autograd records
every iteration's products with the predictions and keeps one tensor of their size for each, which
is nearly all that such a net costs. Here products are sums over one axis, and the slopes of the
predictions are a single product: each iteration adds an outer product of what is small.

Shapes: B rows; N primary capsules; C class capsules of E numbers; I iterations; u_hat [B, C, N, E]
is what each primary capsule predicts of each class capsule.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

TINY = 1e-8
"""Added to squared lengths, so that logarithms and slopes at length 0 are finite."""


def squash(s: Tensor) -> Tensor:
    """Shrink the last axis to a length below 1: v = s |s| / (1 + |s|^2), in the same direction."""
    square = s.square().sum(-1, keepdim=True)
    return s * (square + TINY).sqrt() / (1 + square)


def _squash_backward(s: Tensor, slopes: Tensor) -> Tensor:
    """Return the slopes of s for those of squash(s)."""
    square = s.square().sum(-1, keepdim=True)
    length = (square + TINY).sqrt()
    factor = length / (1 + square)
    of_factor = (slopes * s).sum(-1, keepdim=True)
    of_square = of_factor * (0.5 / length - factor) / (1 + square)
    return slopes * factor + 2 * of_square * s


def routed(u_hat: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
    """Return (s [B, C, E], c [B, C, N]) of the last iteration; gradients flow from s alone.

    s = sum_n c u_hat_n, with c a softmax over the classes of the agreement with the v = squash(s)
    of all iterations before, the first of which has equal c.
    """
    s, c = _Routing.apply(u_hat, iterations)  # type: ignore[no-untyped-call]
    return s[:, -1], c[:, -1]


def _over_capsules(weights: Tensor, u_hat: Tensor) -> Tensor:
    """Return sum_n weights_n u_hat_n, [B, C, E], for weights [B, C, N]."""
    return (weights.unsqueeze(-2) @ u_hat).squeeze(-2)


def _with_each(vectors: Tensor, u_hat: Tensor) -> Tensor:
    """Return u_hat . vectors, [B, C, N], for vectors [B, C, E]."""
    return (vectors.unsqueeze(-2) @ u_hat.mT).squeeze(-2)


class _Routing(Function):
    """u_hat -> s [B, I, C, E] and c [B, I, C, N] of all iterations.

    Only the last s may have slopes. All are outputs because vmap lets nothing else be kept.
    """

    @staticmethod
    def forward(u_hat: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
        u_hat = u_hat.contiguous()
        num_classes = u_hat.shape[1]
        agreement = torch.zeros_like(u_hat[..., 0])  # [B, C, N]
        c = torch.full_like(agreement, 1 / num_classes)
        kept_s, kept_c = [_over_capsules(c, u_hat)], [c]
        for _ in range(iterations - 1):
            agreement += _with_each(squash(kept_s[-1]), u_hat)
            kept_c.append(agreement.softmax(1))
            kept_s.append(_over_capsules(kept_c[-1], u_hat))
        return torch.stack(kept_s, 1), torch.stack(kept_c, 1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(inputs[0], *output)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slopes: Tensor, _: Tensor) -> tuple[Tensor, None]:
        u_hat, kept_s, kept_c = ctx.saved_tensors
        u_hat = u_hat.contiguous()
        of_s = slopes[:, -1]
        of_agreement = torch.zeros_like(u_hat[..., 0])
        columns, rows = [kept_c[:, -1]], [of_s]  # u_hat's slopes are the sum of column x row
        for i in range(kept_s.shape[1] - 1, 0, -1):
            c, s_before = kept_c[:, i], kept_s[:, i - 1]
            of_c = _with_each(of_s, u_hat)
            of_agreement = of_agreement + c * (of_c - (c * of_c).sum(1, keepdim=True))
            of_s = _squash_backward(s_before, _over_capsules(of_agreement, u_hat))
            columns += [of_agreement, kept_c[:, i - 1]]
            rows += [squash(s_before), of_s]
        return torch.stack(columns, -1) @ torch.stack(rows, -2), None

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], u_hat: Tensor, iterations: int
    ) -> tuple[tuple[Tensor, Tensor], int]:
        """Lanes are more rows."""
        lanes = in_dims[0]
        assert lanes is not None, "torch calls this only where something has lanes"
        s, c = _Routing.apply(u_hat.movedim(lanes, 0).flatten(0, 1), iterations)  # type: ignore[no-untyped-call]
        shape = (info.batch_size, -1)
        return (s.unflatten(0, shape), c.unflatten(0, shape)), 0
