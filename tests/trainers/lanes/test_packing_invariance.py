"""DESIGN rule 3: packing never changes a result."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from trainers.data import Dataset
from trainers.lanes.checkpoint import save_pack
from trainers.lanes.pack import train_pack
from trainers.lanes.plan import fixed_plan
from trainers.lanes.state import LaneState, join, select
from trainers.trial import EpochReport, EpochRow, Trial

KINDS = ["sgd", "momentum", "rmsprop", "adagrad", "adam", "adamw"]
Curves = dict[tuple[int, int], EpochRow]


def run(
    trials: Sequence[Trial],
    dataset: Dataset,
    *,
    fuse_width: int = 4,
    stop_epoch: int = 9,
    start: Sequence[LaneState | None] | None = None,
    tier: str = "kernels",
) -> tuple[Curves, list[LaneState]]:
    rows: Curves = {}

    def keep(report: EpochReport) -> None:
        rows.update({(row.trial_id, row.epoch): row for row in report.rows})

    plan = fixed_plan(trials, dataset, tier=tier, fuse_width=fuse_width)
    result = train_pack(trials, start, stop_epoch, keep, dataset=dataset, plan=plan)
    return rows, list(result.states)


def assert_same(rows: Curves, reference: Curves, *, rtol: float = 0.0) -> None:
    assert rows.keys() == reference.keys()
    for key, row in rows.items():
        expected = reference[key]
        assert (row.status, row.reason) == (expected.status, expected.reason)
        assert row.metrics.keys() == expected.metrics.keys()
        for name, value in row.metrics.items():
            np.testing.assert_allclose(value, expected.metrics[name], rtol=rtol, atol=0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch_norm", ["none", "before", "after"])
def test_alone_in_any_pack_and_in_any_order_every_epoch_is_bit_equal(
    kind: str,
    batch_norm: str,
    varied_trials: Callable[..., list[Trial]],
    digits: Dataset,
) -> None:
    trials = varied_trials(7, optimizer__kind=kind, model__batch_norm=batch_norm)
    reference, _ = run(trials, digits)
    alone: Curves = {}
    for trial in trials:
        alone |= run([trial], digits, fuse_width=1)[0]
    assert_same(alone, reference)
    shuffled = [trials[i] for i in (5, 2, 6, 0, 3, 1, 4)]
    assert_same(run(shuffled, digits, fuse_width=3)[0], reference)
    assert_same(run(trials, digits, fuse_width=7)[0], reference)


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "relu", "elu", "identity"])
@pytest.mark.parametrize("kind", ["momentum", "adam"])
def test_in_float32_every_epoch_of_an_mlp_is_bit_equal_too(
    kind: str,
    activation: str,
    varied_trials: Callable[..., list[Trial]],
    digits: Dataset,
) -> None:
    trials = varied_trials(
        6,
        optimizer__kind=kind,
        model__activation=activation,
        model__batch_norm="before",
        model__width=37,
        train__precision="float32",
    )
    reference, _ = run(trials, digits, fuse_width=6)
    assert_same(run(trials, digits, fuse_width=4)[0], reference)
    assert_same(run(trials[::-1], digits, fuse_width=1)[0], reference)


@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_repacked_half_way_and_read_back_from_disk_nothing_changes(
    kind: str,
    varied_trials: Callable[..., list[Trial]],
    digits: Dataset,
    tmp_path: Path,
) -> None:
    trials = varied_trials(6, optimizer__kind=kind, model__batch_norm="after")
    reference, final = run(trials, digits)
    rows, left = run(trials[:3], digits, stop_epoch=2)
    more, right = run(trials[3:], digits, stop_epoch=2, fuse_width=2)
    rows |= more
    refs = save_pack(tmp_path / "left.pt", left) + save_pack(tmp_path / "right.pt", right)
    order = [4, 0, 3, 1, 5, 2]
    repacked = [trials[i] for i in order]
    plan = fixed_plan(repacked, digits, tier="kernels", fuse_width=4)
    result = train_pack(
        repacked,
        [refs[i] for i in order],
        9,
        lambda report: rows.update({(row.trial_id, row.epoch): row for row in report.rows}),
        dataset=digits,
        plan=plan,
    )
    assert_same(rows, reference)
    for state, expected in zip(select(result.states, range(6)), final, strict=True):
        assert state.counters == expected.counters
        for name, tensor in state.tensors.items():
            assert torch.equal(tensor, expected.tensors[name]), name


def test_lanes_of_several_packs_join_at_different_epochs(
    varied_trials: Callable[..., list[Trial]], digits: Dataset
) -> None:
    trials = varied_trials(4)
    reference, _ = run(trials, digits)
    rows, early = run(trials[:2], digits, stop_epoch=1)
    more, late = run(trials[2:], digits, stop_epoch=3)
    rows |= more
    rows |= run(trials, digits, start=join(early, late))[0]
    assert_same(rows, reference)


def test_the_horizon_is_the_trials_own_whatever_the_segments(
    varied_trials: Callable[..., list[Trial]], digits: Dataset
) -> None:
    trials = varied_trials(3, schedule__kind="cosine", train__epochs=5)
    reference, _ = run(trials, digits)
    rows: Curves = {}
    states: list[LaneState] | None = None
    for stop_epoch in (1, 2, 3, 4, 5):
        segment, states = run(trials, digits, start=states, stop_epoch=stop_epoch)
        rows |= segment
    assert_same(rows, reference)


def test_a_diverging_lane_freezes_and_leaves_the_others_as_they_were(
    varied_trials: Callable[..., list[Trial]], digits: Dataset
) -> None:
    trials = varied_trials(5, optimizer__kind="rmsprop", train__precision="float32")
    reference, _ = run(trials, digits, fuse_width=5)
    poison = trials[2].config.with_values(
        {"optimizer.lr": 1e30, "train.grad_clip_norm": None, "schedule.warmup_fraction": 0}
    )
    poisoned = [*trials[:2], replace(trials[2], config=poison), *trials[3:]]
    rows, states = run(poisoned, digits, fuse_width=5)
    assert states[2].status == "diverged"
    assert states[2].epoch == 1
    assert "not finite at update" in states[2].reason
    assert_same(
        {key: row for key, row in rows.items() if key[0] != 2},
        {key: row for key, row in reference.items() if key[0] != 2},
    )
    alone, alone_states = run(poisoned[2:3], digits, fuse_width=1)
    assert alone.keys() == {(2, 1)}
    for name, tensor in states[2].tensors.items():
        assert torch.equal(tensor, alone_states[0].tensors[name]), name


def test_time_spent_on_a_dead_lane_is_padding(
    varied_trials: Callable[..., list[Trial]], digits: Dataset
) -> None:
    trials = varied_trials(2, optimizer__kind="sgd", optimizer__lr=1e-3)
    dead = trials[1].config.with_values(
        {"optimizer.lr": 1e200, "train.grad_clip_norm": None, "schedule.warmup_fraction": 0}
    )
    trials[1] = replace(trials[1], config=dead)
    reports: list[EpochReport] = []
    plan = fixed_plan(trials, digits, tier="kernels", fuse_width=2)
    train_pack(trials, None, 3, reports.append, dataset=digits, plan=plan)
    first, second = reports[:2]
    healthy, diverged = first.rows
    assert 0 < diverged.busy_s < healthy.busy_s
    assert first.padding_s == pytest.approx(healthy.busy_s - diverged.busy_s)
    assert [row.trial_id for row in second.rows] == [0]
    assert second.padding_s == 0
