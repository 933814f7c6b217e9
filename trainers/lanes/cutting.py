"""Which weights magnitude pruning cuts: the smallest of each layer, counted exactly.

Han, Pool, Tran & Dally, "Learning both weights and connections" (NeurIPS 2015); lecture, p. 66.
P is the number of parameters of a lane, in the canonical layout.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from trainers.lanes.flat import FlatEntry, FlatLayout


def smallest(weights: Tensor, count: int) -> Tensor:
    """Return bool of the weights' shape: True at the `count` smallest magnitudes.

    Where magnitudes are equal the earlier weight goes first, so the count is exact.
    """
    order = weights.abs().flatten().argsort(stable=True)
    cut = torch.zeros(weights.numel(), dtype=torch.bool, device=weights.device)
    cut[order[:count]] = True
    return cut.view(weights.shape)


def cut_by_count(layout: FlatLayout, row: Tensor, count_of: Callable[[FlatEntry], int]) -> Tensor:
    """Return bool [P]: in each weight tensor of a row [P], so many of the smallest; no others.

    Biases and normalisation (one axis) are never cut.
    """
    cut = torch.zeros(len(row), dtype=torch.bool, device=row.device)
    for entry in layout.entries:
        if entry.decays:
            span = slice(entry.offset, entry.offset + entry.size)
            cut[span] = smallest(row[span], count_of(entry))
    return cut


def cut_share(layout: FlatLayout, row: Tensor, sparsity: float) -> Tensor:
    """Return bool [P]: the smallest `sparsity` of each weight tensor, to the nearest weight."""
    return cut_by_count(layout, row, lambda entry: round(sparsity * entry.size))
