"""Records and messages for tests, with as little as a test cares about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from service.ledger import Ledger, RoundRecord, SegmentRecord, TrialRecord
from service.ledger.schema import metadata
from service.messages import Border, Usage
from trainers.trial import CheckpointRef, EpochRow, ExecutionPlan, LaneStatus


def new_search(ledger: Ledger, name: str = "demo", **spec: Any) -> str:
    """Add a search and return its id."""
    return ledger.create_search(name=name, spec=spec, seed=0).search_id


def trial_record(trial_id: int, **fields: Any) -> TrialRecord:
    """Return a waiting trial of round 0, batch 0 with a horizon of 20 epochs."""
    values: dict[str, Any] = {
        "round": 0,
        "batch": 0,
        "role": "search",
        "config": {"optimizer": {"lr": 0.1 * trial_id}},
        "params": {"optimizer.lr": 0.1 * trial_id},
        "config_id": f"c{trial_id}",
        "seed": trial_id,
        "horizon_epochs": 20,
    }
    return TrialRecord(trial_id=trial_id, **{**values, **fields})


def round_record(number: int, **fields: Any) -> RoundRecord:
    """Return a running round of random search."""
    values: dict[str, Any] = {
        "kind": "search",
        "sampler": "random",
        "sampler_reason": "coarse",
        "space": {"optimizer.lr": {"log_uniform": [1e-5, 1.0]}},
        "epochs": 3,
        "planned_trials": 8,
        "state": "running",
    }
    return RoundRecord(round=number, **{**values, **fields})


def segment_record(segment_id: str, trial_ids: Sequence[int], **fields: Any) -> SegmentRecord:
    """Return a waiting segment of round 0, batch 0, rung 0 that stops at epoch 4."""
    values: dict[str, Any] = {"round": 0, "batch": 0, "rung": 0, "stop_epoch": 4}
    return SegmentRecord(segment_id=segment_id, trial_ids=tuple(trial_ids), **{**values, **fields})


def plan(signature: str = "s", fuse_width: int = 8) -> ExecutionPlan:
    """Return an execution plan."""
    return ExecutionPlan(
        signature=signature,
        tier="kernels",
        fuse_width=fuse_width,
        max_lanes=64,
        num_threads=1,
        dtype="float32",
        device="cpu",
        reasons={"tier": "known layers"},
        measured={"lane-steps/s": 7000.0},
    )


def border(
    search_id: str,
    attempt: int,
    epochs: Sequence[int],
    *,
    segment_id: str = "r0b0s0",
    sequence: int = 0,
    trial_ids: Sequence[int] = (0, 1),
    status: LaneStatus = "running",
    **metrics: float,
) -> Border:
    """Return the border of an attempt after `epochs`; its values tell trial, epoch and attempt."""
    rows = [
        EpochRow(
            trial_id=trial,
            epoch=epoch,
            metrics={"val_loss": trial + epoch / 100 + attempt / 1e4, **metrics},
            status=status if epoch == epochs[-1] else "running",
            reason="" if status == "running" else f"{status} at epoch {epoch}",
            busy_s=0.5,
        )
        for epoch in epochs
        for trial in trial_ids
    ]
    references = [
        CheckpointRef(
            trial_id=trial,
            epoch=epochs[-1],
            path=f"{segment_id}-{attempt}-{epochs[-1]}.pt",
            lane=lane,
            sha256=f"{trial}",
            num_bytes=100,
        )
        for lane, trial in enumerate(trial_ids)
    ]
    used = Usage(
        host="h",
        pid=attempt,
        started_s=float(sequence),
        ended_s=sequence + 1.0,
        trial_busy_s=dict.fromkeys(trial_ids, 0.5),
        padding_s=0.0,
    )
    return Border(
        search_id=search_id,
        segment_id=segment_id,
        attempt=attempt,
        sequence=sequence,
        rows=rows,
        checkpoints=references,
        usage=[used],
    )


def contents(ledger: Ledger, search_id: str) -> dict[str, list[str]]:
    """Return all rows of all tables that belong to a search, without its id, to compare."""
    found: dict[str, list[str]] = {}
    with sa.create_engine(ledger.url).connect() as connection:
        for table in metadata.sorted_tables:
            if "search_id" not in table.columns or table.name == "searches":
                continue
            columns = [column for column in table.columns if column.name != "search_id"]
            rows = connection.execute(
                sa.select(*columns).where(table.c.search_id == search_id)
            ).all()
            found[table.name] = sorted(map(repr, rows))
    return found
