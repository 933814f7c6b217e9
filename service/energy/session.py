"""A search's share in the meter of its host: begin, mark, flush, end.

    session = EnergySession.begin(ledger, search_id)   # returns at once; the meter starts behind
    session.mark()                                     # a segment border: close a window now
    session.flush()                                    # windows -> ledger, about once a second
    session.own_kwh()                                  # for budgets
    session.end()

While CodeCarbon starts (half a second or more in a process's first search) nothing is measured:
that time is in the accounts as a gap, with the power of the windows after it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from service.energy.accounts import accounts
from service.energy.attribution import cpu_shares, idle_j
from service.energy.gpu import Gpus
from service.energy.host import WindowMaker
from service.energy.meter import CodeCarbonMeter, Meter
from service.energy.processes import Processes, boot_id, host_name, this_host
from service.energy.source import InlineSource, ThreadSource, WindowSource
from service.energy.spool import Spool, SpoolReader, default_spool
from service.energy.windows import JOULES_PER_KWH, Window, member_key
from service.ledger import Ledger, SpanRecord

METER_STARTS_WITHIN_S = 20.0
"""How long `end` waits for the first window of a search that was shorter than the meter's start."""
LAST_WINDOW_WITHIN_S = 3.0
POLL_S = 0.01


class OtherHost(Protocol):
    """Another host's part in a search; it does what the session does."""

    def worker_began(self, host: str, pid: int) -> None:
        """Count a worker, if it is on this host."""

    def mark(self) -> None:
        """Close a window soon."""

    def flush(self) -> None:
        """Bring windows into the ledger."""

    def own_kwh(self) -> float:
        """Return what the search caused there."""
        ...

    def end(self) -> None:
        """Leave."""


