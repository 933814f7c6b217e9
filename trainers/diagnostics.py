"""Whether signals survive the way through a net: dead and saturated units, and their spread.

Shapes: B rows; a layer's activations are [B, units] or [B, channels, *positions].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from trainers.activations import MODULES, derivative
from trainers.config import Activation

SATURATED_BELOW = 0.05
"""A unit is saturated on a row where g' is below this share of its largest value."""
LARGEST_DERIVATIVE: dict[Activation, float] = {
    "sigmoid": 0.25, "tanh": 1.0, "relu": 1.0, "elu": 1.0, "identity": 1.0,
}  # fmt: skip
WELL_BEHAVED = (0.1, 10.0)
"""Every layer's spread should lie within these multiples of the first layer's (lecture, p. 57)."""


@dataclass(frozen=True, kw_only=True)
class LayerSignal:
    """What one activation layer did on a batch."""

    name: str
    std: float
    """Standard deviation of the activations, over rows and units."""
    dead_share: float
    """Share of units (channels) whose derivative is 0 on every row: they cannot learn from it."""
    saturated_share: float
    """Share of (row, unit) pairs whose derivative is below 5 % of its largest value; for ReLU
    these are simply the pairs that are off."""


def layer_signals(model: nn.Module, x: Tensor) -> list[LayerSignal]:
    """Measure every activation layer on rows x [B, ...], in evaluation mode, in call order.

    Activations are found as modules (`nn.ReLU` and its kin); a factory that calls functions
    instead shows none.
    """
    names = {cls: name for name, cls in MODULES.items()}
    found: list[LayerSignal] = []
    handles = []
    for path, module in model.named_modules():
        if type(module) in names:
            record = partial(_record, found, path, names[type(module)])
            handles.append(module.register_forward_hook(record))
    was_training = model.training
    try:
        with torch.no_grad():
            model.eval()(x)
    finally:
        model.train(was_training)
        for handle in handles:
            handle.remove()
    return found


def is_well_behaved(signals: Sequence[LayerSignal]) -> bool:
    """Whether no layer's spread has shrunk or grown more than tenfold against the first's."""
    low, high = WELL_BEHAVED
    return all(low * signals[0].std <= signal.std <= high * signals[0].std for signal in signals)


def update_to_weight_ratio(
    before: Mapping[str, Tensor], after: Mapping[str, Tensor]
) -> dict[str, float]:
    """Return |change| / |weights| (Euclidean norms) of each tensor with two axes or more.

    About 1e-3 per update is a common rule of thumb for a healthy learning rate. A tensor that
    was all zero has ratio infinity, or 0 where it did not change.
    """
    ratios: dict[str, float] = {}
    for name, old in before.items():
        if old.ndim < 2 or not old.is_floating_point():
            continue
        change = float((after[name].double() - old.double()).norm())
        size = float(old.double().norm())
        ratios[name] = change / size if size else (float("inf") if change else 0.0)
    return ratios


def _record(
    found: list[LayerSignal],
    path: str,
    activation: Activation,
    _module: nn.Module,
    inputs: tuple[Tensor, ...],
    output: Tensor,
) -> None:
    """Append one layer's signal: a forward hook, once its first three arguments are bound."""
    found.append(_signal(path, activation, inputs[0], output))


def _signal(path: str, activation: Activation, z: Tensor, output: Tensor) -> LayerSignal:
    slope = derivative(activation, z)
    per_unit = slope.transpose(0, 1).flatten(1)  # [units, rows * positions]
    return LayerSignal(
        name=path,
        std=float(output.std(correction=0)),
        dead_share=float((per_unit == 0).all(dim=1).double().mean()),
        saturated_share=float(
            (slope < SATURATED_BELOW * LARGEST_DERIVATIVE[activation]).double().mean()
        ),
    )
