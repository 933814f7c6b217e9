"""Magnitude pruning while training: exact, kept through any optimizer, the same in any pack."""

import pytest
import torch
from test_packing_invariance import assert_same, run

from trainers.config import TrialConfig
from trainers.errors import ConfigError
from trainers.lanes.checkpoint import load_lane, save_pack
from trainers.lanes.evaluation import to_module
from trainers.lanes.state import PRUNED


def weights(state, trial, dataset):
    module = to_module(state, trial, dataset)
    return {name: p.detach() for name, p in module.named_parameters() if p.ndim >= 2}


@pytest.mark.parametrize("tier", ["kernels", "lane_by_lane"])
def test_alone_in_any_pack_and_in_any_order_pruned_lanes_are_equal(varied_trials, digits, tier):
    trials = varied_trials(5)
    trials = [
        type(trial)(
            trial_id=trial.trial_id,
            seed=trial.seed,
            config=trial.config.with_values(
                {"pruning.sparsity": 0.2 * (k % 4), "pruning.after_epochs": k % 3}
            ),
        )
        for k, trial in enumerate(trials)
    ]
    reference, states = run(trials, digits, tier=tier)
    alone = {}
    for trial in trials:
        alone |= run([trial], digits, fuse_width=1, tier=tier)[0]
    assert_same(alone, reference, rtol=1e-9)
    shuffled = [trials[k] for k in (3, 1, 4, 0, 2)]
    assert_same(run(shuffled, digits, fuse_width=3, tier=tier)[0], reference, rtol=1e-9)
    resumed, half = run(trials, digits, stop_epoch=2, tier=tier)
    more, ended = run(trials, digits, start=half, tier=tier)
    assert_same(resumed | more, reference, rtol=1e-9)
    for one, other in zip(states, ended, strict=True):
        assert torch.equal(one.tensors["params"], other.tensors["params"])


@pytest.mark.parametrize("kind", ["sgd", "momentum", "rmsprop", "adagrad", "adam", "adamw"])
def test_sparsity_is_exact_and_kept_through_momentum_and_decay(make_trial, digits, kind):
    trial = make_trial(
        0, optimizer__kind=kind, optimizer__weight_decay=0.01, optimizer__lr=0.01,
        regularisation__l1=1e-3, regularisation__decoupled_decay=0.01, regularisation__l2=1e-3,
        pruning__sparsity=0.7, pruning__after_epochs=2, model__batch_norm="before",
    )  # fmt: skip
    rows, (state,) = run([trial], digits)
    for matrix in weights(state, trial, digits).values():
        assert int((matrix == 0).sum()) == round(0.7 * matrix.numel())
    cut = state.tensors[PRUNED]
    for name, values in state.tensors.items():
        if name.startswith("slot."):
            assert (values[cut] == 0).all()
    assert "sparsity" in rows[0, 1].metrics
    assert rows[0, 1].metrics["sparsity"] == 0
    assert rows[0, 4].metrics["sparsity"] == pytest.approx(0.7, abs=1e-3)
    module = to_module(state, trial, digits)
    assert all((p != 0).any() for p in module.parameters() if p.ndim == 1)


def test_the_smallest_weights_of_the_epoch_before_are_cut(make_trial, digits):
    trial = make_trial(0, pruning__sparsity=0.5, pruning__after_epochs=3)
    dense = make_trial(0)
    _, (before,) = run([dense], digits, stop_epoch=3)
    _, (after,) = run([trial], digits)
    old, new = weights(before, dense, digits), weights(after, trial, digits)
    for name, matrix in old.items():
        cut = new[name] == 0
        assert matrix[cut].abs().max() <= matrix[~cut].abs().min()


def test_a_mask_is_part_of_the_checkpoint(make_trial, digits, tmp_path):
    trials = [make_trial(0, pruning__sparsity=0.5, pruning__after_epochs=1), make_trial(1)]
    _, states = run(trials, digits, stop_epoch=2)
    refs = save_pack(tmp_path / "pack.pt", states)
    loaded = [load_lane(ref) for ref in refs]
    assert torch.equal(loaded[0].tensors[PRUNED], states[0].tensors[PRUNED])
    assert PRUNED not in loaded[1].tensors


def test_the_best_epoch_is_looked_for_among_pruned_ones(make_trial, digits):
    trial = make_trial(
        0, pruning__sparsity=0.98, pruning__after_epochs=3, optimizer__lr=0.01,
        regularisation__early_stopping={"restore_best": True},
    )  # fmt: skip
    rows, (state,) = run([trial], digits)
    assert rows[0, 4].metrics["val_loss"] > rows[0, 3].metrics["val_loss"]
    assert rows[0, 4].metrics["best_epoch"] == 4
    matrices = weights(state, trial, digits).values()
    assert all(int((m == 0).sum()) == round(0.98 * m.numel()) for m in matrices)


def test_what_cannot_work_is_refused():
    with pytest.raises(ConfigError, match=r"`pruning\.after_epochs` must be less than"):
        TrialConfig.from_mapping({"pruning": {"sparsity": 0.5, "after_epochs": 20}})
    with pytest.raises(ConfigError, match=r"pruning\.sparsity"):
        TrialConfig.from_mapping({"pruning.sparsity": 1.0})
    cma = {"learning_rule.kind": "cma_es", "optimizer.kind": "sgd", "optimizer.lr": 1.0}
    with pytest.raises(ConfigError, match="none stays cut"):
        TrialConfig.from_mapping({**cma, "pruning.sparsity": 0.5})
