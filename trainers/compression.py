"""Smaller nets after training: magnitude pruning without retraining, and 8-bit weights (p. 66).

Pruning while training is the section `pruning` of a trial. Quantisation is symmetric and uniform
(Jacob et al., "Quantization and training of neural networks", CVPR 2018): one scale per tensor,
and 0 stays 0, so a pruned net stays pruned.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from trainers.config import TrialConfig
from trainers.data import Dataset
from trainers.errors import ConfigError
from trainers.lanes.cutting import cut_share
from trainers.lanes.flat import FlatLayout
from trainers.lanes.many import measure_rows

LARGEST_INT8 = 127


@dataclass(frozen=True, kw_only=True)
class SparsityPoint:
    """One degree of pruning."""

    sparsity: float
    """Share of all weights that is 0, as counted."""
    metrics: dict[str, float]
    """`loss` and the task's others."""


def sparsity_curve(
    module: nn.Module,
    config: TrialConfig,
    dataset: Dataset,
    sparsities: Sequence[float],
    part: Literal["train", "val"] = "val",
) -> list[SparsityPoint]:
    """Cut so much of each layer's smallest weights, and measure; all degrees in one pass.

    Args:
        module: The trained model; not changed.
        config: Its configuration.
        dataset: Its data.
        sparsities: Shares of each weight tensor, each in [0, 1].
        part: Which rows are measured.

    Raises:
        ConfigError: for a share outside [0, 1].

    """
    wrong = [share for share in sparsities if not 0 <= share <= 1]
    if wrong:
        raise ConfigError(f"a sparsity must be a share from 0 to 1, but got {wrong[0]}; try 0.9")
    layout = FlatLayout.of(module)
    row = torch.zeros(layout.size, dtype=next(module.parameters()).dtype)
    layout.read(module, row)
    rows = [row.masked_fill(cut_share(layout, row, share), 0.0) for share in sparsities]
    found = measure_rows(rows.__getitem__, len(rows), module, config, dataset, part)
    return [
        SparsityPoint(
            sparsity=float((pruned[: layout.num_decaying] == 0).double().mean()),
            metrics={name: values[place] for name, values in found.items()},
        )
        for place, pruned in enumerate(rows)
    ]


@dataclass(frozen=True, kw_only=True, eq=False)
class QuantisedTensor:
    """w is near values * scale, and never further than scale / 2."""

    values: Tensor
    """int8, of the weights' shape, from -127 to 127."""
    scale: float

    def restored(self) -> Tensor:
        """Return float64 weights."""
        return self.values.double() * self.scale


@dataclass(frozen=True, kw_only=True, eq=False)
class QuantisedModule:
    """A model whose weight tensors are 8 bits a number; biases and buffers are left as they are."""

    weights: dict[str, QuantisedTensor]
    original: nn.Module

    def module(self) -> nn.Module:
        """Return an ordinary module that computes with the restored weights."""
        twin = copy.deepcopy(self.original)
        with torch.no_grad():
            for name, quantised in self.weights.items():
                twin.get_parameter(name).copy_(quantised.restored())
        return twin

    @property
    def weight_bytes(self) -> int:
        """Bytes of the weights and their scales (4 bytes each)."""
        return sum(q.values.numel() + 4 for q in self.weights.values())

    @property
    def original_weight_bytes(self) -> int:
        """Bytes of the same weights before."""
        parts = [self.original.get_parameter(name) for name in self.weights]
        return sum(part.numel() * part.element_size() for part in parts)


def quantise_tensor(weights: Tensor) -> QuantisedTensor:
    """Round weights to the nearest of 255 evenly spaced numbers around 0.

    Raises:
        ConfigError: for weights that are not finite.

    """
    largest = float(weights.detach().double().abs().max()) if weights.numel() else 0.0
    if not largest < float("inf"):
        raise ConfigError(
            f"weights must be finite to be quantised, but the largest is {largest}; the trial "
            "diverged: choose another"
        )
    scale = largest / LARGEST_INT8 or 1.0
    values = (weights.detach().double() / scale).round().clamp(-LARGEST_INT8, LARGEST_INT8)
    return QuantisedTensor(values=values.to(torch.int8), scale=scale)


def quantise(module: nn.Module) -> QuantisedModule:
    """Quantise every weight tensor (two axes or more) of a trained model; it is not changed.

    Raises:
        ConfigError: as `quantise_tensor`.

    """
    return QuantisedModule(
        weights={
            name: quantise_tensor(parameter)
            for name, parameter in module.named_parameters()
            if parameter.ndim >= 2
        },
        original=module,
    )
