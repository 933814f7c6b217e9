"""What the controller asks of an executor, whichever it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from service.messages import AnyMessage, SegmentOrder


class Executor(Protocol):
    """Runs segments and hands on what they say.

    Each submitted order is answered by exactly one `Finished`, `Failed` or `Interrupted`, after
    all of its other messages. Messages of different orders come in any order.
    """

    num_workers: int
    """Segments that run at the same time, as last resized; 0: none may start."""

    @property
    def idle_workers(self) -> int:
        """How many orders would start at once if submitted now."""
        ...

    def submit(self, order: SegmentOrder) -> None:
        """Queue an order. Returns at once."""
        ...

    def next_message(self, timeout_s: float) -> AnyMessage | None:
        """Return the next message, or None after `timeout_s` seconds without one.

        Raises:
            WorkerError: the machinery below is gone (not one worker: that is a `Failed`).

        """
        ...

    def interrupt(self) -> None:
        """First call: running segments finish their epoch, save and say `Interrupted`; waiting
        ones say it at once. Second call: running segments are given up at once and say
        `Interrupted` too; what they did since their last border is lost.
        """  # noqa: D205
        ...

    def proceed(self) -> None:
        """Take orders again after a first `interrupt`, once every order has been answered."""
        ...

    def resize(self, num_workers: int) -> None:
        """Hold so many workers from now on, at most as many as at the start.

        Nothing that runs is cut short: workers go as their segments end, the last one too where 0
        is asked for, and come back when the number rises. Asking again for the same is cheap.
        """
        ...

    def pids(self) -> frozenset[int]:
        """Return the process ids of all workers that ever took up an order."""
        ...

    def describe(self) -> Mapping[str, str]:
        """Say what runs the segments, for `versions` and reports."""
        ...

    def close(self) -> None:
        """Give up whatever still runs, stop the workers, free everything. Idempotent."""
        ...
