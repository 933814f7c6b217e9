"""Lottery tickets (Frankle & Carbin 2019; lecture, p. 58)."""

import pytest
import torch

from trainers.config import TrialConfig
from trainers.data import load
from trainers.errors import ConfigError
from trainers.lanes.pack import train_pack
from trainers.lanes.plan import fixed_plan
from trainers.lanes.state import PARAMS, PRUNED
from trainers.tickets import find_tickets
from trainers.trial import Trial


def config_of(**values: object) -> TrialConfig:
    return TrialConfig.from_mapping(
        {
            "data.num_train": 300, "model.width": 32, "train.epochs": 6, "optimizer.lr": 5e-3,
            "optimizer.kind": "momentum", "optimizer.weight_decay": 1e-3,
            "train.precision": "float64", **values,
        }
    )  # fmt: skip


@pytest.fixture(scope="module")
def found():
    config = config_of()
    return (
        config,
        load(config.data),
        find_tickets(config, load(config.data), rounds=3, seeds=(0, 1)),
    )


def test_every_arm_of_every_round_is_there(found):
    _, _, tickets = found
    arms = [(row.round, row.arm, row.seed) for row in tickets.rows]
    assert arms[:2] == [(0, "dense", 0), (0, "dense", 1)]
    controls = ("ticket", "reinitialised", "random_mask")
    assert arms[2:] == [(r, arm, seed) for r in (1, 2, 3) for arm in controls for seed in (0, 1)]
    assert all(1 <= row.early_stop_epoch <= 6 for row in tickets.rows)


def test_what_remains_is_exact_in_every_layer_and_arm(found):
    _, _, tickets = found
    sizes = {"first": 64 * 32, "second": 32 * 32, "head": 320}
    left = dict(sizes)
    for round_ in (1, 2, 3):
        for name, rate in (("first", 0.2), ("second", 0.2), ("head", 0.1)):
            left[name] -= round(rate * left[name])
        share = sum(left.values()) / sum(sizes.values())
        rows = [row for row in tickets.rows if row.round == round_]
        assert [row.remaining for row in rows] == pytest.approx([share] * 6, abs=1e-12)


def test_tickets_rewind_and_their_cut_weights_stay_zero(found):
    config, dataset, tickets = found
    for seed, state in tickets.states.items():
        cut = state.tensors[PRUNED]
        assert (state.tensors[PARAMS][cut] == 0).all()
        assert (state.tensors["slot.velocity"][cut] == 0).all()
        # The same mask over the initial weights of the seed, trained alone, is the ticket.
        trial = Trial(trial_id=0, config=config, seed=seed)
        plan = fixed_plan([trial], dataset, tier="kernels", fuse_width=1)
        (start,) = train_pack([trial], None, 0, dataset=dataset, plan=plan).states
        start.tensors[PARAMS][cut] = 0
        start.tensors[PRUNED] = cut
        (alone,) = train_pack([trial], [start], 6, dataset=dataset, plan=plan).states
        torch.testing.assert_close(
            alone.tensors[PARAMS], state.tensors[PARAMS], rtol=1e-9, atol=1e-9
        )


def test_rewinding_to_an_epoch_starts_there(found):
    config = config_of(**{"train.epochs": 3})
    tickets = find_tickets(
        config, load(config.data), rounds=1, seeds=(4,), rewind_epoch=2, controls=()
    )
    assert [row.arm for row in tickets.rows] == ["dense", "ticket"]
    assert tickets.rows[1].early_stop_epoch == 3


def test_tickets_beat_random_masks_when_little_is_left():
    config = config_of(**{"data.name": "digits", "train.epochs": 12})
    config = config.with_values({"data.num_train": 800, "optimizer.lr": 0.02})
    rows = find_tickets(
        config, load(config.data), rounds=5, rate=0.5, head_rate=0.3, seeds=range(4)
    ).rows
    errors = {
        arm: sum(row.metrics["val_error"] for row in rows if row.round == 5 and row.arm == arm) / 4
        for arm in ("ticket", "reinitialised", "random_mask")
    }
    assert errors["ticket"] < errors["random_mask"]


def test_what_cannot_work_is_refused():
    dataset = load(config_of().data)
    with pytest.raises(ConfigError, match=r"between 0 and 1, but got 1\.2"):
        find_tickets(config_of(), dataset, rate=1.2)
    with pytest.raises(ConfigError, match="before the last epoch"):
        find_tickets(config_of(), dataset, rewind_epoch=6)
    with pytest.raises(ConfigError, match=r"need `pruning\.sparsity` 0"):
        find_tickets(config_of(**{"pruning.sparsity": 0.5}), dataset)
    with pytest.raises(ConfigError, match="at least 1 round and 1 seed"):
        find_tickets(config_of(), dataset, seeds=())
