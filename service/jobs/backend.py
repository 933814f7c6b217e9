"""What the manager asks of a cluster, whichever it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

RunState = Literal["pending", "running", "succeeded", "failed", "stopped", "unknown"]
TERMINAL_RUNS: tuple[RunState, ...] = ("succeeded", "failed", "stopped", "unknown")


@dataclass(frozen=True, kw_only=True)
class Run:
    """One driver on the cluster, as the cluster knows it."""

    state: RunState
    """unknown: the cluster never heard of it, or has forgotten it."""
    message: str = ""
    exit_code: int | None = None


@dataclass(frozen=True, kw_only=True)
class NodeView:
    """One machine of the cluster."""

    node_id: str
    host: str
    alive: bool
    is_head: bool
    cpus: float
    gpus: float
    memory_bytes: float


@dataclass(frozen=True, kw_only=True)
class ClusterView:
    """The cluster now."""

    reachable: bool
    why_not: str = ""
    nodes: tuple[NodeView, ...] = ()
    cpus: float = 0.0
    gpus: float = 0.0
    free_cpus: float = 0.0
    free_gpus: float = 0.0


class JobBackend(Protocol):
    """Starts drivers and says what became of them. Every call may raise a ClusterError."""

    python: str
    """The interpreter that runs drivers there."""

    def start(self, submission_id: str, entrypoint: str, env: Mapping[str, str]) -> None:
        """Start a driver. One that was started under this id already is left as it is."""
        ...

    def status(self, submission_id: str) -> Run:
        """Say how a driver fares."""
        ...

    def stop(self, submission_id: str) -> None:
        """Send SIGTERM, and SIGKILL after the cluster's patience; harmless where nothing runs."""
        ...

    def logs(self, submission_id: str) -> str:
        """Return everything the driver has printed; empty where the cluster has forgotten it."""
        ...

    def list(self) -> Mapping[str, Run]:
        """Return all drivers that the cluster knows, by submission id."""
        ...

    def cluster(self) -> ClusterView:
        """Describe the cluster; never raises."""
        ...

    def close(self) -> None:
        """Stop what was started for the service alone."""
        ...
