"""The meter of a host: a thread that closes a window each second and writes it to the spool.

Every search of a user on a host runs one of these, but only the one that holds the spool's lock
measures. When its process goes, however it goes, another takes the lock and begins a new meter
epoch; the time between is a gap in everybody's accounts.

The first half second or so of the first search is a gap as well: CodeCarbon needs that long to
start, and the search does not wait for it.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from service.energy.gpu import Gpus, NoGpus
from service.energy.meter import Meter, MeterFacts, Reading
from service.energy.processes import NOTED_S, Processes, TreeUse, boot_id, host_name, this_host
from service.energy.spool import Spool
from service.energy.windows import MemberUse, Window
from trainers.errors import MeterError

WINDOW_S = 1.0
MIN_WINDOW_S = 0.05
"""CodeCarbon skips a measurement that is closer to the last one than this."""
RESTART_AFTER_S = 5.0
LEAVES_WITHIN_S = 30.0
"""A driver that hangs must not keep a finished search from ending."""
QUIET_CORES = 0.05
"""A window with less than this share of the cores busy shows the idle power of the host."""

log = logging.getLogger("isoflop.energy")


class WindowMaker:
    """Turns readings of a meter into windows; no thread, no file, any clock.

    Args:
        meter: started by `start`, then read at each window's end.
        processes: whose CPU time is read at the same moment.
        gpus: NVML's counters.
        clock: monotonic seconds of the host.
        unix_clock: wall time, a label only.
        host: name of the host.
        boot: which boot of it.

    """

    def __init__(
        self,
        meter: Meter,
        processes: Processes,
        gpus: Gpus | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        unix_clock: Callable[[], float] = time.time,
        host: str | None = None,
        boot: str | None = None,
    ) -> None:
        self._meter = meter
        self._processes = processes
        self._gpus = gpus if gpus is not None else NoGpus()
        self._clock = clock
        self._unix_clock = unix_clock
        self._host = host or host_name()
        self._boot = boot or boot_id()
        self._trees = TreeUse(processes, clock)
        self._seq = 0
        self._idle_w: float | None = None
        self._quietest = float("inf")
        self.facts: MeterFacts
        self.epoch = ""

    def start(self, roots: Mapping[str, tuple[int, ...]]) -> MeterFacts:
        """Start the meter and take the first readings; a new meter epoch begins here."""
        self.facts = self._meter.start()
        self._idle_w = self.facts.cpu_idle_w
        self.epoch = f"{int(self._unix_clock() * 1000)}-{os.getpid()}"
        self._reading = self._meter.read()
        self._started_s = self._clock()
        self._busy_s = self._processes.busy_core_s()
        self._trees.sample(roots)
        self._gpus.split(0.0, 0.0, {})
        return self.facts

    def close_window(self, roots: Mapping[str, tuple[int, ...]]) -> Window | None:
        """End the present window now and begin the next.

        Args:
            roots: member key -> pids, of the members alive.

        Returns:
            The window; None if the meter skipped the measurement because it is too soon, in which
            case the energy is in the next window.

        """
        reading = self._meter.read()
        now_s = self._clock()
        if reading == self._reading and now_s - self._started_s < 2 * MIN_WINDOW_S:
            return None
        busy_s = self._processes.busy_core_s()
        used = self._trees.sample(roots)
        window = self._window(reading, now_s, busy_s - self._busy_s, used)
        self._reading, self._started_s, self._busy_s = reading, now_s, busy_s
        self._seq += 1
        return window

    def _window(
        self, reading: Reading, now_s: float, busy_core_s: float, used: dict[str, dict[int, float]]
    ) -> Window:
        seconds = now_s - self._started_s
        cpu_j = reading.cpu_j - self._reading.cpu_j
        ram_j = reading.ram_j - self._reading.ram_j
        gpu_j = reading.gpu_j - self._reading.gpu_j
        gap_reason = self._not_credible(cpu_j, ram_j, gpu_j, seconds)
        if not gap_reason:
            self._calibrate(cpu_j, seconds, busy_core_s)
        idle_w = self._idle_w or 0.0
        gpus = self._gpus.split(max(0.0, gpu_j), seconds, self._trees.owners())
        methods = dict(self.facts.methods)
        if self._gpus.disagreement:
            methods["gpu_check"] = self._gpus.disagreement
        return Window(
            host=self._host,
            boot_id=self._boot,
            meter_epoch=self.epoch,
            seq=self._seq,
            started_s=self._started_s,
            ended_s=now_s,
            started_unix_s=self._unix_clock() - seconds,
            cpu_j=max(0.0, cpu_j),
            cpu_idle_j=max(0.0, min(cpu_j, idle_w * seconds)),
            ram_j=max(0.0, ram_j),
            busy_core_s=max(0.0, busy_core_s),
            members={
                key: MemberUse(
                    cpu_s=sum(pids.values()),
                    pids={pid: s for pid, s in pids.items() if s > NOTED_S},
                )
                for key, pids in used.items()
            },
            gpus=gpus,
            methods=methods,
            gap_reason=gap_reason,
        )

    def _not_credible(self, cpu_j: float, ram_j: float, gpu_j: float, seconds: float) -> str:
        """Say why a reading is wrong, if so.

        A counter that was reset looks like one that wrapped round: hundreds of kilojoules.
        """
        if min(cpu_j, ram_j, gpu_j) < 0:
            return "a counter of the meter went backwards"
        max_w = self.facts.max_w
        if max_w is not None and cpu_j + ram_j > max_w * seconds:
            return f"more than {max_w:.0f} W: a counter of the meter was reset"
        return ""

    def _calibrate(self, cpu_j: float, seconds: float, busy_core_s: float) -> None:
        """Learn the idle power from the quietest window, where the CPU's model does not tell it."""
        if self.facts.cpu_idle_w is not None or seconds <= 0:
            return
        busy = busy_core_s / seconds / (os.cpu_count() or 1)
        if busy < QUIET_CORES and busy < self._quietest:
            self._quietest, self._idle_w = busy, cpu_j / seconds

    def about(self) -> dict[str, Any]:
        """Return what else must be said beside this epoch's figures."""
        return {"host": self._host, "boot_id": self._boot, "window_s": WINDOW_S, **self._gpus.facts}

    def stop(self) -> None:
        """Stop the meter."""
        self._meter.stop()


