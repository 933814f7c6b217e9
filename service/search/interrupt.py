"""Ctrl-C: once finishes the epoch and saves, twice stops now."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class InterruptSwitch:
    """A flag that the first Ctrl-C sets; the second raises KeyboardInterrupt."""

    def __init__(self) -> None:
        self.requested = False

    @contextmanager
    def listening(self) -> Iterator[InterruptSwitch]:
        """Take SIGINT and SIGTERM over for the time of a search, in the main thread only."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        before = {
            number: signal.signal(number, self._on_signal)
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        print("\nfinishing the epoch and saving; Ctrl-C again stops now", file=sys.stderr)
