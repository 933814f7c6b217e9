"""What a tier offers to the training loop: gradients into flat rows, and outputs.

The loop, the optimizers and the penalties see flat rows only, so they are the same code whichever
tier computes the gradients. W is the number of lanes of a fuse group, B the rows of a batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from torch import Tensor

from trainers.config import ModelConfig
from trainers.lanes.flat import FlatLayout
from trainers.trial import Trial

LaneBuffers = Mapping[str, Tensor]
"""Buffers by name, stacked: [W, *shape]."""


class BoundLanes(Protocol):
    """One fuse group's gradients and outputs."""

    def gradients(
        self, x: Tensor, target: Tensor, masks: Sequence[Tensor], seeds: Sequence[int] = ()
    ) -> Tensor:
        """Write gradients of the mean loss into the flat rows; return each lane's loss, [W].

        Args:
            x: [W, B, *row], as `Engine.inputs` made them.
            target: [W, B, *row], as `Engine.targets` made them; may be overwritten.
            masks: One [W, B, *shape] per dropout, or none where no lane drops anything.
            seeds: One per lane where the model draws from torch's global generator, else none.
        """

    def outputs(self, x: Tensor) -> Tensor:
        """Return every lane's outputs in evaluation, [W, N, num_outputs], for shared x [N, ...]."""

    def evaluate(self, x: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return outputs [W, N, num_outputs] and each row's loss [W, N], without smoothing.

        Args:
            x: [N, *row], as `Engine.inputs` made them; all lanes see the same.
            target: [N, *row], as `Engine.targets` made them.
        """


class Engine(Protocol):
    """A tier, prepared for one signature."""

    tier: str
    layout: FlatLayout
    """Of the rows it works on."""
    canonical: FlatLayout
    """Of the rows in checkpoints."""
    draws: bool
    """Whether the model takes numbers from torch's global generator itself."""
    dropout_shapes: list[tuple[int, ...]]
    """What one row of each dropout's input looks like."""

    def dropout_rates(self, config: ModelConfig) -> list[float]:
        """Return one lane's rate for each dropout."""

    def to_canonical(self, rows: Tensor) -> Tensor:
        """Return working rows [L, P] as canonical rows."""

    def from_canonical(self, rows: Tensor) -> Tensor:
        """Return canonical rows as working rows [L, P]."""

    def inputs(self, x: Tensor) -> Tensor:
        """Return a data set's inputs as `gradients` and `outputs` read them, [N, *row]."""

    def targets(self, y: Tensor) -> Tensor:
        """Return a data set's targets as `gradients` reads them, [N, *row]."""

    def own_buffers(self, trial: Trial) -> dict[str, Tensor]:
        """Return what one lane keeps beside the module's buffers, as it is before training."""

    def bind(
        self,
        params: Tensor,
        grads: Tensor,
        buffers: LaneBuffers,
        configs: Sequence[ModelConfig],
        smoothing: Sequence[float],
    ) -> BoundLanes:
        """Bind a group of W lanes: rows [W, P], buffers, and each lane's own numbers."""
