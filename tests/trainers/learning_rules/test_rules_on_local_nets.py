"""Learning rules on locally connected nets and their conv twins: identities, costs, packs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from trainers.config import InitConfig, TrialConfig
from trainers.data import Dataset, load
from trainers.errors import ConfigError
from trainers.flops import flops_per_epoch
from trainers.initialisation import initialise
from trainers.lanes.memory import lane_bytes
from trainers.lanes.pack import train_pack
from trainers.lanes.plan import fixed_plan
from trainers.learning_rule_config import LearningRuleConfig
from trainers.learning_rules import Lanes, Net, Updates, rule_updates
from trainers.learning_rules.credit import Backprop, FeedbackAlignment
from trainers.learning_rules.hebbian import Hebbian
from trainers.learning_rules.making import (
    RULES,
    constants_of,
    fixed_of,
    make_rule,
    start_state_of,
)
from trainers.learning_rules.predictive import PredictiveCoding
from trainers.learning_rules.targets import TargetPropagation
from trainers.losses import loss_function
from trainers.models import build_model
from trainers.models.local import LocalNet
from trainers.trial import EpochReport, EpochRow, Trial

PICTURE, SIGNAL, CLASSES, ROWS = (2, 5, 6), (3, 9), 4, 5


def local_net(tied: bool, shape: tuple[int, ...] = PICTURE, **more: int) -> LocalNet:
    sizes = {"depth": 2, "width": 3, "head_width": 6} | more
    model = LocalNet(shape, CLASSES, activation="tanh", tied=tied, **sizes).double()
    initialise(model, InitConfig(kind="torch"), "tanh", seed=3)
    return model


def batch(shape: tuple[int, ...] = PICTURE) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(ROWS, *shape, generator=generator, dtype=torch.float64)
    return x, torch.randint(CLASSES, (ROWS,), generator=generator)


def stacked(model: LocalNet, config: LearningRuleConfig) -> tuple[Net, Tensor, Tensor, Lanes]:
    x, y = batch()
    net = Net.of(model, "tanh", "cross_entropy")
    target = torch.nn.functional.one_hot(y, CLASSES).double()[None]
    return net, x.flatten(1)[None], target, Lanes(constants=constants_of([config], x))


def assert_equal(found: Updates, expected: Updates) -> None:
    pairs = zip((*found.weights, *found.biases), (*expected.weights, *expected.biases), strict=True)
    for own, true in pairs:
        torch.testing.assert_close(own, true.view_as(own), rtol=0, atol=1e-12)


@settings(max_examples=12, deadline=None)
@given(
    st.booleans(),
    st.sampled_from([PICTURE, SIGNAL, (1, 8, 8)]),
    st.integers(1, 3),
    st.integers(1, 4),
    st.sampled_from([1, 3, 5]),
    st.sampled_from([0, 5]),
)
def test_the_equations_are_autograds_gradient(tied, shape, depth, width, kernel_size, head_width):
    model = local_net(
        tied, shape, depth=depth, width=width, kernel_size=kernel_size, head_width=head_width
    )
    x, y = batch(shape)
    rule = LearningRuleConfig(kind="lecture_backprop")
    found = rule_updates(model, x, y, rule, activation="tanh")
    loss = loss_function("cross_entropy")(model(x), y, 0.0)
    loss.backward()
    layers = [*(block[0] for block in (*model.layers, *model.hidden)), model.head]
    true = [[getattr(layer, end).grad[None] for layer in layers] for end in ("weight", "bias")]
    assert_equal(found, Updates(loss, *true))


@pytest.mark.parametrize("tied", [False, True])
def test_feedback_alignment_with_the_weights_themselves_is_backprop(tied):
    config = LearningRuleConfig(kind="feedback_alignment")
    net, x, target, lanes = stacked(local_net(tied), config)
    lanes.fixed = {f"{layer}": net.weights[layer] for layer in range(1, net.num_layers)}
    found = FeedbackAlignment(config).updates(net, x, target, lanes)
    assert_equal(found, Backprop(config).updates(net, x, target, lanes))


def test_fixed_matrices_have_the_shapes_of_what_they_replace():
    """FA keeps each layer's fields; DFA goes from every class to every unit."""
    net = Net.of(local_net(tied=False), "tanh", "cross_entropy")
    fixed = fixed_of(
        make_rule(LearningRuleConfig(kind="feedback_alignment")), net.layers, [7], net.weights[0]
    )
    assert {n: t.shape for n, t in fixed.items()} == {
        f"{layer}": net.weights[layer].shape for layer in (1, 2, 3)
    }
    direct = LearningRuleConfig(kind="direct_feedback_alignment")
    fixed = fixed_of(make_rule(direct), net.layers, [7], net.weights[0])
    assert [fixed[f"{layer}"].shape[1:] for layer in range(3)] == [
        (CLASSES, 3 * 3 * 3),
        (CLASSES, 6 * 2 * 2),
        (CLASSES, 6),
    ]


