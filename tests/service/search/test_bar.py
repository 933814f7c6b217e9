"""The bar at a rung: which other batches a batch is compared with, whatever the timing."""

from __future__ import annotations

import math

from bare_context import bare_context, put_trial

from service.ledger.records import SegmentRecord
from service.messages import Border
from service.search.bar import Bar, group_values
from trainers.trial import EpochRow


def train(context, errors):
    """Record the epochs of trials: trial id -> val_error of each epoch."""
    ledger, search_id = context.ledger, context.search_id
    name = f"s{min(errors)}"
    ledger.add_segments(
        search_id,
        [
            SegmentRecord(
                segment_id=name, round=0, batch=0, rung=0, trial_ids=tuple(errors), stop_epoch=4
            )
        ],
    )
    attempt = ledger.begin_attempt(search_id, name)
    rows = tuple(
        EpochRow(
            trial_id=trial_id, epoch=epoch, metrics={"val_error": error}, status="running",
            reason="", busy_s=0.0,
        )
        for trial_id, values in errors.items()
        for epoch, error in enumerate(values, start=1)
    )  # fmt: skip
    ledger.apply(
        Border(
            search_id=search_id, segment_id=name, attempt=attempt, sequence=0, rows=rows,
            checkpoints=(), usage=(),
        )
    )  # fmt: skip


def three_batches(context):
    for trial_id, batch in enumerate((0, 0, 1, 1, 2)):
        put_trial(context, trial_id, 0.01 * (trial_id + 1), batch=batch, state="waiting")
    train(context, {0: [0.5, 0.4], 1: [0.9], 2: [0.3, 0.2], 3: [0.6, 0.1], 4: [0.7, 0.5]})
    ended = [(0, {"state": "complete"}), (1, {"state": "pruned"})]
    context.ledger.update_trials(context.search_id, ended)


def test_a_batch_is_compared_with_those_that_ended_before_it_was_opened(tmp_path):
    context = bare_context(tmp_path)
    three_batches(context)
    bar = Bar(context, 0)
    assert bar.values(0, 1) == {}
    assert bar.values(1, 1) == {}
    assert bar.values(2, 1) == {0: (0.5,), 1: (0.9,)}


def test_trials_stopped_before_a_rung_are_not_compared_there(tmp_path):
    context = bare_context(tmp_path)
    three_batches(context)
    assert Bar(context, 0).values(2, 2) == {0: (0.4,)}


def test_the_asynchronous_mode_compares_with_all_that_have_reached_the_rung(tmp_path):
    context = bare_context(tmp_path, mode="asynchronous")
    three_batches(context)
    bar = Bar(context, 0)
    assert bar.values(0, 2) == {2: (0.2,), 3: (0.1,), 4: (0.5,)}
    assert bar.values(2, 2) == {0: (0.4,), 2: (0.2,), 3: (0.1,)}


def test_what_has_ended_is_read_once(tmp_path, monkeypatch):
    context = bare_context(tmp_path)
    three_batches(context)
    bar = Bar(context, 0)
    first = bar.values(2, 1)
    monkeypatch.setattr(context.ledger, "trials", None)
    assert bar.values(2, 1) == first


def test_a_configuration_counts_as_its_mean_and_as_diverged_where_one_seed_did(tmp_path):
    context = bare_context(tmp_path)
    for trial_id, (lr, seed) in enumerate([(0.01, 1), (0.01, 2), (0.02, 1), (0.02, 2)]):
        put_trial(context, trial_id, lr, seed=seed, state="waiting")
    train(context, {0: [0.2], 1: [0.4], 2: [0.1], 3: [0.1]})
    context.ledger.update_trials(context.search_id, [(3, {"state": "diverged"})])
    values = group_values(context, context.ledger.trials(context.search_id), 1)
    assert math.isclose(values[0][0], 0.3)
    assert math.isnan(values[2][0])
