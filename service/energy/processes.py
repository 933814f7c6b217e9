"""Who used the processor: CPU seconds of process trees, and of the whole host.

On Linux /proc is read directly, one file per known process (15 us each); the tree is walked
again only every few seconds. Elsewhere psutil does the same more slowly.

Processes that ended between two samples are not lost: when a parent has waited for its child,
the child's time is in the parent's `cutime`. A tree's use between two samples is therefore

    sum of own time gained + max(0, children's time gained - what vanished processes had before)
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol

WALK_EVERY_S = 2.0
WALK_COST_SHARE = 0.002
"""Walking all processes takes at most this share of one core, however many there are."""
NOTED_S = 1e-3
"""A process that used less in a window is not listed by itself."""


@dataclass(frozen=True)
class ProcessStat:
    """What the kernel says about one process."""

    parent: int
    started: float
    """Tells two processes apart that had the same pid; its unit does not matter."""
    own_s: float
    """CPU seconds of its threads."""
    children_s: float
    """CPU seconds of its children that ended and were waited for, and of theirs."""


class Processes(Protocol):
    """A view of all processes of a host."""

    def pids(self) -> Iterable[int]:
        """All pids."""
        ...

    def stat(self, pid: int) -> ProcessStat | None:
        """None if there is no such process (any more)."""
        ...

    def busy_core_s(self) -> float:
        """CPU seconds used by anything on the host since it started."""
        ...


class LinuxProcesses:
    """/proc, read directly."""

    def __init__(self) -> None:
        self._tick_s = 1.0 / os.sysconf("SC_CLK_TCK")

    def pids(self) -> Iterable[int]:
        """All pids."""
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]

    def stat(self, pid: int) -> ProcessStat | None:
        """Read /proc/PID/stat; the process clock is used where it is finer than ticks."""
        try:
            fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY)
            try:
                line = os.read(fd, 1024)
            finally:
                os.close(fd)
        except OSError:
            return None
        # The command name stands in brackets and may hold blanks and brackets itself.
        fields = line[line.rindex(b")") + 2 :].split()
        own_s = (int(fields[11]) + int(fields[12])) * self._tick_s
        with contextlib.suppress(OSError):  # ended just now: ticks of 10 ms will do
            # Kernel ABI: CPU clock of another process (MAKE_PROCESS_CPUCLOCK, CPUCLOCK_SCHED).
            own_s = time.clock_gettime((~pid << 3) | 2)
        return ProcessStat(
            parent=int(fields[1]),
            started=float(fields[19]),
            own_s=own_s,
            children_s=(int(fields[13]) + int(fields[14])) * self._tick_s,
        )

    def busy_core_s(self) -> float:
        """User, nice, system and interrupt time of all cores; not idle, iowait or stolen."""
        with open("/proc/stat", "rb") as file:
            fields = file.readline().split()
        user, nice, system, _, _, irq, softirq = (int(field) for field in fields[1:8])
        return (user + nice + system + irq + softirq) * self._tick_s


class PsutilProcesses:
    """macOS, Windows and everything else."""

    def pids(self) -> Iterable[int]:
        """All pids."""
        import psutil

        return psutil.pids()

    def stat(self, pid: int) -> ProcessStat | None:
        """Children's time is missing on Windows: what a process used in its last second is lost."""
        import psutil

        try:
            process = psutil.Process(pid)
            with process.oneshot():
                times = process.cpu_times()
                return ProcessStat(
                    parent=process.ppid(),
                    started=process.create_time(),
                    own_s=times.user + times.system,
                    children_s=getattr(times, "children_user", 0.0)
                    + getattr(times, "children_system", 0.0),
                )
        except psutil.Error:
            return None

    def busy_core_s(self) -> float:
        """All but idle time of all cores."""
        import psutil

        times = psutil.cpu_times()
        not_busy = {"idle", "iowait", "steal", "guest", "guest_nice"}
        return float(sum(s for name, s in times._asdict().items() if name not in not_busy))


def this_host() -> Processes:
    """Return the view of processes that fits this operating system."""
    return LinuxProcesses() if sys.platform.startswith("linux") else PsutilProcesses()


def host_name() -> str:
    """Return the name under which workers report usage from this host."""
    return socket.gethostname()