@pytest.mark.parametrize("tied", [False, True])
def test_target_propagation_through_the_transposed_jacobian_is_backprop(tied):
    config = LearningRuleConfig(kind="dtp", target_step=1.0)
    net, x, target, lanes = stacked(local_net(tied), config)
    run = net.forward(x, target)

    def transposed_jacobian(layer: int, u: Tensor) -> Tensor:
        return net.back(layer, net.through(u, run.inputs[layer + 1]))

    deltas = TargetPropagation(config).deltas(net, run, target, lanes, transposed_jacobian)
    assert_equal(net.updates_of(run, deltas), Backprop(config).updates(net, x, target, lanes))


@pytest.mark.parametrize("tied", [False, True])
def test_fixed_prediction_coding_with_step_1_and_a_sweep_per_layer_is_backprop(tied):
    config = LearningRuleConfig(
        kind="predictive_coding", prediction="fixed", inference_rate=1.0, num_sweeps=4
    )
    net, x, target, lanes = stacked(local_net(tied), config)
    found = PredictiveCoding(config).updates(net, x, target, lanes)
    assert_equal(found, Backprop(config).updates(net, x, target, lanes))


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("kind", ["dtp", "sdtp", "ao_sdtp"])
def test_inverse_nets_follow_the_gradient_of_what_they_miss(tied, kind):
    """One step of Adam from rest moves every weight by lr against its gradient's sign."""
    config = LearningRuleConfig(kind=kind, noise_std=1e-12, num_auxiliary=7, inverse_lr=1e-3)
    net, x, target, lanes = stacked(local_net(tied), config)
    rule = TargetPropagation(config)
    start = start_state_of(rule, net.layers, 5, torch.float64)
    lanes.state = {name: values[None].clone() for name, values in start.items()}
    lanes.fixed = fixed_of(rule, net.layers, [5], x)
    lanes.generators = [np.random.default_rng(0)]
    run = net.forward(x, target)
    inverse = start["V1"][None].clone().requires_grad_()
    h, above = run.inputs[1], run.inputs[2]
    restored = torch.tanh(net.layers[1].back(above, inverse) + start["c1"])
    (0.5 * (restored - h).square().sum()).backward()
    rule.updates(net, x, target, lanes)
    moved = lanes.state["V1"] - start["V1"]
    clear = inverse.grad.abs() > 1e-6
    assert clear.any()
    torch.testing.assert_close(moved[clear], -1e-3 * inverse.grad[clear].sign(), rtol=1e-2, atol=0)


def test_ojas_rule_of_a_local_unit_is_ojas_rule_on_its_field():
    config = LearningRuleConfig(kind="oja")
    model = local_net(tied=False, depth=1)
    net, x, target, lanes = stacked(model, config)
    found = Hebbian(config).updates(net, x, target, lanes).weights[0][0]
    layer = model.layers[0][0]
    fields = layer.patches(batch()[0])  # [B, K, P]
    for unit, row in enumerate(layer.weight.detach()):
        field = fields[:, :, unit % fields.shape[2]]
        y = field @ row
        change = (y[:, None] * (field - y[:, None] * row)).mean(0)
        torch.testing.assert_close(found[unit], -change, rtol=0, atol=1e-12)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load(TrialConfig.from_mapping({"data.num_train": 100}).data)


