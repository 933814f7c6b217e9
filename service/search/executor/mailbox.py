"""The stream beside Ray Tune: workers post what they have to say, the driver collects it.

An actor of its own on the driver's node, because Tune's results cost milliseconds per number and
are lost with their worker. A post is acknowledged before the worker goes on: what was posted
outlives the worker.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any


class Mailbox:
    """First in, first out, with a stop flag that every acknowledgement carries."""

    def __init__(self) -> None:
        self._posted: list[bytes] = []
        self._workers: dict[str, Any] = {}
        self._arrived: Counter[str] = Counter()
        self._adjourned: set[str] = set()
        self._stop = False
        self._changed = asyncio.Condition()

    async def post(self, message: bytes) -> bool:
        """Keep a pickled message; return whether workers are asked to stop."""
        async with self._changed:
            self._posted.append(message)
            self._changed.notify_all()
        return self._stop

    async def collect(self, timeout_s: float) -> list[bytes]:
        """Return, and forget, everything posted; waits up to `timeout_s` for a first message."""
        async with self._changed:
            if not self._posted:
                try:
                    await asyncio.wait_for(self._changed.wait(), timeout_s)
                except TimeoutError:
                    return []
            posted, self._posted = self._posted, []
            return posted

    async def enter(self, name: str, worker: list[Any]) -> None:
        """Remember the reference to a worker's actor handle, so that the driver can end it."""
        self._workers[name] = worker[0]

    async def workers(self) -> list[Any]:
        """Return a reference to the handle of every worker that ever entered."""
        return list(self._workers.values())

    async def meet(self, meeting: str, count: int, timeout_s: float) -> None:
        """Return when `count` workers came to this meeting, or after `timeout_s`.

        Without it the first worker to start would take the second one's order as well, and Tune
        would end the second while it starts.
        """
        async with self._changed:
            self._arrived[meeting] += 1
            self._changed.notify_all()
            try:
                await asyncio.wait_for(
                    self._changed.wait_for(
                        lambda: meeting in self._adjourned or self._arrived[meeting] >= count
                    ),
                    timeout_s,
                )
            except TimeoutError:
                return

    async def adjourn(self, meeting: str) -> None:
        """Let everybody go who waits in this meeting: somebody will not come."""
        async with self._changed:
            self._adjourned.add(meeting)
            self._changed.notify_all()

    async def ask_to_stop(self, stop: bool) -> None:
        """Ask every worker to finish its epoch, or take that back."""
        self._stop = stop

    async def stop_requested(self) -> bool:
        """Return whether workers are asked to stop."""
        return self._stop
