"""Rules that only compare losses: weight and node perturbation, and evolution strategies.

Sources: Werfel, Xie & Seung 2005, "Learning curves for stochastic gradient descent in linear
feedforward networks" (perturbation); Salimans et al. 2017, "Evolution strategies as a scalable
alternative to reinforcement learning" (OpenAI-ES, with its code's scaling); Hansen 2016, "The CMA
evolution strategy: a tutorial" (through the `cmaes` package); lecture, p. 32.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import cmaes
import numpy as np
import torch
from torch import Tensor

from trainers.learning_rule_config import check_num_params
from trainers.learning_rules.connections import Connections
from trainers.learning_rules.interface import Lanes, Stateless
from trainers.learning_rules.net import Net, Updates

_PATHS = ("p_sigma", "pc")
_LARGEST = 1e32
"""The package refuses means and samples from here on."""


class WeightPerturbation(Stateless):
    """g = mean over directions of (loss(w + s eps) - loss(w)) eps / s."""

    def updates(self, net: Net, x: Tensor, target: Tensor, lanes: Lanes) -> Updates:
        """Return the estimate from `num_directions` perturbed passes."""
        std = lanes.constants["noise"]
        loss = net.forward(x, target).loss
        total = [torch.zeros_like(row) for row in (*net.weights, *net.biases)]
        for _ in range(self.config.num_directions):
            directions = _directions(net, lanes)
            gain = _loss(moved(net, directions, std), x, target) - loss
            _accumulate(total, directions, gain / std.view(-1) / self.config.num_directions)
        return _updates(net, loss, total)


class NodePerturbation(Stateless):
    """delta = mean over passes of (loss - undisturbed loss) eps / s, row by row, for every z."""

    def updates(self, net: Net, x: Tensor, target: Tensor, lanes: Lanes) -> Updates:
        """Return the estimate from `num_directions` passes with noise on all pre-activations."""
        std = lanes.constants["noise"]
        run = net.forward(x, target)
        deltas = [torch.zeros_like(z) for z in run.pre]
        for _ in range(self.config.num_directions):
            noise = [lanes.normal(z.shape[1:], z) for z in run.pre]
            h = x
            for layer, eps in enumerate(noise):
                z = net.linear(layer, h) + std * eps
                h = net.activate(z)
            gain = net.row_losses(z, target) - run.row_losses  # [W, B]
            scale = (gain.unsqueeze(2) / std) / self.config.num_directions
            for delta, eps in zip(deltas, noise, strict=True):
                delta.addcmul_(eps, scale)
        return net.updates_of(run, deltas)


class Evolution(Stateless):
    """OpenAI-ES: antithetic pairs, centred ranks in [-0.5, 0.5], g = sum (r+ - r-) eps / pairs.

    Ranks are of losses, so that the optimizer, going against g, lowers them. Ranks forget the
    loss's scale: g points like the gradient but is not as long.
    """

    def updates(self, net: Net, x: Tensor, target: Tensor, lanes: Lanes) -> Updates:
        """Return the estimate from `num_directions` pairs."""
        std = lanes.constants["noise"]
        num_pairs = self.config.num_directions
        drawn, losses = [], []
        for _ in range(num_pairs):
            directions = _directions(net, lanes)
            drawn.append(directions)
            losses.append(_loss(moved(net, directions, std), x, target))
            losses.append(_loss(moved(net, directions, -std), x, target))
        ranks = centred_ranks(torch.stack(losses, dim=1))  # [W, 2 pairs]
        total = [torch.zeros_like(row) for row in (*net.weights, *net.biases)]
        for pair, directions in enumerate(drawn):
            weight = (ranks[:, 2 * pair] - ranks[:, 2 * pair + 1]) / num_pairs
            _accumulate(total, directions, weight)
        return _updates(net, net.forward(x, target).loss, total)


class CmaEs(Stateless):
    """The CMA evolution strategy, one generation per step; its mean is the trial's weights.

    The update is weights - next mean, so that plain SGD at rate 1 puts the mean in their place.
    """

    keeps_float64 = True

    def start_state(
        self, layers: Sequence[Connections], generator: np.random.Generator
    ) -> dict[str, Tensor]:
        """Return the covariance, both evolution paths, the step size (0: not begun), and the count.

        The covariance is [n, n] for n parameters.

        Raises:
            ConfigError: for a thousand parameters or more.

        """
        n = sum(layer.num_params() for layer in layers)
        check_num_params(self.config, n)
        state = {name: torch.zeros(n, dtype=torch.float64) for name in _PATHS}
        state["C"] = torch.eye(n, dtype=torch.float64)
        return {**state, **{k: torch.zeros(1, dtype=torch.float64) for k in ("sigma", "g")}}

    def updates(self, net: Net, x: Tensor, target: Tensor, lanes: Lanes) -> Updates:
        """Ask every lane's strategy for a population, measure it, and tell it.

        A lane whose weights left the package's range has a loss of infinity: it diverged.
        """
        rows = torch.cat([p.flatten(1) for p in (*net.weights, *net.biases)], 1)  # [W, n]
        loss = net.forward(x, target).loss
        steps = torch.zeros_like(rows)
        for lane, seed in enumerate(lanes.integers()):
            mean = rows[lane].double().cpu().numpy()
            state = {name: kept[lane].cpu().numpy() for name, kept in lanes.state.items()}
            if not torch.isfinite(loss[lane]) or not _in_range(mean, *state.values()):
                loss[lane] = torch.inf
                continue
            strategy = _resumed(mean, state, float(lanes.constants["noise"][lane]), seed)
            people = np.stack([strategy.ask() for _ in range(strategy.population_size)])
            if not _in_range(people):
                loss[lane] = torch.inf
                continue
            crowd = _population(net, torch.from_numpy(people).to(rows))
            count = len(people)
            losses = _loss(crowd, x[lane].expand(count, -1, -1), target[lane].expand(count, -1, -1))
            strategy.tell(list(zip(people, losses.double().tolist(), strict=True)))
            _keep(strategy, lanes, lane)
            steps[lane] = torch.from_numpy(mean - strategy.mean).to(rows)
        return _updates(net, loss, _split(net, steps))


def centred_ranks(losses: Tensor) -> Tensor:
    """Return ranks of each row [W, N], from -0.5 for its least to 0.5 for its largest."""
    ranks = losses.argsort(dim=1, stable=True).argsort(dim=1, stable=True).to(losses.dtype)
    return ranks / (losses.shape[1] - 1) - 0.5


def moved(net: Net, directions: Sequence[Tensor], std: Tensor) -> Net:
    """Return the net with std [W, 1, 1] times each direction added to its parameters."""
    count = net.num_layers
    pairs = zip(net.weights, directions[:count], strict=True)
    weights = [torch.addcmul(weight, step, std) for weight, step in pairs]
    biases = [
        torch.addcmul(bias, step, std.squeeze(2))
        for bias, step in zip(net.biases, directions[count:], strict=True)
    ]
    return replace(net, weights=weights, biases=biases)


def _directions(net: Net, lanes: Lanes) -> list[Tensor]:
    """Draw standard normals for all weights, then all biases."""
    return [lanes.normal(p.shape[1:], p) for p in (*net.weights, *net.biases)]


def _loss(net: Net, x: Tensor, target: Tensor) -> Tensor:
    """Return each lane's mean loss, [W]."""
    return net.row_losses(net.outputs(x), target).mean(1)