def config(kind: str, **more: object) -> TrialConfig:
    optimizer = {"kind": "sgd", "lr": 1.0} if kind == "cma_es" else {"kind": "adam", "lr": 2e-3}
    return TrialConfig.from_mapping(
        {
            "data.num_train": 100,
            "model": {"kind": "local", "width": 2, "depth": 2, "activation": "tanh"},
            "train": {"epochs": 2, "precision": "float64", "batch_size": 50},
            "optimizer": optimizer,
            "learning_rule": {"kind": kind, "num_directions": 2, "num_auxiliary": 6},
            **more,
        }
    )


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("kind", sorted(set(RULES) - {"backprop", "cma_es"}))
def test_alone_and_together_a_trial_gets_the_same_numbers(kind, tied, digits):
    trials = [
        Trial(
            trial_id=i,
            config=config(kind).with_values(
                {
                    "model.tied": tied,
                    "optimizer.lr": 1e-3 * (i + 1),
                    "learning_rule.anti_hebbian": 0.2 * i,
                    "learning_rule.noise_std": 0.05 * (i + 1),
                }
            ),
            seed=60 + i,
        )
        for i in range(3)
    ]
    rows: dict[tuple[str, int, int], EpochRow] = {}

    def run(how: str, some: list[Trial], fuse_width: int) -> None:
        def keep(report: EpochReport) -> None:
            rows.update({(how, row.trial_id, row.epoch): row for row in report.rows})

        plan = fixed_plan(some, digits, tier="kernels", fuse_width=fuse_width)
        train_pack(some, None, 2, keep, dataset=digits, plan=plan)

    run("together", trials[::-1], 3)
    for trial in trials:
        run("alone", [trial], 1)
        for epoch in (1, 2):
            alone, together = (rows[how, trial.trial_id, epoch] for how in ("alone", "together"))
            for name, value in alone.metrics.items():
                assert together.metrics[name] == pytest.approx(value, rel=1e-9, abs=1e-9), name


def test_the_rule_written_out_trains_as_autograd_does(digits):
    rows: dict[str, list[EpochRow]] = {"backprop": [], "lecture_backprop": []}
    for kind, found in rows.items():
        trial = Trial(trial_id=0, config=config(kind), seed=1)
        train_pack(
            [trial], None, 2, lambda report, found=found: found.extend(report.rows), dataset=digits
        )
    for one, other in zip(*rows.values(), strict=True):
        for name, value in one.metrics.items():
            assert other.metrics[name] == pytest.approx(value, rel=1e-8), name


def test_flops_and_memory_count_fields_not_all_pairs(digits):
    """8x8 digits: 2 channels at 4x4 positions, 4 at 2x2; a unit sees 9 inputs of each channel."""
    layers = [2 * 16 * 9, 4 * 4 * 9 * 2, 16 * 10]  # units times what each sees
    forward = 2 * sum(layers)
    per_row = 2 * forward + 2 * sum(layers[1:])
    assert flops_per_epoch(config("lecture_backprop"), digits) == 100 * per_row
    plain, fa = config("lecture_backprop"), config("feedback_alignment")
    model = build_model(plain.model, digits.input_shape, 10).double()
    rows = [lane_bytes(model, c, digits)[0] for c in (plain, fa)]
    assert rows[1] - rows[0] == 2 * 8 * (4 * 4 * 18 + 16 * 10)  # a copy for the checkpoint


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"model.kind": "cnn"}, "max pooling.*`model.tied: true`"),
        ({"model.kind": "rescnn"}, "use `model.kind: mlp` or `local`"),
        ({"model.batch_norm": "before"}, "normalisation"),
        ({"model.depth": 0}, "depth of at least 1"),
    ],
)
def test_what_does_not_carry_over_is_refused_with_what_would_work(values, words):
    with pytest.raises(ConfigError, match=words):
        config("sdtp").with_values(values)
