from hypothesis import given
from hypothesis import strategies as st

from service.ledger.records import TrialRecord
from service.search.packer import MAX_LANES, pack, pack_sizes
from trainers.trial import ExecutionPlan


def trial(trial_id: int, config_id: str) -> TrialRecord:
    return TrialRecord(
        trial_id=trial_id, round=0, batch=0, role="search", config={}, params={},
        config_id=config_id, seed=trial_id, horizon_epochs=3,
    )  # fmt: skip


def plan(signature: str, max_lanes: int) -> ExecutionPlan:
    return ExecutionPlan(
        signature=signature, tier="kernels", fuse_width=8, max_lanes=max_lanes, num_threads=1,
        dtype="float32", device="cpu", reasons={},
    )  # fmt: skip


@given(st.integers(1, 500), st.integers(1, 64))
def test_packs_hold_every_trial_are_even_and_never_too_large(num_trials, max_lanes):
    sizes = pack_sizes(num_trials, max_lanes)
    assert sum(sizes) == num_trials
    assert max(sizes) <= min(max_lanes, MAX_LANES)
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) >= 1


def test_a_few_trials_make_two_packs_and_many_make_four():
    assert pack_sizes(3) == [3]
    assert pack_sizes(8) == [4, 4]
    assert pack_sizes(64) == [16] * 4
    assert pack_sizes(256) == [32] * 8


def test_a_pack_holds_one_signature_and_ids_are_unique():
    trials = [trial(i, "a" if i % 3 else "b") for i in range(20)]
    segments = pack(
        trials, lambda record: record.config_id, {}, round_=1, batch=2, rung=0, stop_epoch=4
    )
    signature_of = {record.trial_id: record.config_id for record in trials}
    assert sorted(i for segment in segments for i in segment.trial_ids) == list(range(20))
    assert all(len({signature_of[i] for i in s.trial_ids}) == 1 for s in segments)
    assert len({segment.segment_id for segment in segments}) == len(segments)
    assert {segment.stop_epoch for segment in segments} == {4}


def test_the_order_of_trials_does_not_change_the_packs():
    trials = [trial(i, "ab"[i % 2]) for i in range(11)]
    arguments = {"round_": 0, "batch": 0, "rung": 0, "stop_epoch": 1}
    forwards = pack(trials, lambda r: r.config_id, {}, **arguments)
    backwards = pack(trials[::-1], lambda r: r.config_id, {}, **arguments)
    assert forwards == backwards


def test_a_known_plan_limits_the_lanes():
    trials = [trial(i, "big") for i in range(10)]
    segments = pack(
        trials, lambda r: r.config_id, {"big": plan("big", 3)},
        round_=0, batch=0, rung=0, stop_epoch=1,
    )  # fmt: skip
    assert max(len(segment.trial_ids) for segment in segments) <= 3
