"""One file per pack; single lanes are read from it, and damage is caught."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from trainers.data import Dataset
from trainers.errors import CheckpointError
from trainers.lanes.checkpoint import load_lane, load_lanes, save_pack
from trainers.lanes.pack import train_pack
from trainers.lanes.plan import fixed_plan
from trainers.lanes.state import LaneState, join, select
from trainers.trial import EpochReport, Trial

MakeTrials = Callable[..., list[Trial]]


@pytest.fixture
def states(varied_trials: MakeTrials, digits: Dataset) -> list[LaneState]:
    trials = varied_trials(4, optimizer__kind="adam", model__batch_norm="before")
    plan = fixed_plan(trials, digits, tier="kernels", fuse_width=4)
    return list(train_pack(trials, None, 2, dataset=digits, plan=plan).states)


def assert_equal(state: LaneState, expected: LaneState) -> None:
    assert (state.trial_id, state.epoch, state.status) == (
        expected.trial_id,
        expected.epoch,
        expected.status,
    )
    assert state.counters == expected.counters
    assert state.metrics == expected.metrics
    assert state.tensors.keys() == expected.tensors.keys()
    for name, tensor in state.tensors.items():
        assert torch.equal(tensor, expected.tensors[name]), name


def test_single_lanes_come_back_whole(states: list[LaneState], tmp_path: Path) -> None:
    refs = save_pack(tmp_path / "deep" / "pack.pt", states)
    assert [ref.trial_id for ref in refs] == [0, 1, 2, 3]
    assert list((tmp_path / "deep").iterdir()) == [tmp_path / "deep" / "pack.pt"]
    assert_equal(load_lane(refs[2]), states[2])
    for state, expected in zip(load_lanes(refs[::-1]), states[::-1], strict=True):
        assert_equal(state, expected)
    assert any(name.startswith("best.") for name in states[0].tensors)
    assert not any(name.startswith("best.") for name in states[1].tensors)


def test_lanes_of_several_files_join_and_are_selected(
    states: list[LaneState], tmp_path: Path
) -> None:
    left = save_pack(tmp_path / "left.pt", states[:2])
    right = save_pack(tmp_path / "right.pt", states[2:])
    joined = join(load_lanes([left[1], right[0]]), load_lanes(left[:1]))
    assert [state.trial_id for state in select(joined, [0, 1, 2])] == [0, 1, 2]
    with pytest.raises(CheckpointError, match=r"\[7\] are not"):
        select(joined, [7])
    with pytest.raises(CheckpointError, match=r"\[1\] occur more than once"):
        join(joined, load_lanes(left[1:]))


def test_every_flipped_byte_of_a_lane_is_caught_and_other_lanes_stay_readable(
    states: list[LaneState], tmp_path: Path
) -> None:
    path = tmp_path / "pack.pt"
    refs = save_pack(path, states)
    content = path.read_bytes()
    for name in ("params", "slot.square", "buffer.layers.0.norm.running_var"):
        pattern = states[1].tensors[name].numpy().tobytes()[:64]
        position = content.index(pattern) + 17
        damaged = bytearray(content)
        damaged[position] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"truncated or altered .*SHA-256"):
            load_lane(refs[1])
        assert_equal(load_lane(refs[0]), states[0])


def test_flipped_bytes_anywhere_are_caught_or_harmless(
    states: list[LaneState], tmp_path: Path
) -> None:
    path = tmp_path / "pack.pt"
    refs = save_pack(path, states)
    content = path.read_bytes()
    for position in range(0, len(content), len(content) // 97):
        damaged = bytearray(content)
        damaged[position] ^= 0x10
        path.write_bytes(damaged)
        for ref, expected in zip(refs, states, strict=True):
            try:
                state = load_lane(ref)
            except CheckpointError:
                continue
            assert_equal(state, expected)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_truncated_files_are_caught(share: float, states: list[LaneState], tmp_path: Path) -> None:
    path = tmp_path / "pack.pt"
    refs = save_pack(path, states)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointError, match="truncated or altered"):
        load_lane(refs[0])


def test_a_missing_file_and_a_wrong_lane_say_what_to_do(
    states: list[LaneState], tmp_path: Path
) -> None:
    refs = save_pack(tmp_path / "pack.pt", states)
    with pytest.raises(CheckpointError, match="is missing; resume from an earlier epoch"):
        load_lane(replace(refs[0], path=str(tmp_path / "gone.pt")))
    with pytest.raises(CheckpointError, match="truncated or altered"):
        load_lane(replace(refs[0], lane=9))


def test_a_failed_write_leaves_the_old_file(
    states: list[LaneState], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "pack.pt"
    refs = save_pack(path, states[:1])

    def full_disk(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("trainers.lanes.checkpoint.os.fsync", full_disk)
    with pytest.raises(OSError, match="no space"):
        save_pack(path, states)
    assert list(tmp_path.iterdir()) == [path]
    assert_equal(load_lane(refs[0]), states[0])


def test_a_report_saves_the_state_of_its_epoch(
    varied_trials: MakeTrials, digits: Dataset, tmp_path: Path
) -> None:
    trials = varied_trials(2)
    plan = fixed_plan(trials, digits, tier="kernels", fuse_width=2)
    refs = []

    def save(report: EpochReport) -> None:
        refs.append(report.save(tmp_path / f"{len(refs)}.pt"))

    train_pack(trials, None, 3, save, dataset=digits, plan=plan)
    assert [[ref.epoch for ref in pack] for pack in refs] == [[1, 1], [2, 2], [3, 3]]
    again = train_pack(trials, refs[0], 3, dataset=digits, plan=plan)
    for state, ref in zip(again.states, refs[2], strict=True):
        assert_equal(state, load_lane(ref))


def test_a_state_of_another_trial_or_model_is_refused(
    varied_trials: MakeTrials, digits: Dataset
) -> None:
    trials = varied_trials(2)
    plan = fixed_plan(trials, digits, tier="kernels", fuse_width=2)
    states = list(train_pack(trials, None, 1, dataset=digits, plan=plan).states)
    with pytest.raises(CheckpointError, match="in the order of the trials"):
        train_pack(trials, states[::-1], 2, dataset=digits, plan=plan)
    wider = varied_trials(2, model__width=17)
    with pytest.raises(CheckpointError, match="the model changed since"):
        train_pack(wider, states, 2, dataset=digits, plan=plan)
    other = varied_trials(2, optimizer__kind="momentum")
    with pytest.raises(CheckpointError, match="the optimizer changed since"):
        train_pack(other, states, 2, dataset=digits, plan=plan)


def test_a_longer_child_takes_up_its_parents_checkpoint(
    varied_trials: MakeTrials, digits: Dataset, tmp_path: Path
) -> None:
    """With a constant rate the longer schedule has the same prefix, so the curves are equal."""
    (parent,) = varied_trials(1, train__epochs=2, schedule__kind="constant")
    plan = fixed_plan([parent], digits, tier="kernels", fuse_width=1)
    states = list(train_pack([parent], None, 2, dataset=digits, plan=plan).states)
    assert states[0].status == "finished"
    (ref,) = save_pack(tmp_path / "parent.pt", states)
    child = replace(parent, trial_id=9, config=parent.config.with_values({"train.epochs": 4}))
    extended = train_pack([child], [replace(ref, trial_id=9)], 4, dataset=digits, plan=plan)
    anew = train_pack([child], None, 4, dataset=digits, plan=plan)
    assert_equal(extended.states[0], anew.states[0])
