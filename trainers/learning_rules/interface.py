"""What a learning rule is: from a net, its parameters and a batch to one update per layer.

Some rules need more than the batch: fixed random matrices (drawn once from the trial's seed), noise
(from the trial's seed, epoch by epoch), or a state of their own, such as inverse nets. All of it
comes from outside, stacked over W lanes, so that a rule gives a trial the same update alone and in
any pack.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from trainers.learning_rule_config import LearningRuleConfig
from trainers.learning_rules.connections import Connections
from trainers.learning_rules.net import Net, Updates
from trainers.noise import philox


@dataclass
class Lanes:
    """What belongs to the lanes of one call beside their weights.

    Attributes:
        constants: Each lane's own numbers by name, [W, 1, 1].
        fixed: Random tensors that never change, [W, ...].
        state: The rule's own tensors, [W, ...]; a rule changes them in place.
        generators: One stream of noise per lane.
        trains_state: 1 for a lane whose state is trained at this step, else 0, [W, 1, 1]; None:
            all are.

    """

    constants: Mapping[str, Tensor] = field(default_factory=dict)
    fixed: Mapping[str, Tensor] = field(default_factory=dict)
    state: Mapping[str, Tensor] = field(default_factory=dict)
    generators: Sequence[np.random.Generator] = ()
    trains_state: Tensor | None = None

    def normal(self, shape: Sequence[int], like: Tensor) -> Tensor:
        """Return standard normals [W, *shape]; each lane's come from its own stream."""
        rows = [g.standard_normal(tuple(shape)) for g in self.generators]
        return torch.from_numpy(np.stack(rows)).to(like.device, like.dtype)

    def integers(self) -> list[int]:
        """Return one number per lane from its stream, as a seed for a library's generator."""
        return [int(generator.integers(2**31)) for generator in self.generators]


class LearningRule(Protocol):
    """One rule with what all lanes share of its settings."""

    alternates: bool
    """Whether epochs train state and weights in turn."""
    keeps_float64: bool
    """Whether the state stays in float64, whatever the parameters are in."""

    def fixed(
        self, layers: Sequence[Connections], generator: np.random.Generator
    ) -> dict[str, Tensor]:
        """Draw one lane's fixed random tensors, in float64."""

    def start_state(
        self, layers: Sequence[Connections], generator: np.random.Generator
    ) -> dict[str, Tensor]:
        """Draw one lane's own state as it is before training, in float64."""

    def updates(self, net: Net, x: Tensor, target: Tensor, lanes: Lanes) -> Updates:
        """Return updates for a batch x [W, B, in] with targets [W, B, C]."""


class Stateless:
    """What most rules have in common: nothing fixed, nothing kept."""

    alternates = False
    keeps_float64 = False

    def __init__(self, config: LearningRuleConfig) -> None:
        self.config = config

    def fixed(
        self, layers: Sequence[Connections], generator: np.random.Generator
    ) -> dict[str, Tensor]:
        """Draw nothing."""
        return {}

    def start_state(
        self, layers: Sequence[Connections], generator: np.random.Generator
    ) -> dict[str, Tensor]:
        """Keep nothing."""
        return {}


def fixed_generator(seed: int) -> np.random.Generator:
    """Return the generator of a trial's fixed tensors."""
    return np.random.Generator(philox(seed, "rule_start", 0))


def state_generator(seed: int) -> np.random.Generator:
    """Return the generator of the start of a trial's state."""
    return np.random.Generator(philox(seed, "rule_start", 1))


def noise_generator(seed: int, epoch: int) -> np.random.Generator:
    """Return the generator of a trial's noise in one epoch."""
    return np.random.Generator(philox(seed, "rule_noise", epoch))


def xavier(shape: tuple[int, int], fans: tuple[int, int], generator: np.random.Generator) -> Tensor:
    """Draw U(-b, b) with b = sqrt(6 / (in + out)), as forward weights of tanh nets are drawn."""
    bound = (6 / sum(fans)) ** 0.5
    return torch.from_numpy(generator.uniform(-bound, bound, size=shape))
