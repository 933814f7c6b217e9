"""Whose work a GPU's joules were: NVML's counters as weights, by a ladder of methods.

CodeCarbon gives the sum over all GPUs only. Each GPU's energy counter, read at the same moment,
says how to divide that sum, so the total stays CodeCarbon's. Which process used a GPU:

    process      one process ran on it: all of it is that process's
    sm_samples   several: by the sum of NVML's samples of each process's SM utilisation
    usage        NVML does not tell (MIG, MPS, foreign pid namespace, no sample): by the GPU-busy
                 seconds that workers report, or equally; decided at attribution

The method is recorded in each window. MIG's own activity counters need DCGM, which is not used.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from service.energy.processes import Processes
from service.energy.windows import GpuUse

Owners = Mapping[int, tuple[str, ...]]
"""pid -> the members whose tree it belongs to."""
AGREE = 0.02
"""Counters and CodeCarbon may differ by this share before the window says so."""


class Gpus(Protocol):
    """The GPUs of a host."""

    indices: tuple[int, ...]
    facts: Mapping[str, Any]
    disagreement: str
    """Not empty: counters and CodeCarbon differed in the last window."""

    def split(self, gpu_j: float, seconds: float, owners: Owners) -> tuple[GpuUse, ...]:
        """Divide the joules of a window that ends now; also called once where the first begins."""
        ...


class NoGpus:
    """A host without NVIDIA GPUs, or without a working driver."""

    def __init__(self, why: str = "NVML shows no GPU") -> None:
        self.indices: tuple[int, ...] = ()
        self.facts: Mapping[str, Any] = {"gpu": why}
        self.disagreement = ""

    def split(self, gpu_j: float, seconds: float, owners: Owners) -> tuple[GpuUse, ...]:
        """Return joules that the meter saw where NVML saw no GPU (Apple's chip) as one GPU's."""
        if gpu_j <= 0:
            return ()
        return (GpuUse(index=0, joules=gpu_j, idle_j=0.0, method="usage"),)


def find_gpus(processes: Processes) -> Gpus:
    """Return this host's GPUs through NVML."""
    try:
        import pynvml

        pynvml.nvmlInit()
        count = pynvml.nvmlDeviceGetCount()
    except Exception as error:  # no driver, no library, no permission: all mean "no GPU to meter"
        return NoGpus(f"NVML: {error}")
    return NvmlGpus(pynvml, count, processes) if count else NoGpus()


class NvmlGpus:
    """GPUs read through NVML.

    Args:
        nvml: the module `pynvml`, or something with the same functions.
        count: number of GPUs.
        processes: to see whether NVML's pids are of this pid namespace.

    """

    def __init__(self, nvml: Any, count: int, processes: Processes) -> None:
        self._nvml = nvml
        self._processes = processes
        self.indices = tuple(range(count))
        self._gpus = [_Gpu(nvml, index) for index in self.indices]
        self.disagreement = ""
        self.facts: Mapping[str, Any] = {
            "driver": _text(_ask(nvml.nvmlSystemGetDriverVersion)),
            "mig": [gpu.is_mig for gpu in self._gpus],
            "energy_counter": [gpu.counter_j() is not None for gpu in self._gpus],
        }

    def split(self, gpu_j: float, seconds: float, owners: Owners) -> tuple[GpuUse, ...]:
        """Divide the joules of a window that ends now over GPUs and processes.

        Args:
            gpu_j: sum over all GPUs, from the meter.
            seconds: length of the window; 0 where the first window begins.
            owners: which pids belong to members.

        """
        counted_j = [gpu.counted_j() for gpu in self._gpus]
        known = [joules for joules in counted_j if joules is not None]
        whole_j = sum(known)
        complete = len(known) == len(counted_j) and whole_j > 0
        self.disagreement = ""
        if complete and seconds > 0 and abs(whole_j - gpu_j) > AGREE * max(whole_j, gpu_j):
            self.disagreement = f"NVML's counters gave {whole_j:.3g} J, the meter {gpu_j:.3g} J"
        uses = []
        for gpu, joules in zip(self._gpus, counted_j, strict=True):
            weight = (joules or 0.0) / whole_j if complete else 1.0 / len(self._gpus)
            uses.append(self._use(gpu, gpu_j * weight, seconds, owners))
        return tuple(uses)

    def _use(self, gpu: _Gpu, joules: float, seconds: float, owners: Owners) -> GpuUse:
        running = gpu.pids()
        pids = running | gpu.ran
        gpu.ran = running
        method, weights = self._weights(gpu, pids)
        if not pids and gpu.is_at_rest() and seconds > 0:
            gpu.idle_w = joules / seconds
        members: dict[str, float] = {}
        for pid, weight in weights.items():
            for member in owners.get(pid, ()):
                members[member] = members.get(member, 0.0) + weight / len(owners[pid])
        return GpuUse(
            index=gpu.index,
            joules=joules,
            idle_j=min(joules, (gpu.idle_w or 0.0) * seconds),
            method=method,
            pids={pid: weight for pid, weight in weights.items() if pid in owners},
            members=members,
        )

    def _weights(self, gpu: _Gpu, pids: set[int]) -> tuple[str, dict[int, float]]:
        """Climb down the ladder; weights are empty where the method is `usage`."""
        samples = gpu.sm_samples()
        if gpu.is_mig or gpu.has_mps(pids):
            return "usage", {}
        if not pids:
            return ("process", {}) if gpu.is_at_rest() else ("usage", {})
        if all(self._processes.stat(pid) is None for pid in pids):
            return "usage", {}  # pids of another namespace, as in most containers
        if len(pids) == 1:
            return "process", dict.fromkeys(pids, 1.0)
        whole = sum(samples.values())
        if whole <= 0:
            return "usage", {}
        return "sm_samples", {pid: sm / whole for pid, sm in samples.items()}


class _Gpu:
    """One device: what was read last, and its idle power."""

    def __init__(self, nvml: Any, index: int) -> None:
        self._nvml = nvml
        self._handle = nvml.nvmlDeviceGetHandleByIndex(index)
        self.index = index
        self.idle_w: float | None = None
        """Seen while no process ran on it; None: never yet, so all its energy is active."""
        self.ran: set[int] = set()
        """Processes at the end of the last window: they may have ended in this one."""
        self._last_j = self.counter_j()
        self._last_sample_us = 0
        mig = _ask(nvml.nvmlDeviceGetMigMode, self._handle)
        self.is_mig = bool(mig and mig[0])

    def counter_j(self) -> float | None:
        """Joules since the driver was loaded; None before Volta."""
        millijoules = _ask(self._nvml.nvmlDeviceGetTotalEnergyConsumption, self._handle)
        return None if millijoules is None else float(millijoules) / 1000.0

    def counted_j(self) -> float | None:
        """Joules since the last call; None if there is no counter or it went backwards."""
        now_j, before_j = self.counter_j(), self._last_j
        self._last_j = now_j
        if now_j is None or before_j is None or now_j < before_j:
            return None
        return now_j - before_j

    def pids(self) -> set[int]:
        """Return the processes that hold a compute context."""
        found = _ask(self._nvml.nvmlDeviceGetComputeRunningProcesses, self._handle)
        return {int(process.pid) for process in found or ()}

    def is_at_rest(self) -> bool:
        """Return whether no kernel ran lately."""
        rates = _ask(self._nvml.nvmlDeviceGetUtilizationRates, self._handle)
        return rates is not None and int(rates.gpu) == 0

    def has_mps(self, pids: set[int]) -> bool:
        """Return whether clients' work is done by one server process."""
        names = [_text(_ask(self._nvml.nvmlSystemGetProcessName, pid)) for pid in pids]
        return any("nvidia-cuda-mps" in name for name in names)

    def sm_samples(self) -> dict[int, float]:
        """Sum of the samples since the last call, by process: time x utilisation."""
        found = _ask(self._nvml.nvmlDeviceGetProcessUtilization, self._handle, self._last_sample_us)
        used: dict[int, float] = {}
        for sample in found or ():
            if sample.timeStamp > self._last_sample_us:
                used[int(sample.pid)] = used.get(int(sample.pid), 0.0) + float(sample.smUtil)
        newest_us = max((int(sample.timeStamp) for sample in found or ()), default=0)
        self._last_sample_us = max(self._last_sample_us, newest_us)
        return used


def _ask(question: Any, *args: Any) -> Any:
    """Return NVML's answer, or None where this card, driver or user gets none."""
    try:
        return question(*args)
    except Exception:  # NVMLError has a subclass per code, and each only means "no answer"
        return None


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value or "")
