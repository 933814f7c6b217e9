"""Segments in the calling process, one after the other, without Ray."""

from __future__ import annotations

import os
import platform
import queue
import threading
from collections import deque
from collections.abc import Callable, Mapping

from service.messages import AnyMessage, Failed, Finished, Interrupted, SegmentOrder
from service.search.segment import (
    Training,
    explain_failure,
    isoflop_training,
    name_of,
    run_segment,
)
from trainers.errors import WorkerError

CLOSE_PATIENCE_S = 5.0


class InlineExecutor:
    """One worker: a thread of this process, so that messages are seen while a segment runs.

    It starts at once and works wherever torch does. A model that kills its process kills the
    search; `isoflop resume` then goes on from the last border.
    """

    def __init__(self, *, training: Callable[[], Training] = isoflop_training) -> None:
        """Nothing is imported or started before the first order.

        Args:
            training: returns the functions that train a pack.

        """
        self.num_workers = 1
        self._training = training
        self._messages: queue.SimpleQueue[AnyMessage] = queue.SimpleQueue()
        self._changed = threading.Condition()
        self._waiting: deque[SegmentOrder] = deque()
        self._running: SegmentOrder | None = None
        self._given_up = False
        self._stopping = False
        self._closed = False
        self._thread: threading.Thread | None = None
        self._took_an_order = False

    @property
    def idle_workers(self) -> int:
        """1 if an order would start at once, else 0."""
        with self._changed:
            return int(self._running is None and not self._waiting)

    def submit(self, order: SegmentOrder) -> None:
        """Queue an order.

        Raises:
            WorkerError: after `close()`.

        """
        with self._changed:
            if self._closed:
                raise WorkerError(
                    f"an executor takes no orders after close(), but got `{order.segment_id}`; "
                    "make a new one"
                )
            if self._stopping:
                self._messages.put(Interrupted(**name_of(order)))
                return
            self._waiting.append(order)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="segments", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def next_message(self, timeout_s: float) -> AnyMessage | None:
        """Return the next message, or None after `timeout_s` seconds without one."""
        try:
            return self._messages.get(timeout=max(timeout_s, 0.0))
        except queue.Empty:
            return None

    def interrupt(self) -> None:
        """End the running segment after its epoch; a second call gives it up at once."""
        with self._changed:
            if self._stopping:
                self._give_up()
            self._stopping = True
            while self._waiting:
                self._messages.put(Interrupted(**name_of(self._waiting.popleft())))

    def proceed(self) -> None:
        """Take orders again after an interrupt that has been answered."""
        with self._changed:
            self._stopping = self._closed

    def resize(self, num_workers: int) -> None:
        """Take orders, or with 0 let the controller send none."""
        self.num_workers = min(num_workers, 1)

    def pids(self) -> frozenset[int]:
        """Return this process's id, once it took up an order."""
        return frozenset({os.getpid()} if self._took_an_order else set())

    def describe(self) -> Mapping[str, str]:
        """Say what runs the segments."""
        return {"executor": "inline", "workers": "1", "platform": platform.platform()}

    def close(self) -> None:
        """Stop the thread after its epoch, or leave it behind if that takes over 5 s."""
        with self._changed:
            self._closed = self._stopping = True
            self._waiting.clear()
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(CLOSE_PATIENCE_S)

    def _give_up(self) -> None:
        # A thread cannot be stopped from outside: it is left to end by itself, unheard.
        if self._running is not None and not self._given_up:
            self._given_up = True
            self._messages.put(Interrupted(**name_of(self._running)))

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._waiting) or self._closed)
                if self._closed:
                    return
                self._running = order = self._waiting.popleft()
                self._took_an_order = True
            try:
                training = self._training()
            except Exception as error:  # an import may raise anything; unheard, it would hang
                failure = explain_failure(error)
                self._hand_on(
                    Failed(**name_of(order), error=failure, worker_died=False, began=True)
                )
                continue
            run_segment(order, self._hand_on, lambda: self._stopping, training=training)

    def _hand_on(self, message: AnyMessage) -> None:
        with self._changed:
            if not self._given_up:
                self._messages.put(message)
            if isinstance(message, Finished | Failed | Interrupted):
                # Free before the controller can see the last message: it may submit at once.
                self._running = None
