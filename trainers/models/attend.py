"""The core of attention as one differentiable operation, backward written out.

Its products have E numbers, few, along one side. BLAS takes three times as long where those are
the columns of the result as where they are its rows (measured for T 40, E 8), so every product
is written to have them as rows; autograd's own backward would not.

Shapes: `...` rows, heads, blocks; T queries, S keys, E numbers of a head.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable


def attend(q: Tensor, k: Tensor, v: Tensor, hidden: Tensor | None) -> Tensor:
    """Return softmax(q k^T / sqrt(E)) v, [..., T, E] (Vaswani et al., 2017, equation 1).

    Args:
        q: Queries [..., T, E].
        k: Keys [..., S, E].
        v: Values [..., S, E].
        hidden: True where a query must not see a key, broadcast over [..., T, S]; None: nowhere.

    """
    mixed: Tensor = _Attend.apply(q, k, v, hidden)[0]  # type: ignore[no-untyped-call]
    return mixed


class _Attend(Function):
    """(mixed [..., T, E], shares [..., T, S]); the shares too, because vmap keeps outputs only.

    Everything stays in the dtype of q, also under autocast, whose backward pass has none.
    """

    @staticmethod
    def forward(q: Tensor, k: Tensor, v: Tensor, hidden: Tensor | None) -> tuple[Tensor, Tensor]:
        scores = (q / math.sqrt(q.shape[-1])) @ k.mT
        if hidden is not None:
            scores.masked_fill_(hidden, -math.inf)
        shares = torch.softmax(scores, -1).to(q.dtype)
        return (v.mT @ shares.mT).mT.to(q.dtype), shares

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(*inputs[:3], output[1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slopes: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, shares = ctx.saved_tensors
        of_shares = slopes @ v.mT
        of_scores = torch.ops.aten._softmax_backward_data(of_shares, shares, -1, q.dtype)
        of_scores /= math.sqrt(q.shape[-1])
        of_q, of_k = (k.mT @ of_scores.mT).mT, (q.mT @ of_scores).mT
        return of_q, of_k, (slopes.mT @ shares).mT, None

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], *inputs: Tensor | None
    ) -> tuple[tuple[Tensor, Tensor], int]:
        """Lanes are one more leading axis; what is hidden is the same for all of them."""
        *rows, hidden = inputs
        stacked = [
            own.movedim(lanes, 0) if lanes is not None else own.expand(info.batch_size, *own.shape)
            for own, lanes in zip(rows, in_dims[:3], strict=True)
            if own is not None
        ]
        return _Attend.apply(*stacked, hidden), 0  # type: ignore[no-untyped-call]
