"""Backpropagation by the lecture's equations, and its relatives with random feedback.

Sources: lecture, p. 25 and 30; Lillicrap et al. 2016, "Random synaptic feedback weights support
error backpropagation for deep learning"; Nøkland 2016, "Direct feedback alignment provides
learning in deep neural networks".
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from trainers.learning_rules.connections import Connections
from trainers.learning_rules.interface import Lanes, Stateless, xavier
from trainers.learning_rules.net import Net, Pass, Updates


class Backprop(Stateless):
    """delta_l = (delta_{l+1} W_{l+1}) * g'(z_l), starting from e = prediction - target."""

    def updates(self, net: Net, x: Tensor, target: Tensor, lanes: Lanes) -> Updates:
        """Return the mean loss's exact gradient."""
        run = net.forward(x, target)
        return net.updates_of(run, self._deltas(net, run, lanes))

    def _deltas(self, net: Net, run: Pass, lanes: Lanes) -> list[Tensor]:
        deltas = [run.error]
        for layer in range(net.num_layers - 1, 0, -1):
            back = net.layers[layer].back(deltas[0], self._feedback(net, layer, lanes))
            deltas.insert(0, net.through(back, run.inputs[layer]))
        return deltas

    def _feedback(self, net: Net, layer: int, lanes: Lanes) -> Tensor:
        """Return what carries a layer's error down, shaped as its weight."""
        return net.weights[layer]


class FeedbackAlignment(Backprop):
    """As backprop, with a fixed random matrix of the shape of each W in its place.

    Errors come down the net's own connections: those of a locally connected layer to its fields
    only (Bartunov et al. 2018), those of a convolution through one random kernel.
    """

    def fixed(
        self, layers: Sequence[Connections], generator: np.random.Generator
    ) -> dict[str, Tensor]:
        """Draw a matrix for every layer but the first, which passes nothing down."""
        return {
            f"{place}": xavier(layer.weight_shape, layer.fans, generator)
            for place, layer in enumerate(layers)
            if place > 0
        }

    def _feedback(self, net: Net, layer: int, lanes: Lanes) -> Tensor:
        return lanes.fixed[f"{layer}"] * lanes.constants["feedback_scale"]


class DirectFeedbackAlignment(Stateless):
    """delta_l = (e B_l) * g'(z_l): the output's error goes to every hidden layer directly."""

    def fixed(
        self, layers: Sequence[Connections], generator: np.random.Generator
    ) -> dict[str, Tensor]:
        """Draw B_l [C, units] from U(-1, 1) / sqrt(units) for every hidden layer."""
        num_outputs = layers[-1].num_units
        drawn = {}
        for place, layer in enumerate(layers[:-1]):
            values = generator.uniform(-1, 1, size=(num_outputs, layer.num_units))
            drawn[f"{place}"] = torch.from_numpy(values / layer.num_units**0.5)
        return drawn

    def updates(self, net: Net, x: Tensor, target: Tensor, lanes: Lanes) -> Updates:
        """Return updates; no layer waits for the one above it."""
        run = net.forward(x, target)
        error = run.error * lanes.constants["feedback_scale"]
        deltas = [
            net.through(torch.bmm(error, lanes.fixed[f"{layer}"]), run.inputs[layer + 1])
            for layer in range(net.num_layers - 1)
        ]
        return net.updates_of(run, [*deltas, run.error])


class ForwardOnly(Stateless):
    """No feedback at all (lecture, p. 32): hidden weights stay as drawn, the readout learns."""

    def updates(self, net: Net, x: Tensor, target: Tensor, lanes: Lanes) -> Updates:
        """Return the readout's gradient, and 0 for every hidden layer."""
        return net.readout_only(net.forward(x, target))
