"""Stacked nets as the learning rules see them, one forward pass written out.

Shapes: W lanes (trials side by side), B rows of a batch, C outputs. Layers are counted from 0, as
in lists; `inputs[l]` are the activations h that go into layer l, `pre[l]` what it makes of them
before the activation. Weights are [W, rows, K]: [W, out, in] in a dense layer, as in `nn.Linear`;
see `connections` for the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trainers.activations import activate
from trainers.config import Activation
from trainers.learning_rules.connections import (
    Connections,
    LayeredModel,
    connections_of,
    weight_layers,
)
from trainers.losses import LossKind

_aten = torch.ops.aten


@dataclass(frozen=True)
class Pass:
    """What one forward pass leaves behind (lecture, p. 30)."""

    inputs: Sequence[Tensor]
    """h of every layer's input, [W, B, in]; the first is the batch itself."""
    pre: Sequence[Tensor]
    """z of every layer, [W, B, out]; the last are the net's outputs."""
    prediction: Tensor
    """Softmax of the outputs under cross-entropy, else the outputs themselves, [W, B, C]."""
    error: Tensor
    """e = prediction - target, the loss's slope by the outputs row by row, [W, B, C]."""
    row_losses: Tensor
    """[W, B]"""

    @property
    def loss(self) -> Tensor:
        """Each lane's mean loss, [W]."""
        return self.row_losses.mean(1)


@dataclass(frozen=True)
class Updates:
    """What a rule puts in the gradient's place: the optimizer goes against it."""

    loss: Tensor
    """Each lane's mean loss before the update, [W]."""
    weights: Sequence[Tensor]
    """[W, rows, K] for each layer."""
    biases: Sequence[Tensor]
    """[W, rows] for each layer; a row per unit where it is locally connected."""


@dataclass(frozen=True)
class Net:
    """W nets of one shape."""

    layers: Sequence[Connections]
    """How each layer is wired."""

    weights: Sequence[Tensor]
    """[W, rows, K] for each layer."""
    biases: Sequence[Tensor]
    """[W, rows] for each layer; a row per unit where it is locally connected."""
    activation: Activation
    loss: LossKind

    @classmethod
    def of(cls, module: LayeredModel, activation: Activation, loss: LossKind) -> Net:
        """See one ordinary module as a net of one lane; it shares the module's memory."""
        names = [name for name, _ in weight_layers(module)]
        read = module.get_parameter
        return cls(
            layers=connections_of(module),
            weights=[read(f"{name}.weight").detach().flatten(1)[None] for name in names],
            biases=[read(f"{name}.bias").detach()[None] for name in names],
            activation=activation,
            loss=loss,
        )

    @property
    def num_layers(self) -> int:
        """Hidden layers and the readout."""
        return len(self.weights)

    def linear(self, layer: int, h: Tensor) -> Tensor:
        """Return z = W h + b of one layer, [W, B, out]."""
        return self.layers[layer].forward(h, self.weights[layer], self.biases[layer])

    def back(self, layer: int, delta: Tensor) -> Tensor:
        """Return delta W, what a layer's units send down, [W, B, in]."""
        return self.layers[layer].back(delta, self.weights[layer])

    def activate(self, z: Tensor) -> Tensor:
        """Apply the hidden activation."""
        return activate(self.activation, z)

    def through(self, delta: Tensor, h: Tensor) -> Tensor:
        """Return delta * g'(z), where h = g(z): every activation's slope follows from its value."""
        return times_slope(self.activation, delta, h)

    def outputs(self, x: Tensor) -> Tensor:
        """Return logits or numbers [W, B, C] for x [W, B, in]."""
        h = x
        for layer in range(self.num_layers - 1):
            h = self.activate(self.linear(layer, h))
        return self.linear(self.num_layers - 1, h)

    def forward(self, x: Tensor, target: Tensor) -> Pass:
        """Run a batch x [W, B, in] with targets [W, B, C]: one-hot (or smoothed), or numbers."""
        inputs, pre = [x], []
        for layer in range(self.num_layers):
            z = self.linear(layer, inputs[-1])
            pre.append(z)
            if layer < self.num_layers - 1:
                inputs.append(self.activate(z))
        prediction = self.predict(pre[-1])
        return Pass(inputs, pre, prediction, prediction - target, self.row_losses(pre[-1], target))

    def predict(self, outputs: Tensor) -> Tensor:
        """Return probabilities under cross-entropy, else the outputs themselves."""
        return outputs.softmax(-1) if self.loss == "cross_entropy" else outputs

    def row_losses(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Return the loss of each row, [W, B] (lecture, p. 18)."""
        if self.loss == "cross_entropy":
            return -(target * outputs.log_softmax(-1)).sum(-1)
        return 0.5 * (outputs - target).square().sum(-1)

    def updates_of(self, run: Pass, deltas: Sequence[Tensor]) -> Updates:
        """Return what each layer's own delta [W, B, out] and input ask for.

        This is the layer-local part of every error-driven rule: dW = delta^T h / B, db = mean
        delta (lecture, p. 25 and 30).
        """
        parts = list(zip(self.layers, deltas, run.inputs, strict=True))
        return Updates(
            loss=run.loss,
            weights=[layer.weight_update(delta, h) for layer, delta, h in parts],
            biases=[layer.bias_update(delta) for layer, delta, _ in parts],
        )

    def readout_only(self, run: Pass) -> Updates:
        """Return updates that train the last layer by its exact gradient, and no other."""
        num_rows = run.error.shape[1]
        weights = [torch.zeros_like(weight) for weight in self.weights]
        biases = [torch.zeros_like(bias) for bias in self.biases]
        torch.bmm(run.error.transpose(1, 2), run.inputs[-1], out=weights[-1]).div_(num_rows)
        biases[-1].copy_(run.error.mean(1))
        return Updates(run.loss, weights, biases)


def times_slope(activation: Activation, delta: Tensor, h: Tensor) -> Tensor:
    """Return delta * g'(z) from h = g(z); ReLU's slope at 0 is 0 (lecture, p. 30)."""
    result: Tensor
    if activation == "relu":
        result = _aten.threshold_backward(delta, h, 0.0)
    elif activation == "tanh":
        result = _aten.tanh_backward(delta, h)
    elif activation == "sigmoid":
        result = _aten.sigmoid_backward(delta, h)
    elif activation == "elu":
        result = _aten.elu_backward(delta, 1.0, 1.0, 1.0, True, h)
    else:
        result = delta  # the identity
    return result
