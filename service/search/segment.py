"""One segment, start to end: train a pack, save it at borders, and say so.

Both executors run this function, so a segment behaves the same in the calling process and on a
worker of a cluster. What it says is a stream of `service.messages`:

    Began, [Planned], (Progress | Border)*, Finished | Interrupted | Failed

Crash behaviour: a border is sent only after its checkpoint file is durable. Whatever happened
after the last border is trained again by the next attempt, and gives the same numbers.
"""

from __future__ import annotations

import os
import socket
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from service.messages import (
    AnyMessage,
    Began,
    Border,
    Failed,
    Finished,
    Interrupted,
    Planned,
    Progress,
    SegmentOrder,
    Usage,
)
from trainers.config import DataConfig
from trainers.errors import CheckpointError, IsoflopError
from trainers.trial import EpochReport, EpochRow, ExecutionPlan

MAX_UNSAVED_S = 300.0
"""A border is saved at least this often, so that a killed worker loses at most five minutes."""
PROGRESS_EVERY_S = 0.25
USAGE_SPAN_S = 1.0
"""Epochs are added up to spans of about this length: energy windows are at most 1 s long."""
OUT_OF_MEMORY = "out of memory"
"""Begins the error of a segment that did not fit: trying it again unsplit would not help."""
DAMAGED = "damaged checkpoint"
"""Begins the error of a segment that could not read where to go on from."""

Emit = Callable[[AnyMessage], None]
ShouldStop = Callable[[], bool]
DatasetSource = Callable[[DataConfig], Any]


class _Name(TypedDict):
    search_id: str
    segment_id: str
    attempt: int


@dataclass(frozen=True, kw_only=True)
class Training:
    """The trainer's functions that a segment needs."""

    load: DatasetSource
    make_plan: Callable[..., ExecutionPlan]
    """As `trainers.lanes.plan.make_plan`."""
    train_pack: Callable[..., Any]
    """As `trainers.train_pack`."""
    ship: Callable[[Any], Any] = lambda dataset: dataset
    """Turns data into arrays that an object store shares between processes."""
    unship: Callable[[Any], Any] = lambda arrays: arrays
    """Undoes `ship`, without a copy."""


def isoflop_training() -> Training:
    """Return the functions of `trainers`; imports torch."""
    from trainers import train_pack
    from trainers.data import Dataset, load
    from trainers.lanes.plan import make_plan

    return Training(
        load=load,
        make_plan=make_plan,
        train_pack=train_pack,
        ship=Dataset.to_arrays,
        unship=Dataset.from_arrays,
    )


def run_segment(
    order: SegmentOrder,
    emit: Emit,
    should_stop: ShouldStop,
    dataset_source: DatasetSource | None = None,
    *,
    training: Training | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Train the order's pack to its stop epoch; every outcome is a message, none is raised.

    Args:
        order: what to train, from where, and where to save.
        emit: receives each message in order, on the calling thread.
        should_stop: asked once an epoch; True ends the segment after that epoch, saved.
        dataset_source: where the data comes from; None: `trainers.data.load`.
        training: the functions that do the work; None: those of `trainers`.
        clock: seconds, rising; the host's `time.monotonic` outside tests.

    """
    name = name_of(order)
    began_s = clock()
    emit(Began(**name, host=socket.gethostname(), pid=os.getpid()))
    try:
        finished = _train(order, emit, should_stop, dataset_source, training, clock)
    except Exception as error:  # a user's model, a full disk: all of it is this segment's failure
        emit(Failed(**name, error=explain_failure(error), worker_died=False, began=True))
        return
    if finished:
        emit(Finished(**name, seconds=clock() - began_s))
    else:
        emit(Interrupted(**name))


def name_of(order: SegmentOrder) -> _Name:
    """Return what every message about this order carries."""
    return {
        "search_id": order.search_id,
        "segment_id": order.segment_id,
        "attempt": order.attempt,
    }


def explain_failure(error: BaseException) -> str:
    """Say in the first line what went wrong; the traceback follows for the log."""
    text = str(error).strip() or "no message"
    first_line = text.splitlines()[0]
    if _is_out_of_memory(error):
        first_line = f"{OUT_OF_MEMORY}: {first_line}"
    elif isinstance(error, CheckpointError):
        first_line = f"{DAMAGED}: {first_line}"
    elif not isinstance(error, IsoflopError):
        first_line = f"{type(error).__name__}: {first_line}"
    details = "".join(traceback.format_exception(error)).rstrip()
    return f"{first_line}\n{details}"


def _is_out_of_memory(error: BaseException) -> bool:
    """Recognise Python's, CUDA's and torch's CPU allocator's way of saying so."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and (
        "can't allocate memory" in text or "not enough memory" in text
    )


