"""What the meter of a host writes down: windows of time, with energy and who used the processor.

A window says how many joules the host took between two moments, how much of it is the idle floor,
how many processor seconds the whole host was busy, and how many of those belong to the process
tree of each member (a member is one driver process of one search). Nothing here is attributed
yet: `service.energy.attribution` does that from windows alone, so that it can be done again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

JOULES_PER_KWH = 3.6e6


def member_key(search_id: str, pid: int) -> str:
    """Return the name under which a driver process of a search appears in windows."""
    return f"{search_id}:{pid}"


@dataclass(frozen=True, kw_only=True)
class MemberUse:
    """Processor seconds of one member's process tree in a window."""

    cpu_s: float
    pids: Mapping[int, float] = field(default_factory=dict)
    """Which process used them, where it was more than a millisecond."""


@dataclass(frozen=True, kw_only=True)
class GpuUse:
    """Energy of one GPU in a window, and whose work it was."""

    index: int
    """NVML's index, which is not CUDA's unless CUDA_DEVICE_ORDER=PCI_BUS_ID."""
    joules: float
    idle_j: float
    method: str
    """Rung of the ladder in `service.energy.gpu` that gave the weights."""
    pids: Mapping[int, float] = field(default_factory=dict)
    """Share of the active energy by process of a member; what is missing to 1 is not ours."""
    members: Mapping[str, float] = field(default_factory=dict)
    """The same share by member. Empty for the method `usage`: decided at attribution."""


@dataclass(frozen=True, kw_only=True)
class Window:
    """One span of measured time of one host. Its key is (host, boot_id, meter_epoch, seq)."""

    host: str
    boot_id: str
    meter_epoch: str
    """Changes whenever a meter starts: energy between two epochs was not measured."""
    seq: int
    started_s: float
    """time.monotonic() of the host, as is `ended_s`."""
    ended_s: float
    started_unix_s: float
    cpu_j: float
    cpu_idle_j: float
    ram_j: float
    busy_core_s: float
    """Processor seconds in which any process of the host ran."""
    members: Mapping[str, MemberUse] = field(default_factory=dict)
    gpus: tuple[GpuUse, ...] = ()
    methods: Mapping[str, str] = field(default_factory=dict)
    """How each device was measured: {"cpu": "rapl_package", "ram": "constant", ...}."""
    gap_reason: str = ""
    """Not empty: the reading was not credible (a counter was reset), so the time is a gap."""

    @property
    def seconds(self) -> float:
        """Length of the window."""
        return self.ended_s - self.started_s

    @property
    def gpu_j(self) -> float:
        """Joules of all GPUs."""
        return sum(gpu.joules for gpu in self.gpus)

    @property
    def node_j(self) -> float:
        """Joules of the host: CPU, memory and GPUs."""
        return self.cpu_j + self.ram_j + self.gpu_j

    def to_row(self) -> dict[str, Any]:
        """Return the window as the ledger keeps it: its key, its times, and a JSON payload."""
        payload = {
            "cpu_j": self.cpu_j,
            "cpu_idle_j": self.cpu_idle_j,
            "ram_j": self.ram_j,
            "busy_core_s": self.busy_core_s,
            "members": {
                key: {"cpu_s": use.cpu_s, "pids": {str(pid): s for pid, s in use.pids.items()}}
                for key, use in self.members.items()
            },
            "gpus": [
                {
                    "index": gpu.index,
                    "joules": gpu.joules,
                    "idle_j": gpu.idle_j,
                    "method": gpu.method,
                    "pids": {str(pid): weight for pid, weight in gpu.pids.items()},
                    "members": dict(gpu.members),
                }
                for gpu in self.gpus
            ],
            "methods": dict(self.methods),
            "gap_reason": self.gap_reason,
        }
        return {
            "host": self.host,
            "boot_id": self.boot_id,
            "meter_epoch": self.meter_epoch,
            "seq": self.seq,
            "started_s": self.started_s,
            "ended_s": self.ended_s,
            "started_unix_s": self.started_unix_s,
            "payload": payload,
        }

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Window:
        """Read back what `to_row` wrote (JSON keeps every float exactly)."""
        payload = row["payload"]
        return cls(
            host=row["host"],
            boot_id=row["boot_id"],
            meter_epoch=row["meter_epoch"],
            seq=row["seq"],
            started_s=row["started_s"],
            ended_s=row["ended_s"],
            started_unix_s=row["started_unix_s"],
            cpu_j=payload["cpu_j"],
            cpu_idle_j=payload["cpu_idle_j"],
            ram_j=payload["ram_j"],
            busy_core_s=payload["busy_core_s"],
            members={
                key: MemberUse(cpu_s=use["cpu_s"], pids=_int_keys(use["pids"]))
                for key, use in payload["members"].items()
            },
            gpus=tuple(
                GpuUse(**{**gpu, "pids": _int_keys(gpu["pids"])}) for gpu in payload["gpus"]
            ),
            methods=payload["methods"],
            gap_reason=payload["gap_reason"],
        )


def _int_keys(mapping: Mapping[str, float]) -> dict[int, float]:
    return {int(key): value for key, value in mapping.items()}
