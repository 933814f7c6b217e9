"""What the service counts, in Prometheus's text format."""

from __future__ import annotations

from collections.abc import Iterator

from service.jobs.records import LIVE_STATES
from service.web.services import Services

_HELP = {
    "isoflop_up": "1 while the service answers.",
    "isoflop_start_time_seconds": "When the service started, in seconds since 1970.",
    "isoflop_jobs": "Jobs that have not ended, by state and priority.",
    "isoflop_job_workers": "Workers of live jobs: wanted, allowed by the queue, and busy.",
    "isoflop_searches": "Searches and studies in the ledger, by state.",
    "isoflop_cluster_up": "1 while the cluster answers.",
    "isoflop_cluster_cpus": "CPUs of the cluster: all, and free.",
    "isoflop_cluster_gpus": "GPUs of the cluster: all, and free.",
    "isoflop_live_viewers": "Open streams of server-sent events.",
    "isoflop_energy_kwh_total": "Energy of all searches until their last finished round.",
}
NAMES = tuple(_HELP)


def exposition(services: Services) -> str:
    """Return all samples."""
    return "\n".join(_lines(services)) + "\n"


def _lines(services: Services) -> Iterator[str]:
    last = ""
    for name, labels, value in _samples(services):
        if name != last:
            kind = "counter" if name.endswith("_total") else "gauge"
            yield f"# HELP {name} {_HELP[name]}"
            yield f"# TYPE {name} {kind}"
            last = name
        inner = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
        yield f"{name}{{{inner}}} {value:g}" if inner else f"{name} {value:.17g}"


def _samples(services: Services) -> Iterator[tuple[str, dict[str, str], float]]:
    yield "isoflop_up", {}, 1
    yield "isoflop_start_time_seconds", {}, services.started_unix_s
    live = services.ledger.live_jobs()
    priorities = sorted({*services.settings.queue.priorities, *(job.priority for job in live)})
    for state in LIVE_STATES:
        for priority in priorities:
            number = sum(job.state == state and job.priority == priority for job in live)
            yield "isoflop_jobs", {"state": state, "priority": priority}, number
    for kind in ("wanted", "allowed", "busy"):
        total = sum(getattr(job, f"workers_{kind}") for job in live)
        yield "isoflop_job_workers", {"kind": kind}, total
    for name, number in sorted(services.ledger.count_searches().items()):
        yield "isoflop_searches", {"state": name}, number
    cluster = services.manager.cluster()
    yield "isoflop_cluster_up", {}, cluster.reachable
    for kind, value in (("all", cluster.cpus), ("free", cluster.free_cpus)):
        yield "isoflop_cluster_cpus", {"kind": kind}, value
    for kind, value in (("all", cluster.gpus), ("free", cluster.free_gpus)):
        yield "isoflop_cluster_gpus", {"kind": kind}, value
    yield "isoflop_live_viewers", {}, services.feeds.num_viewers
    yield "isoflop_energy_kwh_total", {}, services.total_kwh.value()


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