def _train(
    order: SegmentOrder,
    emit: Emit,
    should_stop: ShouldStop,
    dataset_source: DatasetSource | None,
    training: Training | None,
    clock: Callable[[], float],
) -> bool:
    """Return True if the stop epoch was reached, False if the segment was asked to end early."""
    training = training or isoflop_training()
    dataset = (dataset_source or training.load)(order.trials[0].config.data)
    plan = order.plan
    if plan is None:
        plan = training.make_plan(order.trials, dataset, order.device)
        emit(Planned(**name_of(order), plan=plan))
    borders = _Borders(order, emit, clock, plan.device)
    result = training.train_pack(
        order.trials,
        order.start,
        order.stop_epoch,
        borders.on_epoch,
        dataset=dataset,
        plan=plan,
        device=plan.device,
        should_stop=should_stop,
    )
    borders.close()
    return not result.interrupted


class _Borders:
    """Gathers epochs, and at each border saves the pack and sends what was gathered."""

    def __init__(
        self, order: SegmentOrder, emit: Emit, clock: Callable[[], float], device: str
    ) -> None:
        self._order = order
        self._emit = emit
        self._clock = clock
        self._usage = _UsageSpans(device)
        self._rows: list[EpochRow] = []
        self._unseen_rows: list[EpochRow] = []
        self._latest: EpochReport | None = None
        self._epochs_unsaved = 0
        self._sequence = 0
        self._saved_s = clock()
        self._shown_s = float("-inf")

    def on_epoch(self, report: EpochReport) -> None:
        """Take one epoch of the whole pack; save if a border is due."""
        self._latest = report
        self._rows += report.rows
        self._unseen_rows += report.rows
        self._usage.add(report)
        self._epochs_unsaved += 1
        now_s = self._clock()
        if now_s - self._shown_s >= PROGRESS_EVERY_S:
            self._emit(Progress(**name_of(self._order), rows=tuple(self._unseen_rows)))
            self._unseen_rows.clear()
            self._shown_s = now_s
        every = self._order.save_every_epochs
        if (every and self._epochs_unsaved >= every) or now_s - self._saved_s >= MAX_UNSAVED_S:
            self._save(report)

    def close(self) -> None:
        """Save the last border, unless the last epoch was one."""
        if self._epochs_unsaved and self._latest is not None:
            self._save(self._latest)

    def _save(self, report: EpochReport) -> None:
        # The attempt is in the name: a late zombie cannot overwrite its successor's file.
        order = self._order
        directory = Path(order.checkpoint_dir)
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / f"{order.segment_id}.{order.attempt}.{self._sequence}.pt"
        checkpoints = tuple(report.save(path))
        self._emit(
            Border(
                **name_of(order),
                sequence=self._sequence,
                rows=tuple(self._rows),
                checkpoints=checkpoints,
                usage=self._usage.take(),
            )
        )
        self._rows.clear()
        self._epochs_unsaved = 0
        self._sequence += 1
        self._saved_s = self._clock()


class _UsageSpans:
    """Adds epochs up to spans of `USAGE_SPAN_S`; time between epochs stays out, as overhead."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._host = socket.gethostname()
        self._done: list[Usage] = []
        self._open: list[EpochReport] = []

    def add(self, report: EpochReport) -> None:
        """Add one epoch."""
        self._open.append(report)
        if report.ended_s - self._open[0].started_s >= USAGE_SPAN_S:
            self._close_span()

    def take(self) -> Sequence[Usage]:
        """Return every span since the last call."""
        if self._open:
            self._close_span()
        done, self._done = tuple(self._done), []
        return done

    def _close_span(self) -> None:
        busy_s: dict[int, float] = {}
        for report in self._open:
            for row in report.rows:
                busy_s[row.trial_id] = busy_s.get(row.trial_id, 0.0) + row.busy_s
        self._done.append(
            Usage(
                host=self._host,
                pid=os.getpid(),
                started_s=self._open[0].started_s,
                ended_s=self._open[-1].ended_s,
                trial_busy_s=busy_s,
                padding_s=sum(report.padding_s for report in self._open),
                device=self._device,
            )
        )
        self._open.clear()
