"""The recipe's plans run by the real trainer: good nets pass, bad ones are caught in time."""

import pytest

from service.recipe import (
    LossCurve,
    initial_loss,
    judge_lr_sweep,
    judge_overfit,
    measure,
    plan_lr_sweep,
    plan_overfit,
)
from trainers import Trial, train_pack
from trainers.config import TrialConfig
from trainers.data import load
from trainers.initialisation import initialise
from trainers.models import build_model


def config(**values):
    return TrialConfig.from_mapping({"model.width": 32, "model.depth": 1, **values})


def run(plan):
    """Train a plan's trials as one pack, as the controller does."""
    losses = {i: [] for i in range(len(plan.configs))}
    broken = set()

    def on_epoch(report):
        for row in report.rows:
            losses[row.trial_id].append(row.metrics["train_loss"])
            if row.status == "diverged":
                broken.add(row.trial_id)

    trials = [Trial(trial_id=i, config=c, seed=1) for i, c in enumerate(plan.configs)]
    epochs = plan.configs[0].train.epochs
    train_pack(trials, None, epochs, on_epoch, device="cpu")
    return [
        LossCurve(lr=c.optimizer.lr, losses=losses[i], diverged=i in broken)
        for i, c in enumerate(plan.configs)
    ]


def initial(of):
    data = load(of.data)
    model = build_model(of.model, data.input_shape, data.num_outputs)
    initialise(model, of.init, of.model.activation, seed=1)
    facts = measure(model, data.x_train, data.y_train, "cross_entropy")
    return initial_loss(
        facts,
        dummy_loss=data.dummy_loss(),
        num_outputs=data.num_outputs,
        loss="cross_entropy",
    )


@pytest.mark.parametrize(
    ("kind", "word"),
    [("auto", "good"), ("zeros", "dead"), ("constant", "symmetric"), ("too_large", "high")],
)
def test_step_1_on_every_kind_of_start(kind, word):
    verdict = initial(config(**{"init.kind": kind}))
    assert verdict.verdict == word, verdict.reason


@pytest.mark.parametrize("optimizer", ["adam", "momentum"])
def test_steps_2_and_3_pass_an_ordinary_net(optimizer):
    data = load(config().data)
    plan = plan_overfit(config(**{"optimizer.kind": optimizer}), len(data.x_train))
    overfit = judge_overfit(run(plan), dummy_loss=data.dummy_loss(), num_rows=200)
    assert overfit.passed, overfit.reason
    plan = plan_lr_sweep(config(**{"optimizer.kind": optimizer}), len(data.x_train))
    sweep = judge_lr_sweep(run(plan), start_loss=2.8, dummy_loss=data.dummy_loss())
    assert sweep.passed, sweep.reason
    assert 1e-5 < sweep.data["lo"] < sweep.data["best"] < sweep.data["hi"] < 10


def test_step_2_catches_a_dead_net_that_step_1_was_told_to_let_pass():
    data = load(config().data)
    plan = plan_overfit(config(**{"init.kind": "zeros"}), len(data.x_train))
    verdict = judge_overfit(run(plan), dummy_loss=data.dummy_loss(), num_rows=200)
    assert verdict.verdict == "stuck", verdict.reason


def test_step_3_catches_a_rate_of_1e3():
    data = load(config().data)
    plan = plan_lr_sweep(config(**{"optimizer.kind": "sgd"}), len(data.x_train))
    verdict = judge_lr_sweep(run(plan), start_loss=2.8, dummy_loss=data.dummy_loss(), fixed_lr=1e3)
    assert verdict.verdict == "outside", verdict.reason
