"""Target propagation: DTP, SDTP and AO-SDTP.

Sources: Lee et al. 2015, "Difference target propagation"; Bartunov et al. 2018, "Assessing the
scalability of biologically-motivated deep learning algorithms and architectures" (lecture, p. 34).

Each hidden layer gets a target t for its activity h and moves towards it: with the loss
|h - t|^2 / 2 its delta is (h - t) * g'(z). Targets come down through learned inverse nets,
t_l = h_l - inv(h_{l+1}) + inv(t_{l+1}), inv(u) = g(u V + c). V runs over the layer's own
connections: to a locally connected layer's fields, through a convolution's transpose. The rules
differ in where targets start:

- dtp: one gradient step at the last hidden layer, h - target_step * e W;
- sdtp: the output's target is the label itself, through an inverse of the output layer as well;
- ao_sdtp: that inverse also sees fixed random features z of the last hidden layer, whose targets
  are their own values, because ten outputs say little about hundreds of activities.

With the transposed Jacobian as the inverse and target_step 1, dtp is backprop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from trainers.learning_rule_config import LearningRuleConfig
from trainers.learning_rules.connections import Connections
from trainers.learning_rules.interface import Lanes, Stateless, xavier
from trainers.learning_rules.net import Net, Pass, Updates

_BETA1, _BETA2, _EPS = 0.9, 0.999, 1e-8
Inverse = Callable[[int, Tensor], Tensor]
"""(layer, its activity or target [W, B, out]) -> the activity below, [W, B, in]."""


class TargetPropagation(Stateless):
    """The whole family; `config.kind` and `config.mode` decide."""

    def __init__(self, config: LearningRuleConfig) -> None:
        super().__init__(config)
        self.alternates = config.mode == "alternating"
        self._starts_at_label = config.kind != "dtp"
        self._num_auxiliary = config.num_auxiliary if config.kind == "ao_sdtp" else 0

    def fixed(
        self, layers: Sequence[Connections], generator: np.random.Generator
    ) -> dict[str, Tensor]:
        """Draw the auxiliary features' weights [auxiliary, units of the last hidden layer]."""
        if not self._num_auxiliary:
            return {}
        auxiliary = Connections(layers[-1].num_inputs, self._num_auxiliary)
        return {"auxiliary": xavier(auxiliary.weight_shape, auxiliary.fans, generator)}

    def start_state(
        self, layers: Sequence[Connections], generator: np.random.Generator
    ) -> dict[str, Tensor]:
        """Draw inverse nets V (shaped as the weight), c [in] and their Adam's moments."""
        state: dict[str, Tensor] = {"updates": torch.zeros(1, 1, dtype=torch.float64)}
        for place in self._inverted(len(layers)):
            layer = self._inverse_of(layers, place)
            state[f"V{place}"] = xavier(layer.weight_shape, layer.fans, generator)
            state[f"c{place}"] = torch.zeros(1, layer.num_inputs, dtype=torch.float64)
            for name in (f"V{place}", f"c{place}"):
                state[f"{name}.mean"] = torch.zeros_like(state[name])
                state[f"{name}.square"] = torch.zeros_like(state[name])
        return state

    def _inverse_of(self, layers: Sequence[Connections], place: int) -> Connections:
        """Return the connections that a layer's inverse runs backwards.

        They are the layer's own; the last layer's inverse sees the auxiliary features as well.
        """
        layer = layers[place]
        if place == len(layers) - 1:
            return Connections(layer.num_inputs, layer.num_units + self._num_auxiliary)
        return layer

    def _inverted(self, num_layers: int) -> range:
        """Return the layers that have an inverse: not the first, whose target would be the data."""
        return range(1, num_layers if self._starts_at_label else num_layers - 1)

    def updates(self, net: Net, x: Tensor, target: Tensor, lanes: Lanes) -> Updates:
        """Return updates from today's inverse nets, then train those for a step."""
        run = net.forward(x, target)
        deltas = self.deltas(
            net, run, target, lanes, lambda layer, u: self._invert(net, layer, u, lanes)
        )
        updates = net.updates_of(run, deltas)
        self._train_inverses(net, run, lanes)
        return updates

    def deltas(
        self, net: Net, run: Pass, target: Tensor, lanes: Lanes, inverse: Inverse
    ) -> list[Tensor]:
        """Return each layer's delta [W, B, out] under targets that `inverse` carries down."""
        last = net.num_layers - 1
        h = run.inputs
        if self._starts_at_label:
            z = self._auxiliary(net, h[last], lanes)
            step = inverse(last, _beside(target, z)) - inverse(last, _beside(run.prediction, z))
        else:
            step = -lanes.constants["target_step"] * net.back(last, run.error)
        deltas = [run.error]
        for layer in range(last, 0, -1):
            # step = target - activity of what goes into `layer`
            deltas.insert(0, net.through(-step, h[layer]))
            if layer > 1:
                step = inverse(layer - 1, h[layer] + step) - inverse(layer - 1, h[layer])
        return deltas

    def _auxiliary(self, net: Net, h: Tensor, lanes: Lanes) -> Tensor | None:
        if not self._num_auxiliary:
            return None
        return net.activate(torch.bmm(h, lanes.fixed["auxiliary"].transpose(1, 2)))

    def _train_inverses(self, net: Net, run: Pass, lanes: Lanes) -> None:
        """Let every inverse net take a step of Adam.

        From noisy activities h + noise, dtp restores the noisy ones, sdtp and ao_sdtp the clean
        ones (Bartunov et al., supplement).
        """
        lanes.state["updates"].add_(1 if lanes.trains_state is None else lanes.trains_state)
        for layer in self._inverted(net.num_layers):
            clean = run.inputs[layer]
            noise = lanes.normal(clean.shape[1:], clean)
            noisy = clean + lanes.constants["noise"] * noise
            z = net.linear(layer, noisy)
            if layer == net.num_layers - 1:
                above = _beside(net.predict(z), self._auxiliary(net, noisy, lanes))
            else:
                above = net.activate(z)
            restored = self._invert(net, layer, above, lanes)
            miss = restored - (clean if self._starts_at_label else noisy)
            delta = net.through(miss, restored)
            # The inverse carries `above` down, so its weight's update is that of a layer whose
            # inputs are its outputs: delta takes the inputs' place.
            gradient = self._inverse_of(net.layers, layer).weight_update(above, delta)
            _adam(lanes, f"V{layer}", gradient)
            _adam(lanes, f"c{layer}", delta.mean(1, keepdim=True))

    def _invert(self, net: Net, layer: int, u: Tensor, lanes: Lanes) -> Tensor:
        """Return g(u V + c), what the inverse net makes of a layer's activity."""
        down = self._inverse_of(net.layers, layer).back(u, lanes.state[f"V{layer}"])
        return net.activate(down + lanes.state[f"c{layer}"])


def _beside(outputs: Tensor, auxiliary: Tensor | None) -> Tensor:
    return outputs if auxiliary is None else torch.cat([outputs, auxiliary], dim=-1)


def _adam(lanes: Lanes, name: str, gradient: Tensor) -> None:
    """Update one tensor of the state in place, where the lane trains it."""
    values, mean, square = (lanes.state[name + end] for end in ("", ".mean", ".square"))
    acts = lanes.trains_state
    t = lanes.state["updates"].to(gradient.dtype)
    new_mean = _BETA1 * mean + (1 - _BETA1) * gradient
    new_square = _BETA2 * square + (1 - _BETA2) * gradient.square()
    root = (new_square / (1 - _BETA2**t).clamp(min=_EPS)).sqrt() + _EPS
    step = lanes.constants["inverse_lr"] * new_mean / (1 - _BETA1**t).clamp(min=_EPS) / root
    if acts is None:
        mean.copy_(new_mean)
        square.copy_(new_square)
        values.sub_(step)
    else:
        mean.lerp_(new_mean, acts)
        square.lerp_(new_square, acts)
        values.sub_(step * acts)
