"""Fixup (Zhang, Dauphin & Ma, 2019) at the start and in training without normalisation."""

import math

import pytest
import torch
from torch.nn import functional as F

from trainers.config import InitConfig, ModelConfig, TrialConfig
from trainers.data import load
from trainers.initialisation import initialise
from trainers.lanes.evaluation import to_module
from trainers.lanes.pack import train_pack
from trainers.lanes.plan import fixed_plan
from trainers.models import build_model
from trainers.trial import Trial

SHAPES = {"resmlp": (12,), "rescnn": (2, 8, 8)}


def fixup_net(kind: str, depth: int = 3, width: int = 8, seed: int = 0) -> torch.nn.Module:
    model = build_model(
        ModelConfig(kind=kind, depth=depth, width=width, scalars=True), SHAPES[kind], 10
    )
    initialise(model, InitConfig(kind="fixup"), "relu", seed)
    return model


@pytest.mark.parametrize("kind", SHAPES)
def test_the_first_loss_is_exactly_ln_c(kind):
    model = fixup_net(kind, depth=9)
    logits = model(torch.randn(16, *SHAPES[kind]))
    assert not logits.any()
    loss = F.cross_entropy(logits.double(), torch.arange(16) % 10)
    assert loss.item() == pytest.approx(math.log(10), abs=1e-15)


@pytest.mark.parametrize("kind", SHAPES)
def test_at_the_start_every_block_is_the_activation_of_its_shortcut(kind):
    model = fixup_net(kind)
    x = torch.randn(4, *SHAPES[kind])
    x = model.stem(x if kind == "rescnn" else x.flatten(1))
    for block in model.blocks:
        assert torch.equal(block(x), F.relu(block.shortcut(x)))
        x = block(x)


def test_first_layers_shrink_with_the_number_of_branches():
    """L = 9 against 54 branches: the same draw, sqrt(6) apart."""
    nine, fifty_four = fixup_net("resmlp", depth=9), fixup_net("resmlp", depth=54)
    ratio = nine.blocks[0].first.weight / fifty_four.blocks[0].first.weight
    torch.testing.assert_close(ratio, torch.full_like(ratio, math.sqrt(6)))
    wide = fixup_net("resmlp", depth=4, width=256)
    std = math.sqrt(2 / 256) * 4**-0.5
    assert wide.blocks[2].first.weight.std().item() == pytest.approx(std, rel=0.02)
    assert wide.stem[0].weight.std().item() == pytest.approx(math.sqrt(2 / 12), rel=0.05)


def test_scalars_start_as_no_ops_again_after_training():
    model = fixup_net("resmlp")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    initialise(model, InitConfig(kind="fixup"), "relu", 0)
    scalars = {n: p.item() for n, p in model.named_parameters() if p.shape == (1,)}
    own_names = {n.rpartition(".")[2]: v for n, v in scalars.items()}
    assert own_names == {"fixup_bias": 0.0, "fixup_scale": 1.0}
    assert len(scalars) == 5 * 3 + 2


def test_110_layers_train_at_a_rate_at_which_he_diverges():
    """Both arms are lanes of one pack, without normalisation, at learning rate 0.1."""
    base = {
        "data": {"name": "digits", "num_train": 512},
        "model": {"kind": "resmlp", "depth": 54, "width": 16, "scalars": True},
        "optimizer": {"kind": "sgd", "lr": 0.1},
        "train.epochs": 3,
    }
    trials = [
        Trial(trial_id=i, config=TrialConfig.from_mapping({**base, "init.kind": kind}), seed=0)
        for i, kind in enumerate(["fixup", "he"])
    ]
    dataset = load(trials[0].config.data)
    plan = fixed_plan(trials, dataset, tier="lane_by_lane", fuse_width=1)
    fixup, he = train_pack(trials, None, 3, dataset=dataset, plan=plan).rows
    assert he.status == "diverged"
    assert fixup.status == "finished"
    assert fixup.metrics["val_error"] < 0.5  # guessing: 0.9


@pytest.mark.parametrize("kind", ["momentum", "adamw"])
def test_scalars_learn_at_a_tenth_of_the_rate_as_in_a_group_of_their_own(kind):
    """A pack against torch's optimizer with two groups, float64, a whole epoch of full batches."""
    optimizer = {"kind": kind, "lr": 0.02, "weight_decay": 0.01}
    config = TrialConfig.from_mapping(
        {
            "data": {"name": "digits", "num_train": 32},
            "model": {"kind": "resmlp", "depth": 2, "width": 6, "scalars": True},
            "init.kind": "fixup",
            "optimizer": optimizer,
            "train": {"batch_size": 32, "epochs": 3, "precision": "float64"},
        }
    )
    trial, dataset = Trial(trial_id=0, config=config, seed=3), load(config.data)
    plan = fixed_plan([trial], dataset, tier="lane_by_lane", fuse_width=1)
    model = build_model(config.model, dataset.input_shape, 10)
    initialise(model, config.init, "relu", trial.seed)
    model.double()
    slow = [p for p in model.parameters() if p.shape == (1,)]
    groups = [
        {"params": [p for p in model.parameters() if p.shape != (1,)]},
        {"params": slow, "lr": optimizer["lr"] / 10},
    ]
    twin = (
        torch.optim.SGD(groups, lr=0.02, momentum=config.optimizer.momentum, weight_decay=0.01)
        if kind == "momentum"
        else torch.optim.AdamW(groups, lr=0.02, weight_decay=0.01)
    )
    for _ in range(3):
        twin.zero_grad()
        F.cross_entropy(model(dataset.x_train.double()), dataset.y_train).backward()
        twin.step()
    assert all(p.item() not in (0.0, 1.0) for p in slow)
    (state,) = train_pack([trial], None, 3, dataset=dataset, plan=plan).states
    trained = to_module(state, trial, dataset)
    for name, parameter in trained.double().named_parameters():
        torch.testing.assert_close(parameter, model.get_parameter(name), atol=2e-7, rtol=1e-6)
