"""Server-sent events: one reader of the ledger per topic, however many people watch it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import Any

from anyio import to_thread
from fastapi.responses import StreamingResponse

POLL_S = 1.0
KEEP_ALIVE_S = 15.0
STREAM_LASTS_S = 600.0
"""Then the browser connects again, so that a token that was revoked ends a stream too."""

Snapshot = Callable[[], Mapping[str, Any]]


@dataclass
class _Topic:
    """What all viewers of one thing share."""

    snapshot: Snapshot
    viewers: int = 0
    version: int = 0
    latest: str = ""
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    reader: asyncio.Task[None] | None = None
    ended: bool = False
    """The reader has failed, or nobody watches any more."""


class LiveFeeds:
    """Topics that are watched just now."""

    def __init__(self, poll_s: float = POLL_S) -> None:
        self._poll_s = poll_s
        self._topics: dict[str, _Topic] = {}

    @property
    def num_viewers(self) -> int:
        """How many streams are open."""
        return sum(topic.viewers for topic in self._topics.values())

    async def watch(self, name: str, snapshot: Snapshot) -> AsyncGenerator[str]:
        """Yield a topic's state as JSON text: now, and whenever it has changed; "" keeps alive.

        Viewers of one name share one reader, which takes a snapshot in a thread every second and
        ends with the last of them. A slow viewer misses states in between, never the latest.
        """
        topic = self._topics.setdefault(name, _Topic(snapshot))
        topic.viewers += 1
        if topic.reader is None:
            topic.reader = asyncio.create_task(self._read(topic))
        seen = 0
        try:
            while True:
                if topic.version == seen:
                    await _wait_for_change(topic, seen)
                if topic.version == seen:
                    if topic.ended:
                        await topic.reader  # raises what ended it
                    yield ""
                    continue
                seen = topic.version
                yield topic.latest
        finally:
            topic.viewers -= 1
            if topic.viewers == 0:
                topic.reader.cancel()
                self._topics.pop(name, None)

    async def _read(self, topic: _Topic) -> None:
        try:
            while True:
                state = await to_thread.run_sync(topic.snapshot)
                text = json.dumps(state, allow_nan=False, default=str)
                if text != topic.latest:
                    async with topic.changed:
                        topic.latest = text
                        topic.version += 1
                        topic.changed.notify_all()
                await asyncio.sleep(self._poll_s)
        finally:
            topic.ended = True
            async with topic.changed:
                topic.changed.notify_all()


async def _wait_for_change(topic: _Topic, seen: int) -> None:
    async def changed() -> None:
        async with topic.changed:
            await topic.changed.wait_for(lambda: topic.version != seen or topic.ended)

    with suppress(TimeoutError):
        await asyncio.wait_for(changed(), KEEP_ALIVE_S)


def event_stream(events: AsyncGenerator[tuple[str, str, str]]) -> StreamingResponse:
    """Answer with server-sent events.

    Args:
        events: (event name, id or "", JSON text); an empty text is a comment that keeps the
            connection alive.

    """
    return StreamingResponse(
        _encoded(events),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _encoded(events: AsyncGenerator[tuple[str, str, str]]) -> AsyncIterator[str]:
    loop = asyncio.get_running_loop()
    ends_s = loop.time() + STREAM_LASTS_S
    yield "retry: 2000\n\n"
    async with aclosing(events):
        async for name, event_id, text in events:
            yield _event(name, event_id, text) if text else ": still here\n\n"
            if loop.time() > ends_s:
                return


def _event(name: str, event_id: str, text: str) -> str:
    lines = "".join(f"data: {line}\n" for line in text.split("\n"))
    return (f"id: {event_id}\n" if event_id else "") + f"event: {name}\n{lines}\n"
