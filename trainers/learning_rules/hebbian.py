"""Hebbian rules for hidden layers, with a readout that learns by its exact gradient.

Hidden layers see no label. With x a layer's input and y = W x (before bias and activation), the
change of W is, averaged over a batch:

- oja: y_i (x - y_i w_i): each unit finds the leading principal component, |w| -> 1 (Oja 1982);
- sanger: y_i (x - sum_{j <= i} y_j w_j): units find the components in order (Sanger 1989);
- competitive: the unit with the largest response is pulled to x, the k-th is pushed away, divided
  by the largest change (Krotov & Hopfield 2019, "Unsupervised learning by competing hidden units").

The plain rule y x^T of the lecture's page 32 grows without bound, so it is not offered.
"""

from __future__ import annotations

import torch
from torch import Tensor

from trainers.learning_rules.interface import Lanes, Stateless
from trainers.learning_rules.net import Net, Updates

_TINY = 1e-30


class Hebbian(Stateless):
    """One of the three rules for every hidden layer; biases of hidden layers stay."""

    def updates(self, net: Net, x: Tensor, target: Tensor, lanes: Lanes) -> Updates:
        """Return the readout's gradient, and for hidden layers the change's negative."""
        run = net.forward(x, target)
        updates = net.readout_only(run)
        rate = lanes.constants["hidden_rate"]
        for place, layer in enumerate(net.layers[:-1]):
            weight = net.weights[place]
            change = self.change(layer.grouped(weight), layer.fields(run.inputs[place]), lanes)
            change = layer.ungrouped(change, len(weight))
            if self.config.kind == "competitive":
                change /= change.abs().amax((1, 2), keepdim=True).clamp(min=_TINY)
            updates.weights[place].copy_(-rate * change)
        return updates

    def change(self, weight: Tensor, x: Tensor, lanes: Lanes) -> Tensor:
        """Return the change [G, O, K] that inputs x [G, R, K] ask of G groups of units.

        A dense layer is one group per lane; of a locally connected one, the channels of each
        position are a group, and so are those of a convolution, for which positions are rows.
        """
        y = torch.bmm(x, weight.transpose(1, 2))  # [G, R, O]
        if self.config.kind == "competitive":
            return self._compete(weight, x, y, lanes)
        num_rows = x.shape[1]
        correlation = torch.bmm(y.transpose(1, 2), x) / num_rows
        if self.config.kind == "oja":
            return correlation - y.square().mean(1).unsqueeze(2) * weight
        own = torch.bmm(y.transpose(1, 2), y) / num_rows  # [G, O, O]
        return correlation - torch.bmm(own.tril(), weight)

    def _compete(self, weight: Tensor, x: Tensor, y: Tensor, lanes: Lanes) -> Tensor:
        order = y.argsort(dim=-1, descending=True, stable=True)
        sign = torch.zeros_like(y)
        sign.scatter_(2, order[..., :1], 1.0)
        loser = order[..., self.config.competition_rank - 1, None]
        push = lanes.constants["anti_hebbian"]
        push = push.repeat_interleave(len(y) // len(push), dim=0)  # groups of a lane are neighbours
        sign.scatter_(2, loser, -push.expand_as(loser).to(y.dtype))
        change = torch.bmm(sign.transpose(1, 2), x)
        return change - (sign * y).sum(1).unsqueeze(2) * weight
