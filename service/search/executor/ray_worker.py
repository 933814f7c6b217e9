"""The worker's side: one Tune trial is one segment, run in one `step()` of a reused actor."""

from __future__ import annotations

import os
import pickle
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import ray
from ray import tune

from service.messages import AnyMessage, SegmentOrder
from service.search.segment import Training, run_segment

STOP_POLL_S = 0.2
MEETING_TIMEOUT_S = 30.0


@dataclass(frozen=True, kw_only=True)
class Meeting:
    """Nothing to train: only be there, until all workers are (see `Mailbox.meet`)."""

    name: str
    num_workers: int


@dataclass(frozen=True, kw_only=True)
class Work:
    """What one object reference in a Tune trial's config stands for."""

    mailbox: Any
    """Handle of the `Mailbox` actor."""
    training: Callable[[], Training]
    order: SegmentOrder | None = None
    dataset: tuple[Any, ...] = ()
    """An object reference to the order's data, not yet fetched."""
    meeting: Meeting | None = None
    """In place of an order."""


class SegmentWorker(tune.Trainable):
    """A worker process that takes one segment after the other."""

    def setup(self, config: Mapping[str, Any]) -> None:
        """Take the first order."""
        self._work = config["work"]

    def reset_config(self, new_config: Mapping[str, Any]) -> bool:
        """Take the next order.

        Tune waits for ever where this returns False; so it returns True or raises.
        """
        self._work = new_config["work"]
        return True

    def step(self) -> dict[str, Any]:
        """Run the whole segment; everything it has to say went to the mailbox."""
        perform(ray.get(self._work[0]))
        return {"done": True}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Keep nothing in Tune: states are in the checkpoint files of the borders."""


def perform(work: Work) -> None:
    """Run an order, or import what orders need and meet the other workers."""
    name = f"{socket.gethostname()}:{os.getpid()}"
    # A reference in a list reaches the mailbox unopened: a handle would make it import this module,
    # and with it Ray Tune, while the workers start.
    handle = ray.put(ray.get_runtime_context().current_actor)
    ray.get(work.mailbox.enter.remote(name, [handle]))
    training = work.training()
    if work.meeting is not None:
        meeting = work.meeting
        ray.get(work.mailbox.meet.remote(meeting.name, meeting.num_workers, MEETING_TIMEOUT_S))
    if work.order is None:
        return
    line = _Line(work.mailbox)
    dataset = _fetch(work.dataset[0], training)
    run_segment(work.order, line.post, line.should_stop, lambda _: dataset, training=training)


class _Line:
    """A worker's line to the mailbox."""

    def __init__(self, mailbox: Any) -> None:
        self._mailbox = mailbox
        self._stop = False
        self._asked_s = float("-inf")

    def post(self, message: AnyMessage) -> None:
        """Return when the mailbox has the message."""
        self._stop = ray.get(self._mailbox.post.remote(pickle.dumps(message)))
        self._asked_s = time.monotonic()

    def should_stop(self) -> bool:
        """Ask, but not more than five times a second: short epochs must stay short."""
        if not self._stop and time.monotonic() - self._asked_s >= STOP_POLL_S:
            self._stop = ray.get(self._mailbox.stop_requested.remote())
            self._asked_s = time.monotonic()
        return self._stop


_fetched: dict[str, Any] = {}


def _fetch(reference: Any, training: Training) -> Any:
    """Return the data; the arrays travel to a node once and are shared by its workers."""
    key = reference.hex()
    if key not in _fetched:
        _fetched[key] = training.unship(ray.get(reference))
    return _fetched[key]
