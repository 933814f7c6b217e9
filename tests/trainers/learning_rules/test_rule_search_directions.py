"""Rules without feedback: what they find is known from elsewhere."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from trainers.config import InitConfig
from trainers.initialisation import initialise
from trainers.learning_rule_config import LearningRuleConfig
from trainers.learning_rules import Lanes, Net, make_rule
from trainers.learning_rules.credit import Backprop
from trainers.learning_rules.hebbian import Hebbian
from trainers.learning_rules.making import constants_of
from trainers.learning_rules.perturbing import centred_ranks
from trainers.models import Mlp

DIMS, CLASSES, ROWS = 5, 3, 40


def correlated_rows(num_rows: int = 400) -> Tensor:
    """Rows whose principal components have clearly different variances."""
    generator = torch.Generator().manual_seed(1)
    scales = torch.tensor([3.0, 2.0, 1.2, 0.6, 0.3], dtype=torch.float64)
    rotation = torch.linalg.qr(torch.randn(5, 5, generator=generator, dtype=torch.float64))[0]
    rows = torch.randn(num_rows, 5, generator=generator, dtype=torch.float64) * scales
    return (rows - rows.mean(0)) @ rotation.T


def components(x: Tensor) -> Tensor:
    """Return unit eigenvectors of the covariance in rows, leading first."""
    return torch.linalg.eigh(x.T @ x / len(x))[1].flip(1).T


def hebbian(kind: str, x: Tensor, units: int, rate: float = 0.02, steps: int = 4000) -> Tensor:
    config = LearningRuleConfig(kind=kind)
    lanes = Lanes(constants=constants_of([config], x))
    generator = torch.Generator().manual_seed(2)
    weight = 0.3 * torch.randn(1, units, x.shape[1], generator=generator, dtype=torch.float64)
    for _ in range(steps):
        weight = weight + rate * Hebbian(config).change(weight, x[None], lanes)
    return weight[0]


def test_oja_finds_the_leading_eigenvector_at_length_1():
    x = correlated_rows()
    (w,) = hebbian("oja", x, units=1)
    assert w.norm() == pytest.approx(1, abs=1e-8)
    assert abs(w @ components(x)[0]) == pytest.approx(1, abs=1e-8)


def test_the_plain_hebbian_rule_grows_without_bound():
    """Why it is not offered: dw = y x has nothing that holds w back."""
    x = correlated_rows()
    w = torch.full((5,), 0.1, dtype=torch.float64)
    for _ in range(300):
        w = w + 0.02 * (x.T @ (x @ w)) / len(x)
    assert w.norm() > 1e6


def test_sanger_finds_the_principal_components_in_order():
    x = correlated_rows()
    found = hebbian("sanger", x, units=3)
    torch.testing.assert_close(
        (found @ components(x)[:3].T).abs(), torch.eye(3, dtype=torch.float64), rtol=0, atol=1e-6
    )


def test_competing_units_spread_over_clusters():
    """Each of the well-separated directions is answered by a unit of its own."""
    centres = torch.eye(4, 8, dtype=torch.float64)
    noise = 0.05 * torch.randn(200, 8, generator=torch.Generator().manual_seed(3)).double()
    x = centres.repeat(50, 1) + noise
    w = hebbian("competitive", x, units=8, rate=0.02, steps=1500)
    winners = (centres @ w.T).argmax(1)
    assert len(set(winners.tolist())) == 4


def small_net(seed: int = 0) -> tuple[Net, Tensor, Tensor]:
    model = Mlp((DIMS,), CLASSES, depth=1, width=6, activation="tanh").double()
    initialise(model, InitConfig(kind="torch"), "tanh", seed)
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(1, ROWS, DIMS, generator=generator, dtype=torch.float64)
    y = (x[0, :, 0] > 0).long() + (x[0, :, 1] > 0).long()
    target = torch.nn.functional.one_hot(y, CLASSES).double()[None]
    return Net.of(model, "tanh", "cross_entropy"), x, target


def gradient_cosine(config: LearningRuleConfig, seed: int = 0) -> float:
    net, x, target = small_net()
    lanes = Lanes(constants=constants_of([config], x), generators=[np.random.default_rng(seed)])
    found = make_rule(config).updates(net, x, target, lanes)
    true = Backprop(config).updates(net, x, target, lanes)
    flat = [
        torch.cat([row.flatten() for row in (*updates.weights, *updates.biases)])
        for updates in (found, true)
    ]
    return float(torch.cosine_similarity(*flat, dim=0))


@pytest.mark.parametrize("kind", ["weight_perturbation", "node_perturbation", "evolution"])
def test_the_cosine_with_the_gradient_rises_with_the_number_of_directions(kind):
    cosines = [
        np.mean(
            [
                gradient_cosine(LearningRuleConfig(kind=kind, num_directions=count), seed)
                for seed in range(4)
            ]
        )
        for count in (2, 16, 256)
    ]
    assert cosines[0] < cosines[1] < cosines[2]
    assert cosines[2] > 0.9


def test_one_direction_of_weight_perturbation_is_the_directional_derivative():
    config = LearningRuleConfig(kind="weight_perturbation", num_directions=1, noise_std=1e-7)
    net, x, target = small_net()
    lanes = Lanes(constants=constants_of([config], x), generators=[np.random.default_rng(0)])
    found = make_rule(config).updates(net, x, target, lanes)
    true = Backprop(config).updates(net, x, target, lanes)
    rng = np.random.default_rng(0)
    shapes = [p.shape[1:] for p in (*net.weights, *net.biases)]
    eps = [torch.from_numpy(rng.standard_normal(tuple(shape))) for shape in shapes]
    truth = [*true.weights, *true.biases]
    slope = sum((g[0] * e).sum() for g, e in zip(truth, eps, strict=True))
    for own, e in zip([*found.weights, *found.biases], eps, strict=True):
        torch.testing.assert_close(own[0], slope * e, rtol=1e-4, atol=1e-6)


def test_ranks_are_centred_and_forget_the_scale():
    losses = torch.tensor([[3.0, 1.0, 200.0, 2.0, 0.5]])
    expected = torch.tensor([[0.25, -0.25, 0.5, 0.0, -0.5]])
    torch.testing.assert_close(centred_ranks(losses), expected)


def test_cma_es_goes_on_exactly_as_one_strategy_that_was_never_taken_apart():
    import cmaes

    config = LearningRuleConfig(kind="cma_es", noise_std=0.3)
    net, x, target = small_net()
    rule = make_rule(config)
    state = rule.start_state(net.layers, np.random.default_rng(0))
    lanes = Lanes(
        constants=constants_of([config], x),
        state={name: rows[None].clone() for name, rows in state.items()},
        generators=[np.random.default_rng(7)],
    )
    parts = [*net.weights, *net.biases]
    whole = cmaes.CMA(mean=torch.cat([p.flatten() for p in parts]).numpy().copy(), sigma=0.3)
    seeds = np.random.default_rng(7)
    losses = []
    for _ in range(25):
        updates = rule.updates(net, x, target, lanes)
        losses.append(float(updates.loss))
        whole._rng = np.random.RandomState(int(seeds.integers(2**31)))
        people = [whole.ask() for _ in range(whole.population_size)]
        whole.tell([(row, _loss_at(net, row, x, target)) for row in people])
        for part, step in zip(parts, [*updates.weights, *updates.biases], strict=True):
            part.sub_(step)
        found = torch.cat([p.flatten() for p in parts]).numpy()
        np.testing.assert_allclose(found, whole.mean, rtol=0, atol=1e-9)
    assert losses[-1] < losses[0]


def _loss_at(net: Net, row: np.ndarray, x: Tensor, target: Tensor) -> float:
    parts = [*net.weights, *net.biases]
    pieces = torch.from_numpy(row).split([p.numel() for p in parts])
    values = [piece.view(p.shape[1:]) for piece, p in zip(pieces, parts, strict=True)]
    h = torch.tanh(x[0] @ values[0].T + values[2])
    outputs = h @ values[1].T + values[3]
    return float(torch.nn.functional.cross_entropy(outputs, target[0]))


def test_forward_only_moves_the_readout_alone():
    net, x, target = small_net()
    config = LearningRuleConfig(kind="forward_only")
    found = make_rule(config).updates(net, x, target, Lanes())
    true = Backprop(config).updates(net, x, target, Lanes())
    assert not found.weights[0].any()
    assert not found.biases[0].any()
    torch.testing.assert_close(found.weights[-1], true.weights[-1], rtol=0, atol=1e-14)
    assert math.isfinite(float(found.loss))
