"""An ordinary module made ready for lanes: its noise comes from outside, its calls are known."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trainers.models.dropout import LaneDropout, MaskSource


@dataclass(frozen=True, eq=False)
class PreparedModule:
    """A module whose elementwise dropouts are `LaneDropout`s, and what a forward pass does.

    Dropouts are counted by call, not by module: one that is called twice draws twice.
    """

    module: nn.Module
    dropout_shapes: list[tuple[int, ...]]
    """Shape of one row of each dropout call's input."""
    dropout_rates: list[float]
    draws: bool
    """Whether the forward pass takes numbers from torch's global generator itself."""


def prepare(module: nn.Module, rows: Tensor) -> PreparedModule:
    """Swap `nn.Dropout` for `LaneDropout` and watch one training pass over a few rows.

    Args:
        module: Changed in place where it has dropouts; its weights and buffers are not.
        rows: A few inputs [n, *row] in the module's dtype and on its device.
    """
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Dropout:
                setattr(parent, name, LaneDropout(child.p))
    twin = copy.deepcopy(module).train()
    calls: list[tuple[tuple[int, ...], float]] = []
    for part in dropouts_of(twin):
        part.mask_source = _watch(part, calls)
    with torch.random.fork_rng(), torch.no_grad():
        before = torch.random.get_rng_state()
        twin(rows)
        draws = not torch.equal(before, torch.random.get_rng_state())
    return PreparedModule(module, [shape for shape, _ in calls], [p for _, p in calls], draws)


def _watch(dropout: LaneDropout, calls: list[tuple[tuple[int, ...], float]]) -> MaskSource:
    """Return a mask source that keeps everything and notes each call."""

    def keep_all(x: Tensor) -> None:
        calls.append((tuple(x.shape[1:]), dropout.p))

    return keep_all


def dropouts_of(module: nn.Module) -> list[LaneDropout]:
    """Return the module's dropouts; going through all of its parts takes a while."""
    return [part for part in module.modules() if isinstance(part, LaneDropout)]


@contextmanager
def masks_from(dropouts: Sequence[LaneDropout], masks: Sequence[Tensor]) -> Iterator[None]:
    """Let dropouts take these masks [B, *shape], call after call.

    Without any masks every dropout keeps everything.
    """
    queue = iter(masks)

    def take(x: Tensor) -> Tensor | None:
        return next(queue) if masks else None

    for part in dropouts:
        part.mask_source = take
    try:
        yield
    finally:
        for part in dropouts:
            part.mask_source = None