class HostMeter:
    """The thread. It measures while it holds the spool's lock, and waits for the lock otherwise.

    Args:
        make: builds the window maker once the lock is held.
        spool: shared with every search of this user on this host.
        processes: to see which members live.

    """

    def __init__(
        self,
        make: Callable[[], WindowMaker],
        spool: Spool,
        processes: Processes | None = None,
    ) -> None:
        self._make = make
        self._spool = spool
        self._processes = processes or this_host()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="isoflop-meter", daemon=True)
        self._measured = False
        self.error: MeterError | None = None
        """Why no window could be measured; a meter that fails later is started again."""
        self.cpu_s = 0.0
        """CPU seconds the thread has used."""

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Close the last window, release the lock, and wait for the thread."""
        self._stopping.set()
        self._spool.wake()
        self._thread.join(LEAVES_WITHIN_S)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                if self._spool.try_lock():
                    self._measure()
                else:
                    self._stopping.wait(WINDOW_S)
            except Exception as error:  # whatever it was, the search goes on, with a gap
                log.warning("the energy meter failed, and begins again", exc_info=True)
                if not self._measured:
                    self.error = _as_meter_error(error)
                    return
                self._stopping.wait(RESTART_AFTER_S)
            finally:
                self._spool.unlock()
                self.cpu_s = time.thread_time()

    def _measure(self) -> None:
        """Close a window each second, and when woken, until this search leaves."""
        maker = self._make()
        try:
            facts = maker.start(self._roots())
            self._spool.begin_epoch(maker.epoch, {**asdict(facts), **maker.about()})
            while not self._stopping.is_set():
                closed_s = time.monotonic()
                self._spool.wait(WINDOW_S)
                # A mark may come right after a window: the next one is not shorter than this.
                time.sleep(max(0.0, closed_s + MIN_WINDOW_S - time.monotonic()))
                self._write(maker)
                self.cpu_s = time.thread_time()
        finally:
            self._spool.end_epoch(maker.epoch)
            maker.stop()

    def _write(self, maker: WindowMaker) -> None:
        window = maker.close_window(self._roots())
        if window is not None:
            self._spool.append(window)
            self._measured = True

    def _roots(self) -> dict[str, tuple[int, ...]]:
        return {one.key: one.roots for one in self._spool.members(self._processes)}


def _as_meter_error(error: Exception) -> MeterError:
    if isinstance(error, MeterError):
        return error
    return MeterError(
        f"the meter must run while a search runs, but it failed to start: {error!r}; the log of "
        "logger `isoflop.energy` has the details"
    )
