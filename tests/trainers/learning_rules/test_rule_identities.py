"""Learning rules against autograd and against each other, where they must be the same."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from trainers.config import InitConfig
from trainers.initialisation import initialise
from trainers.learning_rule_config import LearningRuleConfig
from trainers.learning_rules import Lanes, Net, Updates, rule_updates
from trainers.learning_rules.credit import (
    Backprop,
    DirectFeedbackAlignment,
    FeedbackAlignment,
)
from trainers.learning_rules.making import constants_of
from trainers.learning_rules.predictive import PredictiveCoding
from trainers.learning_rules.targets import TargetPropagation
from trainers.losses import loss_function
from trainers.models import Mlp

ACTIVATIONS = ["sigmoid", "tanh", "relu", "elu", "identity"]
DIMS, CLASSES, ROWS = 6, 4, 11


def mlp(depth: int = 3, width: int = 7, activation: str = "tanh", seed: int = 0) -> Mlp:
    model = Mlp((DIMS,), CLASSES, depth=depth, width=width, activation=activation).double()
    initialise(model, InitConfig(kind="torch"), activation, seed)
    return model


def batch(seed: int = 0, rows: int = ROWS) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, DIMS, generator=generator, dtype=torch.float64)
    return x, torch.randint(CLASSES, (rows,), generator=generator)


def autograd(model: Mlp, x: Tensor, y: Tensor, loss: str) -> Updates:
    model.zero_grad()
    value = loss_function(loss)(model(x), y, 0.0)
    value.backward()
    linears = [*(layer.linear for layer in model.layers), model.head]
    return Updates(
        value.detach()[None],
        [linear.weight.grad[None] for linear in linears],
        [linear.bias.grad[None] for linear in linears],
    )


def assert_equal(found: Updates, expected: Updates, atol: float = 1e-12) -> None:
    torch.testing.assert_close(found.loss, expected.loss, rtol=0, atol=atol)
    for own, true in zip(found.weights, expected.weights, strict=True):
        torch.testing.assert_close(own, true, rtol=0, atol=atol)
    for own, true in zip(found.biases, expected.biases, strict=True):
        torch.testing.assert_close(own, true, rtol=0, atol=atol)


def stacked(model: Mlp, activation: str = "tanh") -> tuple[Net, Tensor, Tensor, Lanes]:
    x, y = batch()
    net = Net.of(model, activation, "cross_entropy")
    target = torch.nn.functional.one_hot(y, CLASSES).double()[None]
    return net, x[None], target, Lanes(constants=constants_of([LearningRuleConfig()], x))


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 4),
    st.integers(1, 9),
    st.sampled_from(ACTIVATIONS),
    st.integers(1, 17),
    st.sampled_from(["cross_entropy", "half_mse"]),
    st.integers(0, 99),
)
def test_the_lectures_equations_are_autograds_gradient(depth, width, activation, rows, loss, seed):
    model = mlp(depth, width, activation, seed)
    x, y = batch(seed, rows)
    rule = LearningRuleConfig(kind="lecture_backprop")
    found = rule_updates(model, x, y, rule, activation=activation, loss=loss)
    assert_equal(found, autograd(model, x, y, loss))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_feedback_alignment_with_the_weights_themselves_is_backprop(activation):
    model = mlp(activation=activation)
    net, x, target, lanes = stacked(model, activation)
    lanes.fixed = {f"{layer}": net.weights[layer] for layer in range(1, net.num_layers)}
    found = FeedbackAlignment(LearningRuleConfig()).updates(net, x, target, lanes)
    assert_equal(found, Backprop(LearningRuleConfig()).updates(net, x, target, lanes))


def test_direct_feedback_with_the_readouts_weights_is_backprop_on_one_hidden_layer():
    net, x, target, lanes = stacked(mlp(depth=1))
    lanes.fixed = {"0": net.weights[1]}
    found = DirectFeedbackAlignment(LearningRuleConfig()).updates(net, x, target, lanes)
    assert_equal(found, Backprop(LearningRuleConfig()).updates(net, x, target, lanes))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_target_propagation_through_the_transposed_jacobian_is_backprop(activation):
    net, x, target, lanes = stacked(mlp(depth=4, activation=activation), activation)
    run = net.forward(x, target)

    def transposed_jacobian(layer: int, u: Tensor) -> Tensor:
        return torch.bmm(net.through(u, run.inputs[layer + 1]), net.weights[layer])

    config = LearningRuleConfig(kind="dtp", target_step=1.0)
    lanes.constants = constants_of([config], x)
    deltas = TargetPropagation(config).deltas(net, run, target, lanes, transposed_jacobian)
    expected = Backprop(LearningRuleConfig()).updates(net, x, target, lanes)
    assert_equal(net.updates_of(run, deltas), expected)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("extra_sweeps", [0, 3])
def test_fixed_prediction_coding_with_step_1_and_a_sweep_per_layer_is_backprop(
    activation, extra_sweeps
):
    net, x, target, lanes = stacked(mlp(depth=4, activation=activation), activation)
    config = LearningRuleConfig(
        kind="predictive_coding",
        prediction="fixed",
        inference_rate=1.0,
        num_sweeps=net.num_layers + extra_sweeps,
    )
    lanes.constants = constants_of([config], x)
    found = PredictiveCoding(config).updates(net, x, target, lanes)
    assert_equal(found, Backprop(config).updates(net, x, target, lanes))


def test_strict_predictive_coding_settles_where_the_energy_is_flat_and_learns_down_it():
    """The energy is the sum of squared errors over 2 and the loss (Whittington & Bogacz 2017)."""
    model = mlp()
    net, x, target, lanes = stacked(model)
    config = LearningRuleConfig(kind="predictive_coding", num_sweeps=2000)
    lanes.constants = constants_of([config], x)
    rule = PredictiveCoding(config)
    settled, deltas = rule._strict(net, net.forward(x, target), target, lanes)
    activities = [x[0], *(v[0].clone().requires_grad_() for v in settled.inputs[1:])]
    energy = torch.zeros((), dtype=torch.float64)
    for layer, below, above in zip(model.layers, activities[:-1], activities[1:], strict=True):
        energy = energy + 0.5 * (layer(below) - above).square().sum()
    outputs = model.head(activities[-1])
    energy = energy + torch.nn.functional.cross_entropy(outputs, target[0], reduction="sum")
    energy.backward()
    for v in activities[1:]:
        torch.testing.assert_close(v.grad, torch.zeros_like(v), rtol=0, atol=1e-10)
    found = net.updates_of(settled, deltas)
    linears = [*(layer.linear for layer in model.layers), model.head]
    for linear, weight, bias in zip(linears, found.weights, found.biases, strict=True):
        torch.testing.assert_close(linear.weight.grad, weight[0] * ROWS, rtol=0, atol=1e-12)
        torch.testing.assert_close(linear.bias.grad, bias[0] * ROWS, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", ["sdtp", "ao_sdtp"])
def test_hidden_targets_are_the_activities_where_the_label_is_what_came_out(kind):
    model = mlp()
    net, x, _, lanes = stacked(model)
    config = LearningRuleConfig(kind=kind, num_auxiliary=5)
    rule = TargetPropagation(config)
    generator = np.random.default_rng(0)
    lanes.fixed = {k: v[None] for k, v in rule.fixed(net.layers, generator).items()}
    lanes.state = {k: v[None] for k, v in rule.start_state(net.layers, generator).items()}
    lanes.generators = [generator]
    lanes.constants = constants_of([config], x)
    found = rule.updates(net, x, net.predict(net.outputs(x)), lanes)
    for update in (*found.weights, *found.biases):
        torch.testing.assert_close(update, torch.zeros_like(update), rtol=0, atol=1e-14)


@pytest.mark.parametrize("kind", ["dtp", "sdtp", "ao_sdtp"])
def test_inverse_nets_learn_to_restore_activities(kind):
    net, x, target, lanes = stacked(mlp(width=5))
    config = LearningRuleConfig(kind=kind, noise_std=0.1, inverse_lr=1e-2, num_auxiliary=20)
    rule = TargetPropagation(config)
    generator = np.random.default_rng(0)
    lanes.fixed = {k: v[None] for k, v in rule.fixed(net.layers, generator).items()}
    lanes.state = {k: v[None] for k, v in rule.start_state(net.layers, generator).items()}
    lanes.generators = [generator]
    lanes.constants = constants_of([config], x)
    h = net.forward(x, target).inputs

    def miss() -> float:
        restored = net.activate(torch.bmm(h[3], lanes.state["V2"]) + lanes.state["c2"])
        return float((restored - h[2]).square().mean())

    before = miss()
    for _ in range(400):
        rule.updates(net, x, target, lanes)
    assert miss() < 0.2 * before