def _accumulate(total: Sequence[Tensor], directions: Sequence[Tensor], weight: Tensor) -> None:
    for row, direction in zip(total, directions, strict=True):
        row.addcmul_(direction, weight.view(-1, *[1] * (row.dim() - 1)))


def _updates(net: Net, loss: Tensor, rows: Sequence[Tensor]) -> Updates:
    count = net.num_layers
    return Updates(loss, list(rows[:count]), list(rows[count:]))


def _split(net: Net, rows: Tensor) -> list[Tensor]:
    """Cut flat rows [N, n] into weights, then biases, each [N, ...]."""
    parts = [*net.weights, *net.biases]
    pieces = torch.split(rows, [part[0].numel() for part in parts], dim=1)
    return [p.reshape(len(rows), *part.shape[1:]) for p, part in zip(pieces, parts, strict=True)]


def _population(net: Net, rows: Tensor) -> Net:
    """See flat rows [N, n] as N nets."""
    parts = _split(net, rows)
    return replace(net, weights=parts[: net.num_layers], biases=parts[net.num_layers :])


def _in_range(*arrays: np.ndarray) -> bool:
    """Return whether the package takes these numbers; NaN is none that it takes."""
    return all(bool((np.abs(values) < _LARGEST).all()) for values in arrays)


def _resumed(
    mean: np.ndarray, state: Mapping[str, np.ndarray], first_sigma: float, seed: int
) -> cmaes.CMA:
    """Return the strategy where the lane left it; the package offers no public way back in."""
    sigma = float(state["sigma"][0]) or first_sigma
    strategy = cmaes.CMA(mean=mean, sigma=sigma, seed=seed, cov=state["C"].copy())
    strategy._p_sigma, strategy._pc = state["p_sigma"].copy(), state["pc"].copy()
    strategy._g = int(state["g"][0])
    return strategy


def _keep(strategy: cmaes.CMA, lanes: Lanes, lane: int) -> None:
    """Write back what the next generation needs."""
    kept = {
        "C": strategy._C,
        "p_sigma": strategy._p_sigma,
        "pc": strategy._pc,
        "sigma": np.array([strategy._sigma]),
        "g": np.array([float(strategy._g)]),
    }
    for name, values in kept.items():
        lanes.state[name][lane].copy_(torch.from_numpy(values))
