"""A meter, a clock and processes that do exactly what a test says.

clock = FakeClock()
meter = FakeMeter(clock, cpu_w=10.0, ram_w=5.0, idle_w=2.0)
processes = FakeProcesses(clock, num_cores=2)
processes.run(pid=100, cores=0.5)
clock.advance(1.0)                 # process 100 has used 0.5 CPU seconds, the meter 15 J
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from service.energy.meter import MeterFacts, Reading
from service.energy.processes import ProcessStat


class FakeClock:
    """Seconds that pass only when told to."""

    def __init__(self, now_s: float = 1000.0) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        """Return the present time."""
        return self.now_s

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now_s += seconds


class FakeMeter:
    """A meter of constant power, which may be changed at any time.

    Args:
        clock: whose seconds count.
        cpu_w: power of the CPU, idle floor included.
        ram_w: power of the memory.
        gpu_w: power of all GPUs.
        idle_w: floor of the CPU; None: unknown.
        max_w: more is not credible.

    """

    def __init__(
        self,
        clock: FakeClock,
        *,
        cpu_w: float = 10.0,
        ram_w: float = 5.0,
        gpu_w: float = 0.0,
        idle_w: float | None = 2.0,
        max_w: float | None = None,
    ) -> None:
        self._clock = clock
        self._last_s = clock()
        self._joules = [0.0, 0.0, 0.0]
        self._watts = [cpu_w, ram_w, gpu_w]
        self._idle_w, self._max_w = idle_w, max_w
        self.running = False

    def set_power(
        self, *, cpu_w: float | None = None, ram_w: float | None = None, gpu_w: float | None = None
    ) -> None:
        """Change the power from now on."""
        self.read()
        for device, watts in enumerate((cpu_w, ram_w, gpu_w)):
            if watts is not None:
                self._watts[device] = watts

    def add(self, *, cpu_j: float = 0.0, gpu_j: float = 0.0) -> None:
        """Add joules at once, as a reset counter seems to."""
        self._joules[0] += cpu_j
        self._joules[2] += gpu_j

    def start(self) -> MeterFacts:
        """Begin counting."""
        self._last_s = self._clock()
        self._joules = [0.0, 0.0, 0.0]
        self.running = True
        return MeterFacts(
            meter="fake",
            methods={"cpu": "fake", "ram": "constant", "gpu": "none"},
            cpu_idle_w=self._idle_w,
            max_w=self._max_w,
        )

    def read(self) -> Reading:
        """Return the joules since the start."""
        now_s = self._clock()
        for device, watts in enumerate(self._watts):
            self._joules[device] += watts * (now_s - self._last_s)
        self._last_s = now_s
        return Reading(cpu_j=self._joules[0], ram_j=self._joules[1], gpu_j=self._joules[2])

    def stop(self) -> None:
        """End counting."""
        self.running = False


@dataclass
class _FakeProcess:
    parent: int
    started: float
    cores: float = 0.0
    own_s: float = 0.0
    children_s: float = field(default=0.0)


class FakeProcesses:
    """Processes that use as many cores as told, on the fake clock."""

    def __init__(self, clock: FakeClock, num_cores: int = 2) -> None:
        self._clock = clock
        self._last_s = clock()
        self._busy_s = 0.0
        self._alive: dict[int, _FakeProcess] = {}
        self.num_cores = num_cores

    def run(self, pid: int, *, cores: float = 0.0, parent: int = 1) -> None:
        """Start a process, or change how much of the CPU it uses from now on."""
        self._catch_up()
        if pid not in self._alive:
            self._alive[pid] = _FakeProcess(parent=parent, started=self._clock())
        self._alive[pid].cores = cores

    def kill(self, pid: int, *, waited_for: bool = True) -> None:
        """End a process; its parent learns its CPU time if it waits for it."""
        self._catch_up()
        gone = self._alive.pop(pid)
        if waited_for and gone.parent in self._alive:
            self._alive[gone.parent].children_s += gone.own_s + gone.children_s
        for process in self._alive.values():
            if process.parent == pid:
                process.parent = 1

    def _catch_up(self) -> None:
        seconds = self._clock() - self._last_s
        self._last_s = self._clock()
        for process in self._alive.values():
            process.own_s += process.cores * seconds
            self._busy_s += process.cores * seconds

    def pids(self) -> Iterable[int]:
        """All pids."""
        self._catch_up()
        return list(self._alive)

    def stat(self, pid: int) -> ProcessStat | None:
        """None if the process is gone."""
        self._catch_up()
        process = self._alive.get(pid)
        if process is None:
            return None
        return ProcessStat(process.parent, process.started, process.own_s, process.children_s)

    def busy_core_s(self) -> float:
        """CPU seconds of all processes, dead ones included."""
        self._catch_up()
        return self._busy_s