@cache
def boot_id() -> str:
    """Return what tells one boot of this host from the next: its monotonic clock restarts."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        import psutil

        # Rounded, because some systems recompute the boot time from a drifting clock.
        return f"booted-{round(psutil.boot_time() / 60)}"


class TreeUse:
    """CPU seconds of each member's process tree between two samples.

    Args:
        processes: the host.
        clock: seconds, rising.

    """

    def __init__(self, processes: Processes, clock: Callable[[], float] = time.monotonic) -> None:
        self._processes = processes
        self._clock = clock
        self._roots: dict[int, tuple[str, ...]] = {}
        self._members: dict[int, tuple[str, ...]] = {}
        self._gone: dict[int, tuple[str, ...]] = {}
        self._last: dict[int, ProcessStat] = {}
        self._next_walk_s = float("-inf")

    def sample(self, roots: Mapping[str, Iterable[int]]) -> dict[str, dict[int, float]]:
        """Return member -> pid -> CPU seconds since the last sample.

        Args:
            roots: member -> the pids whose trees are its own. A process belongs to the nearest
                root above it; a root of several members is split between them equally. What a
                root used before it was first named is not counted.

        """
        by_root: dict[int, tuple[str, ...]] = {}
        for member in sorted(roots):
            for pid in roots[member]:
                by_root[pid] = (*by_root.get(pid, ()), member)
        known = set(self._last)
        if by_root != self._roots or self._clock() >= self._next_walk_s:
            self._walk(by_root)
        stats = {pid: self._processes.stat(pid) for pid in self._members}
        last = {pid: stat for pid, stat in stats.items() if stat is not None}
        use: dict[str, dict[int, float]] = {member: {} for member in roots}
        gained_by_children: dict[tuple[str, ...], float] = {}
        for pid, now in last.items():
            before = self._last.get(pid)
            if before is None or before.started != now.started:
                if not _born_among(known, pid, last):
                    continue  # it ran before anybody asked: its past is not this window's
                before = ProcessStat(now.parent, now.started, 0.0, 0.0)
            members = self._members[pid]
            _add(use, members, pid, max(0.0, now.own_s - before.own_s))
            gained_s = max(0.0, now.children_s - before.children_s)
            gained_by_children[members] = gained_by_children.get(members, 0.0) + gained_s
        self._add_last_moments(use, last, gained_by_children)
        self._last = last
        self._members = {pid: self._members[pid] for pid in last}
        return use

    def owners(self) -> dict[int, tuple[str, ...]]:
        """Return pid -> members, as of the last sample."""
        return dict(self._members)

    def _add_last_moments(
        self,
        use: dict[str, dict[int, float]],
        last: Mapping[int, ProcessStat],
        gained_by_children: Mapping[tuple[str, ...], float],
    ) -> None:
        """Book what processes used between their last sample and their end."""
        vanished: dict[tuple[str, ...], list[int]] = {}
        for pid in self._last.keys() - last.keys():
            owners = self._members.get(pid) or self._gone.get(pid, ())
            vanished.setdefault(owners, []).append(pid)
        for members, gained_s in gained_by_children.items():
            pids = vanished.get(members, [])
            had_s = sum(self._last[pid].own_s + self._last[pid].children_s for pid in pids)
            rest_s = max(0.0, gained_s - had_s)
            for pid in pids or [0]:
                _add(use, members, pid, rest_s / max(1, len(pids)))

    def _walk(self, by_root: dict[int, tuple[str, ...]]) -> None:
        """Find out again which processes belong to whom."""
        started_s = time.perf_counter()
        stats = {pid: self._processes.stat(pid) for pid in self._processes.pids()}
        owners: dict[int, tuple[str, ...]] = {}
        for pid in stats:
            path: list[int] = []
            above: int | None = pid
            while above in stats and above not in owners and above not in by_root:
                path.append(above)
                stat = stats[above]
                above = stat.parent if stat is not None and stat.parent != above else None
                if above in path:
                    above = None
            found = by_root.get(above) or owners.get(above, ()) if above is not None else ()
            for one in path:
                owners[one] = found
        members = {pid: owner for pid, owner in owners.items() if owner}
        members.update({pid: owner for pid, owner in by_root.items() if pid in stats})
        self._gone = {pid: owner for pid, owner in self._members.items() if pid not in members}
        self._members = members
        self._roots = by_root
        cost_s = time.perf_counter() - started_s
        self._next_walk_s = self._clock() + max(WALK_EVERY_S, cost_s / WALK_COST_SHARE)


def _born_among(known: set[int], pid: int, stats: Mapping[int, ProcessStat]) -> bool:
    """Return whether a process was started inside a tree that was already being watched."""
    seen: set[int] = set()
    while pid in stats and pid not in seen:
        seen.add(pid)
        pid = stats[pid].parent
        if pid in known:
            return True
    return False


def _add(
    use: dict[str, dict[int, float]], members: tuple[str, ...], pid: int, seconds: float
) -> None:
    for member in members:
        if seconds > 0 and member in use:
            use[member][pid] = use[member].get(pid, 0.0) + seconds / len(members)
