"""Meters on the other hosts of a Ray cluster: one actor per host, pinned to it.

The actor runs the same meter thread as a driver does, so two raylets, or two searches, on one
host still share one meter through the spool. Here each host gets an `EnergySession` of its own
whose windows come over the wire; what is lost on the way is asked for again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from service.energy.meter import Meter
from service.energy.processes import boot_id, host_name, this_host
from service.energy.session import EnergySession
from service.energy.source import Item, ThreadSource
from service.energy.spool import Spool, default_spool
from service.ledger import Ledger
from trainers.errors import MeterError

REPLY_WITHIN_S = 5.0


@dataclass(frozen=True, kw_only=True)
class Place:
    """Which process meters a host, and since when."""

    host: str
    boot_id: str
    pid: int
    started_s: float
    started_unix_s: float


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What an agent measured since what the caller has acknowledged."""

    place: Place
    now_s: float
    first: int
    """Number of the first item; the caller next acknowledges `first + len(items)`."""
    items: tuple[Item, ...]
    error: str


class HostAgent:
    """Runs on the metered host, in a Ray actor. Restarted by Ray, it is a new place.

    Args:
        search_id: whose workers' energy this is.
        spool: None: the host's own.
        meter: None: CodeCarbon.

    """

    def __init__(
        self, search_id: str, spool: Path | None = None, meter: Meter | None = None
    ) -> None:
        self._place = Place(
            host=host_name(),
            boot_id=boot_id(),
            pid=os.getpid(),
            started_s=time.monotonic(),
            started_unix_s=time.time(),
        )
        self._source = ThreadSource(
            Spool(spool or default_spool()), search_id, os.getpid(), this_host(), meter, None
        )
        self._source.start()
        self._items: list[Item] = []
        self._first = 0

    def collect(self, pid: int, acknowledged: int) -> Reply:
        """Return what was measured since item `acknowledged`, which frees what was before it.

        Items are numbered by process: `pid` of another one (before a restart) frees nothing.
        """
        self._items += self._source.new()
        known = acknowledged if pid == self._place.pid else 0
        done = min(max(0, known - self._first), len(self._items))
        del self._items[:done]
        self._first += done
        error = self._source.error()
        return Reply(
            place=self._place,
            now_s=time.monotonic(),
            first=self._first,
            items=tuple(self._items),
            error=str(error or ""),
        )

    def wake(self) -> None:
        """Close a window now."""
        self._source.wake()

    def watch(self, pids: Sequence[int]) -> None:
        """Count these workers' trees."""
        self._source.watch(pids)

    def stop(self) -> None:
        """Leave the host's meter."""
        self._source.stop()


class AgentCalls(Protocol):
    """Calls of an agent, wherever it runs; None: no answer in time."""

    def ask(self, method: str, *args: Any) -> Any:
        """Call and wait for the answer."""

    def tell(self, method: str, *args: Any) -> None:
        """Call without waiting."""

    def close(self) -> None:
        """Give the agent up."""


class RayCalls:
    """Calls of a Ray actor."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    def ask(self, method: str, *args: Any) -> Any:
        """Return the answer, or None if the actor is restarting, away or slow."""
        import ray

        try:
            return ray.get(getattr(self._actor, method).remote(*args), timeout=REPLY_WITHIN_S)
        except (ray.exceptions.RayError, TimeoutError):
            return None

    def tell(self, method: str, *args: Any) -> None:
        """Send a call."""
        getattr(self._actor, method).remote(*args)

    def close(self) -> None:
        """End the actor."""
        import ray

        ray.kill(self._actor)


class RemoteSource:
    """Windows of one agent; its clock is the host's, as of the last answer."""

    def __init__(self, calls: AgentCalls, place: Place) -> None:
        self._calls = calls
        self._place = place
        self._acknowledged = 0
        self._error = ""
        self.now_s = place.started_s
        self.restarted = False
        """True once another process answers: Ray started the agent again."""

    def start(self) -> None:
        """Nothing to do: the agent started with its process."""

    def wake(self) -> None:
        """Ask for a window."""
        self._calls.tell("wake")

    def new(self) -> list[Item]:
        """Return what arrived since the last call; what was lost on the way comes again."""
        reply: Reply | None = (
            None
            if self.restarted
            else self._calls.ask("collect", self._place.pid, self._acknowledged)
        )
        if reply is None:
            return []
        if reply.place != self._place:
            self.restarted = True
            return []
        self.now_s = max(self.now_s, reply.now_s)
        self._error = reply.error
        new = list(reply.items)[max(0, self._acknowledged - reply.first) :]
        self._acknowledged = max(self._acknowledged, reply.first + len(reply.items))
        return new

    def watch(self, pids: Sequence[int]) -> None:
        """Add root pids."""
        self._calls.tell("watch", list(pids))

    def error(self) -> MeterError | None:
        """Return why the host's meter does not run, if so."""
        return MeterError(f"{self._place.host}: {self._error}") if self._error else None

    def clock(self) -> float:
        """Return the host's monotonic time."""
        return self.now_s

    def stop(self) -> None:
        """Leave the host's meter."""
        self._calls.ask("stop")
        self._calls.close()


