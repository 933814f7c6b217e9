"""How the service bears a crowd: people who watch, and people who submit, for a minute.

The service is a process of its own: uvicorn on loopback with a real ledger (SQLite), its queue
taking turns, over a cluster that starts nothing. Viewers hold streams of server-sent events open
while a running search changes every second. Submissions arrive at a steady rate whether or not
earlier ones were answered; every tenth is sent a second time with its key, as after a lost answer.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.benchmarks.machine import describe_machine
from tests.benchmarks.results import save

NUM_VIEWERS = 200
SUBMISSIONS_PER_S = 20
TIMEOUT_S = 120.0
SPEC = {
    "kind": "search",
    "name": "crowd",
    "data": {"name": "digits"},
    "space": {"optimizer.lr": {"log_uniform": [1e-4, 1e-1]}},
    "rounds": [{"sampler": "random", "trials": 8, "epochs": 2}],
}
REMARKS = (
    "Service and crowd share the machine's cores.",
    "Submission: from when it was due until its answer was read, so that a queue in front of the "
    "service counts.",
    "Behind: a change's time until a viewer has read it; the service looks once a second.",
    "Lost: accepted, but not in the ledger. Twice: two jobs for one key.",
)


@dataclass
class Seen:
    """What the crowd was answered."""

    statuses: Counter[int] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)
    """Connections that broke, and were tried again."""
    failures: list[str] = field(default_factory=list)
    submit_s: list[float] = field(default_factory=list)
    jobs: dict[str, set[str]] = field(default_factory=dict)
    """Key -> ids of the jobs that were answered for it."""
    num_events: list[int] = field(default_factory=list)
    behind_s: list[float] = field(default_factory=list)


def serve(ledger_path: str) -> None:
    """Run the service in this process: print its port and a token, end with standard input."""
    import socket

    import uvicorn

    from service.jobs.manager import JobManager
    from service.jobs.settings import ServiceSettings
    from service.jobs.testing import FakeBackend
    from service.ledger import Ledger
    from service.web.app import create_app
    from service.web.fitting import FittingPool

    with (
        Ledger.open(ledger_path) as ledger,
        socket.create_server(("127.0.0.1", 0), backlog=1024) as listener,
    ):
        ledger.create_user("crowd", "admin")
        token = ledger.add_token("crowd")[1]
        search_id = ledger.create_search(name="watched", spec=SPEC, seed=0).search_id
        settings = ServiceSettings()
        manager = JobManager(ledger, FakeBackend(), settings)
        manager.start()
        fitter = FittingPool()
        server = uvicorn.Server(
            uvicorn.Config(
                create_app(manager, ledger, settings, fitter), log_level="warning", lifespan="off"
            )
        )
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        print(json.dumps([listener.getsockname()[1], token, search_id]), flush=True)
        ended = threading.Event()
        changes = threading.Thread(target=_change, args=(ledger, search_id, ended))
        changes.start()
        sys.stdin.read()
        ended.set()
        changes.join()
        server.should_exit = True
        server.force_exit = True  # viewers would be waited for
        thread.join()
        fitter.close()
        manager.close()


def _change(ledger: Any, search_id: str, ended: threading.Event) -> None:
    """Let the watched search say something new every second: when it said it."""
    while not ended.wait(1.0):
        ledger.update_search(search_id, reason=f"{time.time():.3f}")


async def _view(client: httpx.AsyncClient, path: str, seen: Seen, ends_s: float) -> None:
    """Hold a stream open and read every event."""
    num_events = 0
    try:
        async with client.stream("GET", path) as response:
            seen.statuses[response.status_code] += 1
            async with asyncio.timeout_at(ends_s):
                async for line in response.aiter_lines():
                    if not line.startswith("data: "):
                        continue
                    num_events += 1
                    said = json.loads(line.removeprefix("data: ")).get("reason")
                    if said and num_events > 1:
                        seen.behind_s.append(time.time() - float(said))
    except TimeoutError:
        pass  # the minute is over
    except httpx.HTTPError as error:
        seen.failures.append(f"viewer: {error!r}")
    seen.num_events.append(num_events)


async def _submit(client: httpx.AsyncClient, key: str, seen: Seen, due_s: float) -> None:
    """Submit, and again with the same key where the connection broke, as clients should."""
    for last in (False, True):
        try:
            answer = await client.post(
                "/api/v1/jobs", json={"spec": SPEC}, headers={"Idempotency-Key": key}
            )
        except httpx.HTTPError as error:
            (seen.failures if last else seen.broken).append(f"submission: {error!r}")
            continue
        seen.statuses[answer.status_code] += 1
        seen.submit_s.append(time.perf_counter() - due_s)
        if answer.status_code == 201:
            seen.jobs.setdefault(key, set()).add(answer.json()["job_id"])
        return


async def _crowd(address: str, token: str, search_id: str, seconds: float) -> Seen:
    seen = Seen()
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(
        base_url=address,
        headers={"Authorization": f"Bearer {token}"},
        limits=limits,
        timeout=httpx.Timeout(TIMEOUT_S),
        trust_env=False,
    ) as client:
        ends_s = asyncio.get_running_loop().time() + seconds
        paths = [f"/api/v1/searches/{search_id}/live", "/overview/live"]
        viewers = [
            asyncio.create_task(_view(client, paths[number % 2], seen, ends_s))
            for number in range(NUM_VIEWERS)
        ]
        sent = []
        began_s = time.perf_counter()
        for number in range(round(seconds * SUBMISSIONS_PER_S)):
            due_s = began_s + number / SUBMISSIONS_PER_S
            await asyncio.sleep(max(due_s - time.perf_counter(), 0.0))
            key = uuid.uuid4().hex
            for _ in range(2 if number % 10 == 0 else 1):
                sent.append(asyncio.create_task(_submit(client, key, seen, due_s)))
        await asyncio.gather(*sent, *viewers)
    return seen


def measure(folder: Path, seconds: float) -> tuple[Seen, set[str]]:
    """Let the crowd come; return what it saw, and the jobs that the ledger holds afterwards."""
    ledger_path = folder / "isoflop.db"
    service = subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.service_load", str(ledger_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert service.stdin is not None
    assert service.stdout is not None
    try:
        port, token, search_id = json.loads(service.stdout.readline())
        seen = asyncio.run(_crowd(f"http://127.0.0.1:{port}", token, search_id, seconds))
    finally:
        service.stdin.close()
        service.wait(TIMEOUT_S)
    from service.ledger import Ledger

    with Ledger.open(ledger_path) as ledger:
        held = {job.job_id for job in ledger.live_jobs()}
    return seen, held


def main(seconds: float) -> Path:
    """Measure, and write the table.

    Args:
        seconds: how long the crowd stays.

    """
    machine = describe_machine()
    with tempfile.TemporaryDirectory(prefix="isoflop-load-") as folder:
        seen, held = measure(Path(folder), seconds)
    answered = set().union(*seen.jobs.values())
    row = {
        "viewers": NUM_VIEWERS,
        "submissions / s": SUBMISSIONS_PER_S,
        "seconds": seconds,
        "accepted": len(seen.jobs),
        "5xx": sum(n for status, n in seen.statuses.items() if status >= 500),
        "failed": len(seen.failures),
        "tried again": len(seen.broken),
        "lost": len(answered - held),
        "twice": len(held) - len(seen.jobs),
    }
    times = [
        {"what": what, "number": len(values), **_percentiles(values)}
        for what, values in (("submission", seen.submit_s), ("viewer behind", seen.behind_s))
    ]
    events = {"fewest": min(seen.num_events), "most": max(seen.num_events)}
    return save(
        "service-load",
        machine,
        {"What came": [row], "Seconds": times, "Events of a viewer": [events]},
        {
            "statuses": {str(status): number for status, number in seen.statuses.items()},
            "broken": seen.broken,
            "failures": seen.failures,
            "submit_s": [round(value, 4) for value in seen.submit_s],
            "behind_s": [round(value, 4) for value in seen.behind_s],
        },
        REMARKS,
    )


def _percentiles(values: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(values, n=100)
    return {"p50": cuts[49], "p95": cuts[94], "p99": cuts[98], "most": max(values)}


if __name__ == "__main__":
    serve(sys.argv[1])
