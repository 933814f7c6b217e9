"""What a trial records on request, and the convergence test of the lecture's p. 19."""

import pytest
import torch
from test_packing_invariance import assert_same, run

from trainers.diagnostics import layer_signals, update_to_weight_ratio
from trainers.lanes.evaluation import to_module
from trainers.lanes.pack import train_pack
from trainers.lanes.plan import fixed_plan


@pytest.mark.parametrize("tier", ["kernels", "lane_by_lane"])
def test_statistics_are_those_of_the_module_alone(varied_trials, digits, tier):
    trials = varied_trials(3, train__statistics=True, model__batch_norm="before")
    rows, states = run(trials, digits, tier=tier, stop_epoch=2)
    for trial, state in zip(trials, states, strict=True):
        module = to_module(state, trial, digits)
        signals = layer_signals(module, digits.x_train[:256].double())
        metrics = rows[trial.trial_id, state.epoch].metrics
        dead = sum(s.dead_share for s in signals) / 2
        saturated = sum(s.saturated_share for s in signals) / 2
        if "best_epoch" not in metrics:
            assert metrics["dead_share"] == pytest.approx(dead, abs=1e-12)
            assert metrics["saturated_share"] == pytest.approx(saturated, abs=1e-12)
            assert metrics["spread_ratio"] == pytest.approx(signals[1].std / signals[0].std)
        assert metrics["update_ratio"] > 0
    alone = run(trials[:1], digits, tier=tier, stop_epoch=2, fuse_width=1)[0]
    assert_same(alone, {key: row for key, row in rows.items() if key[0] == 0}, rtol=1e-9)


def test_the_update_ratio_is_that_of_the_last_step(make_trial, digits):
    """With one step an epoch, it is the change between two checkpoints."""
    trial = make_trial(0, train__statistics=True, train__batch_size=300, optimizer__kind="sgd")
    rows, (before,) = run([trial], digits, stop_epoch=1)
    rows, (after,) = run([trial], digits, stop_epoch=2)
    old, new = (
        {"all": torch.cat([p.detach().flatten() for p in to_module(s, trial, digits).parameters()
                           if p.ndim >= 2])[None]}
        for s in (before, after)
    )  # fmt: skip
    expected = update_to_weight_ratio(old, new)["all"]
    assert rows[0, 2].metrics["update_ratio"] == pytest.approx(expected, rel=1e-9)


def test_nothing_is_recorded_where_nothing_is_asked_for(make_trial, digits):
    rows, _ = run([make_trial(0)], digits, stop_epoch=1)
    assert not {"dead_share", "update_ratio", "full_train_loss", "sparsity"} & set(
        rows[0, 1].metrics
    )


def test_dead_units_are_seen(make_trial, digits):
    trial = make_trial(0, train__statistics=True, optimizer__kind="sgd", optimizer__lr=300.0)
    rows, _ = run([trial], digits)
    alive = [row.metrics["dead_share"] for row in rows.values() if row.status != "diverged"]
    assert not alive or max(alive) > 0.2


def test_a_lane_stops_where_its_full_training_loss_rests_and_says_why(make_trial, digits):
    trials = [
        make_trial(0, train__convergence_change=1e9, train__epochs=6),
        make_trial(1, train__convergence_change=1e-12, train__epochs=6),
        make_trial(2, train__epochs=6),
    ]
    rows, states = run(trials, digits)
    assert [state.status for state in states] == ["stopped_early", "finished", "finished"]
    assert states[0].epoch == 2, "never on the first epoch: there is nothing to compare with"
    assert "converged: the loss over all training rows went from" in states[0].reason
    assert "full_train_loss" not in rows[2, 1].metrics
    alone = run(trials[:1], digits, fuse_width=1)[0]
    assert_same(alone, {key: row for key, row in rows.items() if key[0] == 0}, rtol=1e-9)
    _, half = run(trials, digits, stop_epoch=1)
    resumed, _ = run(trials, digits, start=half)
    assert resumed[0, 2].reason == rows[0, 2].reason
    module = to_module(states[0], trials[0], digits)
    with torch.no_grad():
        loss = torch.nn.functional.cross_entropy(module(digits.x_train.double()), digits.y_train)
    assert rows[0, 2].metrics["full_train_loss"] == pytest.approx(float(loss), rel=1e-9)


def test_descent_on_a_convex_loss_converges_and_too_large_a_rate_diverges(make_trial, digits):
    shared = {
        "model__depth": 0, "train__batch_size": 300, "train__epochs": 400,
        "train__loss": "half_mse", "optimizer__kind": "sgd", "train__convergence_change": 1e-3,
    }  # fmt: skip
    trials = [
        make_trial(0, optimizer__lr=0.01, **shared),
        make_trial(1, optimizer__lr=50, **shared),
    ]
    plan = fixed_plan(trials, digits, tier="kernels", fuse_width=2)
    good, bad = train_pack(trials, None, 400, dataset=digits, plan=plan).states
    assert good.status == "stopped_early"
    assert good.epoch < 400
    assert bad.status == "diverged"
    assert "not finite" in bad.reason