class EnergySession:
    """Made by `begin`. Its methods belong to the thread that owns the ledger."""

    def __init__(
        self,
        ledger: Ledger,
        search_id: str,
        source: WindowSource,
        clock: Callable[[], float],
        span: SpanRecord,
        earlier_kwh: float,
    ) -> None:
        self._ledger = ledger
        self._search_id = search_id
        self._source = source
        self._clock = clock
        self._span = span
        self._key = member_key(search_id, span.pid)
        self._earlier_kwh = earlier_kwh
        self._own_j = 0.0
        self._to_ship: list[Window] = []
        self._facts: dict[str, dict[str, Any]] = {}
        self._told: set[str] = set()
        self._others: list[OtherHost] = []
        self._covered_s = float("-inf")
        self._ends_s = float("inf")

    @classmethod
    def begin(
        cls,
        ledger: Ledger,
        search_id: str,
        *,
        meter: Meter | None = None,
        clock: Callable[[], float] | None = None,
        spool: Path | None = None,
        processes: Processes | None = None,
        gpus: Gpus | None = None,
    ) -> EnergySession:
        """Start or join this host's meter, and open a span of the search.

        Returns at once. If the search was killed on this boot of this host, windows that were
        measured but not yet in the ledger are brought in, and its last span is extended to them.

        Args:
            ledger: the open ledger.
            search_id: of the search in the ledger.
            meter: None: CodeCarbon.
            clock: None: the host's monotonic clock, and a thread that measures. With a clock of a
                test there is no thread: windows close at `mark`, `flush` and `end` only.
            spool: directory of windows and members; None: the one all searches of this user share.
            processes: None: this host's.
            gpus: None: what NVML shows.

        Raises:
            MeterError: the spool belongs to somebody else.

        """
        host_processes = processes or this_host()
        pid = os.getpid()
        if clock is not None:
            chosen = meter or CodeCarbonMeter()
            maker = WindowMaker(chosen, host_processes, gpus, clock=clock)
            source: WindowSource = InlineSource(maker, member_key(search_id, pid), pid)
        else:
            directory = Spool(spool or default_spool())
            recover(ledger, search_id, directory.reader())
            source = ThreadSource(directory, search_id, pid, host_processes, meter, gpus)
        resumed = bool(ledger.spans(search_id))
        earlier_kwh = accounts(ledger, search_id).own_kwh if resumed else 0.0
        now = clock or time.monotonic
        span = ledger.open_span(
            search_id,
            host=host_name(),
            boot_id=boot_id(),
            pid=pid,
            started_s=now(),
            started_unix_s=time.time(),
        )
        source.start()
        return cls(ledger, search_id, source, now, span, earlier_kwh)

    def add_hosts(self, hosts: Sequence[OtherHost]) -> None:
        """Let other hosts (`service.energy.cluster.meter_cluster`) follow this session."""
        self._others += hosts

    def worker_began(self, host: str, pid: int) -> None:
        """Count a worker's process tree as the search's own.

        Workers that this process started are its children and counted anyway; those of a cluster
        that was there before are not.
        """
        if host == self._span.host:
            self._source.watch([pid])
        for other in self._others:
            other.worker_began(host, pid)

    def mark(self) -> None:
        """Close a window soon, so that a border falls near its edge (at most every 50 ms)."""
        self._source.wake()
        for other in self._others:
            other.mark()

    def book_lost(
        self, *, host: str, pid: int, trial_ids: Sequence[int], since_s: float, device: str = "cpu"
    ) -> None:
        """Record that a worker died, so that what it used since its last border shows as wasted.

        Args:
            host: of the worker.
            pid: of the worker.
            trial_ids: what it was training; they share the loss equally.
            since_s: when it began the segment (monotonic clock of the host).
            device: `cpu` or `cuda...`.

        """
        self._ledger.add_event(
            self._search_id,
            "worker_lost",
            {
                "host": host,
                "pid": pid,
                "trial_ids": list(trial_ids),
                "since_s": since_s,
                "until_s": self._clock(),
                "device": device,
            },
        )

    def flush(self) -> None:
        """Bring the windows measured so far into the ledger, and extend the span to now.

        Raises:
            MeterError: the meter cannot be started.

        """
        if self._has_ended:
            return
        self._read()
        error = self._source.error()
        if error is not None:
            raise error
        self._ship(self._clock())
        for other in self._others:
            other.flush()

    def own_kwh(self) -> float:
        """Return what this search caused so far, all its spans included, without PUE."""
        if not self._has_ended:
            self._read()
        others_kwh = sum(other.own_kwh() for other in self._others)
        return self._earlier_kwh + self._own_j / JOULES_PER_KWH + others_kwh

    def end(self) -> None:
        """Close the last window, ship it, and leave the meter. Calling it again does nothing."""
        if self._has_ended:
            return
        ended_s = self._ends_s = self._clock()
        asked_s = time.monotonic()
        self._source.wake()
        self._read()
        while self._covered_s < ended_s and self._source.error() is None:
            within_s = LAST_WINDOW_WITHIN_S if self._told else METER_STARTS_WITHIN_S
            if time.monotonic() - asked_s > within_s:
                break  # the meter's holder is gone: the rest of the span is a gap
            time.sleep(POLL_S)
            self._read()
            self._tell_meters()
        self._source.stop()
        self._ship(ended_s)
        for other in self._others:
            other.end()

    def __enter__(self) -> EnergySession:
        return self

    def __exit__(self, *error: object) -> None:
        self.end()

    @property
    def _has_ended(self) -> bool:
        return self._ends_s < float("inf")

    def _read(self) -> None:
        for item in self._source.new():
            if isinstance(item, tuple):
                self._facts[item[0]] = item[1]
            elif item.ended_s > self._span.started_s:
                self._to_ship.append(item)
                self._covered_s = max(self._covered_s, item.ended_s)
                self._own_j += self._own_in(item)

    def _own_in(self, window: Window) -> float:
        """Our joules in a window: our tree's part of what was active, our part of the floor."""
        if self._key not in window.members or window.gap_reason or window.seconds <= 0:
            return 0.0
        _, by_member_j = cpu_shares(window)
        own_j = by_member_j[self._key] + sum(idle_j(window).values()) / len(window.members)
        for gpu in window.gpus:
            even = 1.0 / len(window.members) if gpu.method == "usage" else 0.0
            own_j += max(0.0, gpu.joules - gpu.idle_j) * gpu.members.get(self._key, even)
        start, end = max(window.started_s, self._span.started_s), min(window.ended_s, self._ends_s)
        return own_j * max(0.0, end - start) / window.seconds

    def _ship(self, ended_s: float) -> None:
        if self._to_ship:
            self._ledger.put_windows([window.to_row() for window in self._to_ship])
            self._tell_meters()
            self._to_ship.clear()
        self._ledger.extend_span(self._search_id, self._span.span, ended_s)

    def _tell_meters(self) -> None:
        """Record once what each meter is, beside the search its figures go to."""
        for epoch in {window.meter_epoch for window in self._to_ship} - self._told:
            self._told.add(epoch)
            facts = self._facts.get(epoch, {})
            self._ledger.add_event(self._search_id, "meter", {"meter_epoch": epoch, **facts})


def recover(ledger: Ledger, search_id: str, reader: SpoolReader) -> None:
    """Bring in what the meter measured for spans of this search whose process was killed.

    A killed process's last flush may be a second older than its last window, and another search
    may have gone on measuring. Spans of another boot or host cannot be helped from here.
    """
    here = [
        span
        for span in ledger.spans(search_id)
        if span.host == host_name() and span.boot_id == boot_id()
    ]
    if not here:
        return
    windows = [item for item in reader.new() if isinstance(item, Window)]
    for span in here:
        key = member_key(search_id, span.pid)
        ours = [one for one in windows if key in one.members and one.ended_s > span.started_s]
        late = [one for one in ours if one.ended_s > span.ended_s]
        if late:
            ledger.put_windows([one.to_row() for one in late])
            ledger.extend_span(search_id, span.span, max(one.ended_s for one in late))
