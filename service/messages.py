"""What a worker says while it runs a segment. The ledger's one writer applies these in any order.

Each message carries the search, the segment and the attempt number. The attempt is a fencing
token: a message of an older attempt never overwrites what a newer one wrote, and the same
message applied twice changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from trainers.trial import CheckpointRef, EpochRow, ExecutionPlan, Trial


@dataclass(frozen=True, kw_only=True)
class SegmentOrder:
    """One pack to be trained from where its lanes are to `stop_epoch`. Idempotent."""

    search_id: str
    segment_id: str
    """Short and unique in its search, e.g. `r1b0s3` (round 1, batch 0, third segment)."""
    attempt: int
    """1 for the first try."""
    trials: tuple[Trial, ...]
    start: tuple[CheckpointRef | None, ...]
    """Where each lane starts; None: from its initial weights."""
    stop_epoch: int
    checkpoint_dir: str
    plan: ExecutionPlan | None
    """None: the worker measures one and says so in `Planned`."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where a plan that is still to be made shall run; a given plan's device wins."""
    save_every_epochs: int | None = None
    """Save inside the segment every so many epochs (and every 5 minutes anyway)."""


@dataclass(frozen=True, kw_only=True)
class Usage:
    """Processor time that lanes were given between two moments on one host (for energy)."""

    host: str
    pid: int
    started_s: float
    """time.monotonic() of that host, as is `ended_s`."""
    ended_s: float
    trial_busy_s: Mapping[int, float]
    padding_s: float
    device: str = "cpu"


@dataclass(frozen=True, kw_only=True)
class Message:
    """What every message carries."""

    search_id: str
    segment_id: str
    attempt: int


@dataclass(frozen=True, kw_only=True)
class Began(Message):
    """A worker took the order up: from here on a death counts against the segment."""

    host: str
    pid: int


@dataclass(frozen=True, kw_only=True)
class Planned(Message):
    """The worker measured an execution plan for this signature."""

    plan: ExecutionPlan


@dataclass(frozen=True, kw_only=True)
class Border(Message):
    """Everything since the last border: one transaction in the ledger.

    `sequence` counts borders of one attempt from 0. Checkpoints refer to the state after the
    last epoch in `rows`; the files are durable before this message is sent.
    """

    sequence: int
    rows: Sequence[EpochRow]
    checkpoints: Sequence[CheckpointRef]
    usage: Sequence[Usage]


@dataclass(frozen=True, kw_only=True)
class Progress(Message):
    """Epochs for the live display only; never written to the ledger."""

    rows: Sequence[EpochRow]


@dataclass(frozen=True, kw_only=True)
class Finished(Message):
    """The segment reached its stop epoch; every border of it has been sent."""

    seconds: float


@dataclass(frozen=True, kw_only=True)
class Failed(Message):
    """The segment did not reach its stop epoch: it raised, or its worker died.

    `began` is False where the worker died before it took the order up (blameless).
    """

    error: str
    worker_died: bool
    began: bool


@dataclass(frozen=True, kw_only=True)
class Interrupted(Message):
    """The segment was asked to stop, saved a border, and ended early."""


AnyMessage = Began | Planned | Border | Progress | Finished | Failed | Interrupted
