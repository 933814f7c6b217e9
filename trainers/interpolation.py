"""The loss along the straight line between two trained nets (lecture, p. 35).

Goodfellow, Vinyals & Saxe, "Qualitatively characterizing neural network optimization problems"
(ICLR 2015); Li et al., "Visualizing the loss landscape of neural nets" (NeurIPS 2018), section 3.
Shapes: P parameters, S points of the line.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from trainers.config import TrialConfig
from trainers.data import Dataset
from trainers.errors import ConfigError
from trainers.lanes.flat import FlatLayout
from trainers.lanes.many import measure_rows


@dataclass(frozen=True, kw_only=True, eq=False)
class Line:
    """L(t) = loss at (1 - t) * first net + t * second net."""

    position: np.ndarray
    """[S] the values of t, from 0 to 1."""
    loss: np.ndarray
    """[S]"""

    @property
    def barrier(self) -> float:
        """How far the loss rises above the straight line between both ends' losses; 0: nowhere.

        Frankle et al., "Linear mode connectivity and the lottery ticket hypothesis" (2020).
        """
        chord = (1 - self.position) * self.loss[0] + self.position * self.loss[-1]
        return float((self.loss - chord).max())


def loss_between(
    first: nn.Module,
    second: nn.Module,
    config: TrialConfig,
    dataset: Dataset,
    *,
    size: int = 25,
    num_rows: int | None = None,
    part: Literal["train", "val"] = "train",
) -> Line:
    """Measure the loss along the line between two nets of one shape; points are lanes.

    Weights and running statistics move together: with one end's statistics the other end would
    not be the net that was trained.

    Args:
        first: The net at t = 0; not changed.
        second: The net at t = 1; not changed.
        config: The configuration of both.
        dataset: Their data; the loss is the data's alone, without penalties, in evaluation.
        size: S, at least 3.
        num_rows: The first so many rows; None: all.
        part: train or val.

    Raises:
        ConfigError: for nets of different shapes, or a line without inner points.

    """
    ends = [_floats(net) for net in (first, second)]
    shapes = [{name: tuple(value.shape) for name, value in end.items()} for end in ends]
    if shapes[0] != shapes[1]:
        odd = sorted(shapes[0].items() ^ shapes[1].items())[0]
        raise ConfigError(
            "a line runs between two nets of the same shape, but only one of them has "
            f"`{odd[0]}` of shape {odd[1]}; pass nets of one `model` section"
        )
    if size < 3:
        raise ConfigError(f"a line needs at least 3 points, but got {size}; try 25")
    layout = FlatLayout.of(first)
    rows = torch.zeros(2, layout.size, dtype=next(first.parameters()).dtype)
    for net, row in zip((first, second), rows, strict=True):
        layout.read(net, row)
    position = np.linspace(0.0, 1.0, size)

    def row_at(place: int) -> Tensor:
        return torch.lerp(rows[0], rows[1], float(position[place]))

    def buffers_at(place: int) -> Mapping[str, Tensor]:
        t = float(position[place])
        return {name: torch.lerp(ends[0][name], ends[1][name], t) for name in buffers}

    buffers = [name for name, value in first.named_buffers() if value.is_floating_point()]
    losses = measure_rows(
        row_at, size, first, config, dataset, part, num_rows, buffers_at=buffers_at
    )["loss"]
    return Line(position=position, loss=np.array(losses))


def _floats(net: nn.Module) -> dict[str, Tensor]:
    """Return everything that can be mixed: weights and running statistics, but no counters."""
    named = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    return {name: value.detach() for name, value in named.items() if value.is_floating_point()}
