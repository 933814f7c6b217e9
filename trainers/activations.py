"""Activations by name, with their derivatives (lecture, p. 13, 30 and 58)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from trainers.config import Activation

MODULES: dict[Activation, type[nn.Module]] = {
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "elu": nn.ELU,
    "identity": nn.Identity,
}

_FUNCTIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": torch.relu,
    "elu": nn.functional.elu,
    "identity": lambda z: z,
}


def activation_module(name: Activation) -> nn.Module:
    """Return a fresh torch module of the activation; ELU has torch's default alpha 1."""
    return MODULES[name]()


def activate(name: Activation, z: Tensor) -> Tensor:
    """Apply the activation to pre-activations `z` of any shape."""
    return _FUNCTIONS[name](z)


def derivative(name: Activation, z: Tensor) -> Tensor:
    """Return g'(z), elementwise; at 0 the derivative of ReLU is 0, as in torch (lecture, p. 30)."""
    if name == "sigmoid":
        s = torch.sigmoid(z)
        return s * (1 - s)
    if name == "tanh":
        return 1 - torch.tanh(z).square()
    if name == "relu":
        return (z > 0).to(z.dtype)
    if name == "elu":
        return torch.where(z > 0, torch.ones_like(z), torch.exp(z.clamp(max=0)))
    return torch.ones_like(z)
