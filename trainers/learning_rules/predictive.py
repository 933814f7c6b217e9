"""Predictive coding: activities settle first, then every layer learns from its own error.

Sources: Whittington & Bogacz 2017, "An approximation of the error backpropagation algorithm in a
predictive coding network with local Hebbian synaptic plasticity"; Rosenbaum 2022, "On the
relationship between predictive coding and backpropagation" (Torch2PC, whose signs are used here);
lecture, p. 32.
"""

from __future__ import annotations

from torch import Tensor

from trainers.learning_rules.interface import Lanes, Stateless
from trainers.learning_rules.net import Net, Pass, Updates


class PredictiveCoding(Stateless):
    """v += eta (eps - J^T eps_above), `num_sweeps` times; then dW = (eps * g')^T v_below / B.

    eps = prediction - v is the error of a hidden layer, e = dloss/doutput that of the last.
    Prediction `fixed` holds predictions and slopes at the forward pass.
    """

    def updates(self, net: Net, x: Tensor, target: Tensor, lanes: Lanes) -> Updates:
        """Let activities settle, then return each layer's own update."""
        run = net.forward(x, target)
        settle = self._strict if self.config.prediction == "strict" else self._fixed
        settled, deltas = settle(net, run, target, lanes)
        updates = net.updates_of(settled, deltas)
        return Updates(run.loss, updates.weights, updates.biases)

    def _fixed(
        self, net: Net, run: Pass, target: Tensor, lanes: Lanes
    ) -> tuple[Pass, list[Tensor]]:
        rate, h = lanes.constants["inference_rate"], run.inputs
        last = net.num_layers - 1
        activities = list(h)
        for _ in range(self.config.num_sweeps):
            errors = [h[i] - activities[i] for i in range(1, last + 1)]  # of hidden layers
            deltas = [net.through(error, h[i + 1]) for i, error in enumerate(errors)]
            deltas.append(run.error)
            for i in range(1, last + 1):
                down = net.back(i, deltas[i])
                activities[i] = activities[i] + rate * (errors[i - 1] - down)
        errors = [h[i] - activities[i] for i in range(1, last + 1)]
        return run, [*(net.through(e, h[i + 1]) for i, e in enumerate(errors)), run.error]

    def _strict(
        self, net: Net, run: Pass, target: Tensor, lanes: Lanes
    ) -> tuple[Pass, list[Tensor]]:
        rate = lanes.constants["inference_rate"]
        last = net.num_layers - 1
        activities = list(run.inputs)
        errors, deltas = _local_errors(net, activities, target)
        for _ in range(self.config.num_sweeps):
            for i in range(1, last + 1):
                down = net.back(i, deltas[i])
                activities[i] = activities[i] + rate * (errors[i - 1] - down)
            errors, deltas = _local_errors(net, activities, target)
        settled = Pass(activities, run.pre, run.prediction, run.error, run.row_losses)
        return settled, deltas


def _local_errors(
    net: Net, activities: list[Tensor], target: Tensor
) -> tuple[list[Tensor], list[Tensor]]:
    """Return eps of each hidden layer, and each layer's delta, at the present activities."""
    errors, deltas = [], []
    for layer in range(net.num_layers - 1):
        predicted = net.activate(net.linear(layer, activities[layer]))
        errors.append(predicted - activities[layer + 1])
        deltas.append(net.through(errors[-1], predicted))
    outputs = net.linear(net.num_layers - 1, activities[-1])
    return errors, [*deltas, net.predict(outputs) - target]
