"""Losses that a model adds to the data's own while training, such as a balance of experts."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn


class WithAuxiliaryLoss(nn.Module):
    """A layer that leaves a loss term behind in each training pass."""

    auxiliary_loss: Tensor | None = None
    """[]; None in evaluation."""


def layers_with_auxiliary_loss(module: nn.Module) -> list[WithAuxiliaryLoss]:
    """Return the module's layers that may leave a loss behind; going through all takes a while."""
    return [part for part in module.modules() if isinstance(part, WithAuxiliaryLoss)]


def take_auxiliary_loss(layers: Iterable[WithAuxiliaryLoss]) -> Tensor | None:
    """Return the sum of what the layers left behind in the last pass, and clear it.

    None where no layer left anything. It has to be taken within the pass that made it: under
    `torch.func.vmap` what is left behind is meaningless outside.
    """
    total: Tensor | None = None
    for layer in layers:
        if layer.auxiliary_loss is not None:
            total = layer.auxiliary_loss if total is None else total + layer.auxiliary_loss
            layer.auxiliary_loss = None
    return total
