"""All parameters of a lane in one flat row.

Rows make updates, penalties, norms, copies and checkpoints one operation each, however many
tensors a model has. Shapes: L lanes, P numbers in a row.

The canonical layout is that of checkpoints: weights first, then biases and normalisation, both in
the module's order, without gaps. So everything that decays is one slice. Kernels may use a layout
with padding and translate at the border.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class FlatEntry:
    """Where one parameter lies in a row."""

    name: str
    shape: tuple[int, ...]
    offset: int
    decays: bool
    """A weight (two or more dimensions), on which penalties act."""

    @property
    def size(self) -> int:
        """Numbers in it."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class FlatLayout:
    """Where each parameter lies in a row of `size` numbers."""

    entries: tuple[FlatEntry, ...]
    size: int
    num_decaying: int
    """The first so many numbers are weights."""

    @classmethod
    def of(cls, module: nn.Module) -> Self:
        """Return the canonical layout; parameters that share memory appear once."""
        return cls.from_shapes({name: tuple(p.shape) for name, p in module.named_parameters()})

    @classmethod
    def from_shapes(cls, shapes: Mapping[str, tuple[int, ...]], align: int = 1) -> Self:
        """Lay out tensors, each starting at a multiple of `align` numbers."""
        order = sorted(shapes.items(), key=lambda item: len(item[1]) < 2)  # stable: weights first
        entries, offset, num_decaying = [], 0, 0
        for name, shape in order:
            entry = FlatEntry(name, shape, offset, decays=len(shape) >= 2)
            entries.append(entry)
            offset += -(-entry.size // align) * align
            if entry.decays:
                num_decaying = offset
        return cls(tuple(entries), offset, num_decaying)

    @cached_property
    def by_name(self) -> dict[str, FlatEntry]:
        """The entries by parameter name."""
        return {entry.name: entry for entry in self.entries}

    def views(self, rows: Tensor) -> dict[str, Tensor]:
        """Return each parameter of rows [L, P] as a view [L, *shape]."""
        return {entry.name: self.view(rows, entry.name) for entry in self.entries}

    def view(self, rows: Tensor, name: str) -> Tensor:
        """Return one parameter of rows [L, P] as a view [L, *shape]."""
        entry = self.by_name[name]
        flat = rows[:, entry.offset : entry.offset + entry.size]
        return flat.view(len(rows), *entry.shape)

    def write(self, module: nn.Module, row: Tensor) -> None:
        """Copy a row [P] into the module's parameters."""
        with torch.no_grad():
            views = self.views(row[None])
            for name, parameter in module.named_parameters():
                parameter.copy_(views[name][0])

    def read(self, module: nn.Module, row: Tensor) -> None:
        """Copy the module's parameters into a row [P]."""
        with torch.no_grad():
            views = self.views(row[None])
            for name, parameter in module.named_parameters():
                views[name][0].copy_(parameter)

    def positions_of(self, names: Collection[str]) -> Tensor:
        """Return where the numbers of parameters lie whose own name is in `names`, int64."""
        parts = [
            torch.arange(entry.offset, entry.offset + entry.size)
            for entry in self.entries
            if entry.name.rpartition(".")[2] in names
        ]
        return torch.cat(parts) if parts else torch.empty(0, dtype=torch.int64)

    def positions_in(self, padded: FlatLayout) -> Tensor:
        """Return where each number of this layout lies in a padded one, int64 [P].

        A padded tensor may be larger than the plain one in its first dimension only.
        """
        parts: Sequence[Tensor] = [
            torch.arange(entry.size) + padded.by_name[entry.name].offset for entry in self.entries
        ]
        return torch.cat(list(parts)) if parts else torch.empty(0, dtype=torch.int64)
