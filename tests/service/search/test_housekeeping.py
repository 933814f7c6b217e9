"""Checkpoints that nothing goes on from are deleted, and only those."""

from __future__ import annotations

import pytest
from bare_context import bare_context, put_trial

from service.ledger.records import SegmentRecord
from service.messages import Border
from service.search import housekeeping
from service.search.housekeeping import tidy, tidy_when_due
from trainers.trial import CheckpointRef


def border(context, segment_id, trial_ids, state="done"):
    """Record a segment that has saved its trials' fourth epoch, and the file."""
    ledger = context.ledger
    segment = SegmentRecord(
        segment_id=segment_id, round=0, batch=0, rung=0, trial_ids=tuple(trial_ids), stop_epoch=4
    )
    ledger.add_segments(context.search_id, [segment])
    attempt = ledger.begin_attempt(context.search_id, segment_id)
    path = context.checkpoint_dir / f"{segment_id}.{attempt}.0.pt"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"x" * 100)
    refs = tuple(
        CheckpointRef(
            trial_id=t, epoch=4, path=str(path), lane=lane, sha256="0" * 64, num_bytes=100
        )
        for lane, t in enumerate(trial_ids)
    )
    ledger.apply(
        Border(
            search_id=context.search_id, segment_id=segment_id, attempt=attempt, sequence=0,
            rows=(), checkpoints=refs, usage=(),
        )
    )  # fmt: skip
    ledger.update_segment(context.search_id, segment_id, state=state)
    return path


@pytest.fixture
def context(tmp_path, monkeypatch):
    monkeypatch.setattr(housekeeping, "KEPT_FOR_EXTENSION", 1)
    context = bare_context(tmp_path)
    put_trial(context, 0, 0.01, error=0.2)
    put_trial(context, 1, 0.02, error=0.3)
    put_trial(context, 2, 0.03, error=0.5, state="pruned")
    put_trial(context, 3, 0.04, state="waiting")
    put_trial(context, 4, 0.05, error=0.9, role="finalist")
    return context


def test_the_best_the_unfinished_and_the_finalists_keep_theirs(context):
    kept = [border(context, f"s{t}", [t]) for t in (0, 3, 4)]
    gone = [border(context, f"s{t}", [t]) for t in (1, 2)]
    assert tidy(context) == 2
    assert all(path.exists() for path in kept)
    assert not any(path.exists() for path in gone)


def test_files_of_running_segments_are_left_alone(context):
    path = border(context, "s2", [2], state="running")
    assert tidy(context) == 0
    assert path.exists()


def test_tidying_waits_until_the_folder_has_outgrown_what_was_kept(context, monkeypatch):
    path = border(context, "s2", [2])
    tidy_when_due(context)
    assert path.exists()
    monkeypatch.setattr(housekeeping, "SPARE_BYTES", 0)
    tidy_when_due(context)
    assert not path.exists()
