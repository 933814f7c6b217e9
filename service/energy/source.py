"""Where a session's windows come from: the host's meter by way of the spool, or a test's clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

from service.energy.gpu import Gpus, find_gpus
from service.energy.host import HostMeter, WindowMaker
from service.energy.meter import CodeCarbonMeter, Meter
from service.energy.processes import Processes
from service.energy.spool import Member, Spool
from service.energy.windows import Window
from trainers.errors import MeterError

Item = Window | tuple[str, dict[str, Any]]
"""A window, or (meter_epoch, facts) of a meter that began."""


class WindowSource(Protocol):
    """Where a session's windows come from."""

    def start(self) -> None:
        """Take part."""

    def wake(self) -> None:
        """Ask for a window now."""

    def new(self) -> list[Item]:
        """Return what was measured since the last call."""

    def watch(self, pids: Sequence[int]) -> None:
        """Add root pids."""

    def error(self) -> MeterError | None:
        """Return why the meter does not run, if so."""

    def stop(self) -> None:
        """Leave."""


class ThreadSource:
    """Windows of the host's meter, by way of the spool."""

    def __init__(
        self,
        spool: Spool,
        search_id: str,
        pid: int,
        processes: Processes,
        meter: Meter | None,
        gpus: Gpus | None,
    ) -> None:
        self._spool = spool
        self._processes = processes
        self._meter = meter
        self._gpus = gpus
        stat = processes.stat(pid)
        self._member = Member(
            search_id=search_id, pid=pid, started=stat.started if stat else 0.0, roots=(pid,)
        )
        self._reader = spool.reader()
        self._host = HostMeter(self._make, spool, processes)

    def _make(self) -> WindowMaker:
        gpus = self._gpus if self._gpus is not None else find_gpus(self._processes)
        meter = self._meter or CodeCarbonMeter(gpu_indices=gpus.indices)
        return WindowMaker(meter, self._processes, gpus)

    def start(self) -> None:
        """Join, and have the present holder begin a window at about this moment."""
        self._reader.skip_to_end()
        self._spool.join(self._member)
        self._spool.wake()
        self._host.start()

    def wake(self) -> None:
        """Ask for a window."""
        self._spool.wake()

    def new(self) -> list[Item]:
        """Return what was measured since the last call."""
        return list(self._reader.new())

    def watch(self, pids: Sequence[int]) -> None:
        """Add root pids."""
        roots = tuple(sorted({*self._member.roots, *pids}))
        if roots != self._member.roots:
            self._member = replace(self._member, roots=roots)
            self._spool.join(self._member)

    def error(self) -> MeterError | None:
        """Return why the meter does not run, if so."""
        return self._host.error

    def stop(self) -> None:
        """Leave."""
        self._spool.leave(self._member.key)
        self._host.stop()
        self._spool.close()


class InlineSource:
    """Windows closed by the caller, for clocks that only tests advance."""

    def __init__(self, maker: WindowMaker, key: str, pid: int) -> None:
        self._maker = maker
        self._roots: dict[str, tuple[int, ...]] = {key: (pid,)}
        self._new: list[Item] = []

    def start(self) -> None:
        """Start the meter."""
        facts = self._maker.start(self._roots)
        self._new.append((self._maker.epoch, {"meter": facts.meter, "methods": facts.methods}))

    def wake(self) -> None:
        """Close a window."""
        window = self._maker.close_window(self._roots)
        if window is not None:
            self._new.append(window)

    def new(self) -> list[Item]:
        """Close a window, and return all since the last call."""
        self.wake()
        new, self._new = self._new, []
        return new

    def watch(self, pids: Sequence[int]) -> None:
        """Add root pids."""
        self._roots = {key: tuple({*roots, *pids}) for key, roots in self._roots.items()}

    def error(self) -> MeterError | None:
        """Return None: errors of an inline meter are raised where they happen."""
        return None

    def stop(self) -> None:
        """Stop the meter."""
        self._maker.stop()