class RemoteHost:
    """One other host's part in a search: a session, and the next if its agent is restarted.

    Args:
        ledger: the open ledger.
        search_id: of the search.
        calls: of the agent on the host.

    Raises:
        MeterError: the agent does not answer.
    """

    def __init__(self, ledger: Ledger, search_id: str, calls: AgentCalls) -> None:
        self._ledger = ledger
        self._search_id = search_id
        self._calls = calls
        self._pids: set[int] = set()
        self._before_kwh = 0.0
        place = self._ask_place()
        if place is None:
            raise MeterError("every host needs a meter, but one agent did not answer in 5 s")
        self.host = place.host
        self._open(place, place.started_s)

    def _ask_place(self) -> Place | None:
        reply: Reply | None = self._calls.ask("collect", 0, 0)
        return None if reply is None else reply.place

    def _open(self, place: Place, started_s: float) -> None:
        self._place = place
        self._source = RemoteSource(self._calls, place)
        span = self._ledger.open_span(
            self._search_id,
            host=place.host,
            boot_id=place.boot_id,
            pid=place.pid,
            started_s=started_s,
            started_unix_s=place.started_unix_s,
        )
        self._session = EnergySession(
            self._ledger, self._search_id, self._source, self._source.clock, span, 0.0
        )

    def worker_began(self, host: str, pid: int) -> None:
        """Count a worker's process tree."""
        if host == self.host and pid not in self._pids:
            self._pids.add(pid)
            self._source.watch(sorted(self._pids))

    def mark(self) -> None:
        """Close a window soon."""
        self._session.mark()

    def flush(self) -> None:
        """Bring the host's windows into the ledger; go on in a new span after a restart."""
        self._session.flush()
        place = self._ask_place() if self._source.restarted else None
        if place is not None:
            self._before_kwh += self._session.own_kwh()
            same_boot = place.boot_id == self._place.boot_id
            # The outage belongs to the new span, where it shows as a gap.
            self._open(place, self._source.now_s if same_boot else place.started_s)
            self._source.watch(sorted(self._pids))

    def own_kwh(self) -> float:
        """Return what the search caused on this host."""
        return self._before_kwh + self._session.own_kwh()

    def end(self) -> None:
        """Close the last window and give the agent up."""
        self._session.end()


def meter_cluster(ledger: Ledger, search_id: str) -> list[RemoteHost]:
    """Start a meter on every living host of the Ray cluster but this one.

    Call it once Ray is connected, and hand the result to `EnergySession.add_hosts`.

    Args:
        ledger: the open ledger.
        search_id: of the search.

    Raises:
        MeterError: a host's agent does not answer.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    agent: Any = ray.remote(HostAgent)
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    hosts: dict[str, RemoteHost] = {}
    for node in nodes:
        name = node["NodeManagerHostname"]
        if node["Alive"] and name != host_name() and name not in hosts:
            pinned = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            actor = agent.options(num_cpus=0, max_restarts=-1, scheduling_strategy=pinned).remote(
                search_id
            )
            hosts[name] = RemoteHost(ledger, search_id, RayCalls(actor))
    return list(hosts.values())
