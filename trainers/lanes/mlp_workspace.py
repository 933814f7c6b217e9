"""Buffers of the written-out kernels, reused from step to step so that they stay in the cache."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from trainers.config import ModelConfig

# Two vectors of 512 bits: the step of torch's unrolled elementwise loops, in float32.
_VECTOR = 32
_COLUMNS = 16


@dataclass
class Block:
    """A buffer [W, B, H] with rows and columns added until both fill whole vectors.

    Torch's kernels work in vectors and finish what is left over with scalar code, which rounds
    transcendental functions, and adds, differently. With rows and lanes apart by whole vectors,
    and work done on `whole`, a lane's numbers never depend on its place in the group.
    """

    view: Tensor
    whole: Tensor

    def sum_rows(self) -> Tensor:
        """Return the sum over the B rows, [W, H]."""
        _, num_rows, num_columns = self.view.shape
        return self.whole[:, :num_rows].sum(1)[:, :num_columns]


class Workspace:
    """Buffers of one batch shape: W lanes, B rows."""

    def __init__(
        self,
        num_lanes: int,
        num_rows: int,
        config: ModelConfig,
        padded_outputs: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        def empty(columns: int) -> Block:
            padded = -(-columns // _COLUMNS) * _COLUMNS
            multiple = _VECTOR // math.gcd(_VECTOR, padded)
            rows = -(-num_rows // multiple) * multiple
            whole = torch.zeros(num_lanes, rows, padded, dtype=dtype, device=device)
            return Block(whole[:, :num_rows, :columns], whole)

        width, depth = config.width, config.depth
        num_norms = 0 if config.batch_norm == "none" else depth
        self.activations = [empty(width) for _ in range(depth)]
        self.dropped = [empty(width) for _ in range(depth)]
        self.normalised = [empty(width) for _ in range(num_norms)]
        self.scaled = [empty(width) for _ in range(num_norms)]
        self.deltas = [empty(width) for _ in range(min(depth, 2))]
        self.logits = empty(padded_outputs)
        self.log_p = empty(padded_outputs)
        self.p = empty(padded_outputs)
