"""Multi-head attention written out, so that it runs under `torch.func.vmap`: full or windowed.

Shapes: B rows, H heads, T positions, D width, E = D / H, w window.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trainers.models.attend import attend


class Attention(nn.Module):
    """Self-attention (Vaswani et al., 2017), each position seeing a window of positions.

    Position i sees position j where |i - j| < window, and, if causal, only where j <= i. A window
    of all T positions is ordinary dense attention. A smaller one is computed block by block: each
    block of w positions looks at itself and its neighbouring blocks, so cost and memory grow with
    T w and not with T^2 (lecture, p. 66; Child et al., 2019; Beltagy et al., 2020).
    """

    def __init__(self, width: int, heads: int, *, window: int | None, causal: bool) -> None:
        super().__init__()
        self.heads, self.window, self.causal = heads, window, causal
        self.query_key_value = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return [B, T, D] for x [B, T, D]."""
        num_rows, length, width = x.shape
        packed = self.query_key_value(x).reshape(num_rows, length, 3, self.heads, -1)
        q, k, v = packed.permute(2, 0, 3, 1, 4).unbind(0)  # each [B, H, T, E]
        if self.window is None or self.window >= length:
            mixed = dense_attention(q, k, v, causal=self.causal)
        else:
            mixed = windowed_attention(q, k, v, window=self.window, causal=self.causal)
        merged = mixed.transpose(1, 2).reshape(num_rows, length, width)
        return self.out(merged)  # type: ignore[no-any-return]  # nn.Module.__call__ is Any


def dense_attention(q: Tensor, k: Tensor, v: Tensor, *, causal: bool) -> Tensor:
    """Return softmax(q k^T / sqrt(E)) v, [..., T, E]; causal: positions see no later ones."""
    places = torch.arange(q.shape[-2], device=q.device)
    return attend(q, k, v, places[None, :] > places[:, None] if causal else None)


def windowed_attention(q: Tensor, k: Tensor, v: Tensor, *, window: int, causal: bool) -> Tensor:
    """Return attention in which position i sees j where |i - j| < window, [..., T, E].

    Positions are cut into N blocks of w. A block's queries meet the keys of the block before,
    their own, and, unless causal, the block after: T (2 or 3) w products instead of T^2.
    """
    length = q.shape[-2]
    num_blocks = -(-length // window)
    missing = num_blocks * window - length
    q = _blocks(nn.functional.pad(q, (0, 0, 0, missing)), window)  # [..., N, w, E]
    k, v = (_neighbours(rows, window, missing, causal) for rows in (k, v))  # [..., N, 2w or 3w, E]
    hidden = _hidden(num_blocks, window, k.shape[-2], length, causal, q.device)
    mixed = attend(q, k, v, hidden)  # [..., N, w, E]
    return mixed.flatten(-3, -2)[..., :length, :]


def _blocks(rows: Tensor, window: int) -> Tensor:
    """Cut [..., N w, E] into [..., N, w, E]."""
    *before, length, width = rows.shape
    return rows.reshape(*before, length // window, window, width)


def _neighbours(rows: Tensor, window: int, missing: int, causal: bool) -> Tensor:
    """Return each block of [..., T, E] with the block before it and, unless causal, after it."""
    after = 0 if causal else window
    padded = nn.functional.pad(rows, (0, 0, window, missing + after))
    blocks = _blocks(padded, window)  # [..., N + 1 or N + 2, w, E]
    reach = 2 if causal else 3
    num_blocks = blocks.shape[-3] - reach + 1
    return torch.cat([blocks.narrow(-3, i, num_blocks) for i in range(reach)], -2)


def _hidden(
    num_blocks: int, window: int, num_keys: int, length: int, causal: bool, device: torch.device
) -> Tensor:
    """Say which keys each query must not see, [N, w, keys]; padding queries see themselves."""
    starts = window * torch.arange(num_blocks, device=device)[:, None, None]
    query = starts + torch.arange(window, device=device)[None, :, None]
    key = starts - window + torch.arange(num_keys, device=device)[None, None, :]
    seen = ((query - key).abs() < window) & (key >= 0) & (key < length)
    if causal:
        seen &= key <= query
    return ~(seen | (query == key))
