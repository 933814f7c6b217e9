"""The retry policy: one poisonous lane is found wherever it sits, and costs nobody else."""

import pytest
from executor_fakes import KILLS_ITS_WORKER, listen, order
from hypothesis import given, settings
from hypothesis import strategies as st

from service.ledger.records import SegmentRecord
from service.messages import Failed, Finished
from service.search.retry import MAX_BLAMELESS, RetryPolicy
from service.search.segment import OUT_OF_MEMORY
from trainers.errors import WorkerError


def segment(num_lanes, segment_id="r0b0e4s0"):
    return SegmentRecord(
        segment_id=segment_id,
        round=0,
        batch=0,
        rung=0,
        trial_ids=tuple(range(num_lanes)),
        stop_epoch=4,
    )


def failure(of, attempt=1, *, error="the worker died", worker_died=True, began=True):
    return Failed(
        search_id="s",
        segment_id=of.segment_id,
        attempt=attempt,
        error=error,
        worker_died=worker_died,
        began=began,
    )


def play(num_lanes, fails, **how):
    """Run a pack under the policy; `fails(trial_ids)` says whether an attempt fails."""
    policy, todo, done, lost, attempts = RetryPolicy(), [segment(num_lanes)], [], [], {}
    num_failures = 0
    while todo:
        current = todo.pop(0)
        attempt = attempts.get(current.segment_id, current.attempt) + 1
        attempts[current.segment_id] = attempt
        if not fails(current.trial_ids):
            done += current.trial_ids
            continue
        num_failures += 1
        decision = policy.decide(current, failure(current, attempt, **how))
        assert decision.reason
        assert all(child.attempt == attempt for child in decision.children)
        assert not {child.segment_id for child in decision.children} & attempts.keys()
        if not decision.again and not decision.children:
            assert len(current.trial_ids) == 1
            lost += current.trial_ids
        todo = [*decision.again, *decision.children, *todo]
    return sorted(done), lost, num_failures


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_a_poisonous_lane_is_found_at_every_position_and_fails_alone(data):
    num_lanes = data.draw(st.integers(1, 64))
    poison = data.draw(st.integers(0, num_lanes - 1))
    done, lost, num_failures = play(num_lanes, lambda ids: poison in ids)
    assert lost == [poison]
    assert done == [lane for lane in range(num_lanes) if lane != poison]
    assert num_failures <= 6


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 64), st.sets(st.integers(0, 63)), st.booleans())
def test_any_set_of_poisonous_lanes_is_lost_and_no_other(num_lanes, poison, worker_died):
    poison = {lane for lane in poison if lane < num_lanes}
    done, lost, _ = play(num_lanes, lambda ids: poison & set(ids), worker_died=worker_died)
    assert sorted(lost) == sorted(poison)
    assert done == sorted(set(range(num_lanes)) - poison)


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 64), st.integers(1, 64))
def test_a_pack_too_large_for_memory_is_halved_until_it_fits(num_lanes, fit):
    done, lost, num_failures = play(
        num_lanes,
        lambda ids: len(ids) > fit,
        error=f"{OUT_OF_MEMORY}: 9 GB asked for",
        worker_died=False,
    )
    assert done == list(range(num_lanes))
    assert not lost
    assert num_failures <= 2 * num_lanes / fit


def test_one_trial_too_large_for_memory_fails_with_that_reason():
    of = segment(1)
    policy = RetryPolicy()
    error = f"{OUT_OF_MEMORY}: 9 GB asked for\nTraceback ..."
    assert policy.decide(of, failure(of, error=error, worker_died=False)).again == (of,)
    decision = policy.decide(of, failure(of, 2, error=error, worker_died=False))
    assert decision.reason == f"{OUT_OF_MEMORY}: 9 GB asked for (alone, 2 times)"


def test_a_death_is_tried_three_times_before_the_pack_is_split():
    of = segment(8)
    policy = RetryPolicy()
    assert policy.decide(of, failure(of, 1)).again == (of,)
    assert policy.decide(of, failure(of, 2)).again == (of,)
    children = policy.decide(of, failure(of, 3)).children
    assert [child.trial_ids for child in children] == [(0, 1, 2, 3), (4, 5, 6, 7)]
    assert [child.segment_id for child in children] == ["r0b0e4s0h0", "r0b0e4s0h1"]


def test_an_exception_is_split_at_once_since_it_would_be_raised_again():
    of = segment(8)
    assert len(RetryPolicy().decide(of, failure(of, worker_died=False)).children) == 2


def test_blameless_deaths_are_not_counted_but_have_an_end():
    of = segment(8)
    policy = RetryPolicy()
    for attempt in range(1, MAX_BLAMELESS):
        assert policy.decide(of, failure(of, attempt, began=False)).again == (of,)
    with pytest.raises(WorkerError, match="10 workers in a row"):
        policy.decide(of, failure(of, MAX_BLAMELESS, began=False))


def test_a_blamed_failure_ends_a_row_of_blameless_ones():
    of = segment(8)
    policy = RetryPolicy()
    for _ in range(2):
        for _ in range(MAX_BLAMELESS - 1):
            policy.decide(of, failure(of, began=False))
        assert policy.decide(of, failure(of)).again == (of,)


def test_a_lane_that_kills_its_worker_is_found_on_real_workers(ray_executor, tmp_path):
    seeds = {0: 1, 1: 2, 2: KILLS_ITS_WORKER, 3: 4}
    policy, open_segments, done, lost = RetryPolicy(), {}, set(), set()

    def submit(of, attempt):
        open_segments[of.segment_id] = of
        its_seeds = [seeds[trial_id] for trial_id in of.trial_ids]
        ray_executor.submit(order(tmp_path, of.segment_id, its_seeds, attempt=attempt))

    submit(segment(4, "r0b0e4s0h0"), 1)  # a part, so that the first death splits it
    while open_segments:
        last = listen(ray_executor).messages[-1]
        of = open_segments.pop(last.segment_id)
        if isinstance(last, Finished):
            done |= set(of.trial_ids)
            continue
        assert isinstance(last, Failed)
        decision = policy.decide(of, last)
        for following in (*decision.again, *decision.children):
            submit(following, last.attempt + 1)
        if not decision.again and not decision.children:
            lost |= set(of.trial_ids)
            assert "died" in decision.reason
    assert lost == {2}
    assert done == {0, 1, 3}
