"""A span of a search, cut into pieces: windows, and the gaps between them."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from service.energy.windows import Window

DEVICES = ("cpu", "ram", "gpu")
EDGE_S = 1e-6
"""Shorter stretches between windows are rounding of their edges, not gaps."""


class SpanLike(Protocol):
    """The part of a ledger's SpanRecord that attribution reads."""

    @property
    def host(self) -> str:
        """Name of the host."""
        ...

    @property
    def boot_id(self) -> str:
        """Boot that the monotonic clock counts from."""
        ...

    @property
    def pid(self) -> int:
        """The driver process."""
        ...

    @property
    def started_s(self) -> float:
        """Monotonic seconds."""
        ...

    @property
    def ended_s(self) -> float:
        """Monotonic seconds."""
        ...


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A window, or a gap, cut to a span."""

    host: str
    boot_id: str
    started_s: float
    ended_s: float
    window: Window | None
    """None: a gap."""
    gap_w: Mapping[str, float] = field(default_factory=dict)
    """Estimated power of the gap by device."""
    gap_reason: str = ""

    @property
    def seconds(self) -> float:
        """Length of the piece."""
        return self.ended_s - self.started_s

    @property
    def node_j(self) -> dict[str, float]:
        """Joules of the host in this piece by device; estimated for a gap."""
        if self.window is None:
            return {device: self.gap_w[device] * self.seconds for device in DEVICES}
        return {device: joules * self.fraction for device, joules in _window_j(self.window).items()}

    @property
    def fraction(self) -> float:
        """Which part of the window it is."""
        if self.window is None or self.window.seconds <= 0:
            return 0.0
        return min(1.0, self.seconds / self.window.seconds)


def cut(windows: Sequence[Window], span: SpanLike, key: str) -> Iterator[Piece]:
    """Yield the span as pieces in order: windows of the meter that knew this member, and gaps.

    Windows of another meter on the same host (of another user) would count the host twice.
    """
    here = [one for one in windows if (one.host, one.boot_id) == (span.host, span.boot_id)]
    ours = {one.meter_epoch for one in here if key in one.members} or {
        one.meter_epoch for one in here
    }
    near = sorted(
        (one for one in here if one.meter_epoch in ours), key=lambda w: (w.started_s, w.ended_s)
    )
    beside = _Beside([one for one in near if not one.gap_reason and one.seconds > 0])
    cursor = span.started_s
    for window in near:
        start, end = max(window.started_s, cursor), min(window.ended_s, span.ended_s)
        if end <= start:
            continue
        if start - cursor > EDGE_S:
            yield beside.gap(span, cursor, start, "not measured")
        elif start > cursor:
            start = cursor
        if window.gap_reason:
            yield beside.gap(span, start, end, window.gap_reason)
        else:
            yield Piece(
                host=span.host, boot_id=span.boot_id, started_s=start, ended_s=end, window=window
            )
        cursor = end
    if span.ended_s - cursor > EDGE_S:
        yield beside.gap(span, cursor, span.ended_s, "not measured")


class _Beside:
    """Estimates the power in gaps: the mean of the last window before and the first after."""

    def __init__(self, measured: Sequence[Window]) -> None:
        self._measured = measured  # by time, without overlap
        self._starts = [one.started_s for one in measured]
        self._ends = [one.ended_s for one in measured]

    def gap(self, span: SpanLike, start: float, end: float, reason: str) -> Piece:
        """Return a piece without a window; its power is 0 where nothing was ever measured."""
        before = bisect_right(self._ends, start + EDGE_S)
        after = bisect_left(self._starts, end - EDGE_S)
        beside = [*self._measured[max(0, before - 1) : before], *self._measured[after : after + 1]]
        seconds = sum(one.seconds for one in beside)
        power_w = {
            device: sum(_window_j(one)[device] for one in beside) / seconds if seconds else 0.0
            for device in DEVICES
        }
        return Piece(
            host=span.host,
            boot_id=span.boot_id,
            started_s=start,
            ended_s=end,
            window=None,
            gap_w=power_w,
            gap_reason=reason,
        )


def _window_j(window: Window) -> dict[str, float]:
    return {"cpu": window.cpu_j, "ram": window.ram_j, "gpu": window.gpu_j}
