"""Who gets how many workers now: a pure function of the jobs, the quotas and the cluster.

Higher classes first; within a class owners share alike, and of one owner's jobs what has begun goes
before what has not, then who came first. So the next worker that comes free goes to the higher
class, the lower one shrinks as its running segments end, and grows back when the higher is done.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from service.jobs.records import Quota

EPSILON = 1e-9
"""Shares of a CPU are floats."""


@dataclass(frozen=True, kw_only=True)
class QueuedJob:
    """What the queue needs to know of a job that has not ended."""

    job_id: str
    owner: str
    priority: str
    queued_unix_s: float
    begun: bool
    """Whether it has a driver, and so holds what it was allowed."""
    stopping: bool = False
    """It gets no new worker, but keeps those that are still saving."""
    workers_wanted: int = 1
    workers_busy: int = 0
    cpus_per_worker: float = 1.0
    gpus_per_worker: float = 0.0
    remaining_s: float | None = None
    """How long it still takes, as estimated; None: nobody knows."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What a job gets, and why not more."""

    allowed_workers: int
    position: int | None
    """1: the next to begin; None: it has begun."""
    waits_because: str
    """Empty where it has all that it wants."""
    estimated_start_unix_s: float | None = None
    """Of a job that waits, where the jobs before it can be estimated."""


def allocate(
    jobs: Sequence[QueuedJob],
    *,
    workers_total: float,
    gpus_total: float = 0.0,
    quotas: Mapping[str, Quota],
    used_kwh: Mapping[str, float],
    priorities: Mapping[str, int],
    now_unix_s: float = 0.0,
) -> dict[str, Decision]:
    """Share the cluster out among jobs.

    Args:
        jobs: all that have not ended, in any order.
        workers_total: the cluster's CPUs: a worker takes one unless its job says otherwise.
        gpus_total: the cluster's GPUs.
        quotas: limits by owner; an owner that is not there has none.
        used_kwh: energy of this month by owner.
        priorities: class -> rank; an unknown class ranks below all others.
        now_unix_s: now, for estimated starts.

    Returns:
        One decision per job. Together the allowed workers never exceed the cluster or a quota.

    """
    ordered = sorted(jobs, key=lambda job: _order(job, priorities))
    share = _Share(ordered, workers_total, gpus_total, quotas)
    reasons = _barred(ordered, quotas, used_kwh)
    for _, of_class in groupby(ordered, key=lambda job: _order(job, priorities)[:2]):
        share.give_to_class([job for job in of_class if job.job_id not in reasons])
    higher: list[QueuedJob] = []  # in order, so those before a job go first
    for job in ordered:
        reasons.setdefault(job.job_id, share.why_not_more(job, higher, priorities))
        higher.append(job)
    starts = estimated_starts(ordered, share.allowed, now_unix_s)
    waiting = [job.job_id for job in ordered if not job.begun]
    places = {job_id: place for place, job_id in enumerate(waiting, start=1)}
    return {
        job.job_id: Decision(
            allowed_workers=share.allowed[job.job_id],
            position=places.get(job.job_id),
            waits_because=reasons[job.job_id],
            estimated_start_unix_s=starts.get(job.job_id),
        )
        for job in jobs
    }


def _order(job: QueuedJob, priorities: Mapping[str, int]) -> tuple[bool, float, bool, float, str]:
    """Sort key: what is saving, then the higher class, what has begun, and who came first."""
    rank = priorities.get(job.priority, -math.inf)
    return (not job.stopping, -rank, not job.begun, job.queued_unix_s, job.job_id)


def _barred(
    ordered: Sequence[QueuedJob], quotas: Mapping[str, Quota], used_kwh: Mapping[str, float]
) -> dict[str, str]:
    """Return why some jobs may have no worker at all, whatever is free."""
    reasons: dict[str, str] = {}
    begun = Counter(job.owner for job in ordered if job.begun)
    for job in ordered:
        quota, used = quotas.get(job.owner, Quota()), used_kwh.get(job.owner, 0.0)
        if quota.kwh_per_month is not None and used >= quota.kwh_per_month and not job.stopping:
            reasons[job.job_id] = (
                f"`{job.owner}` has used {used:.3g} of {quota.kwh_per_month:g} kWh this month"
            )
        elif not job.begun and quota.max_jobs is not None:
            if begun[job.owner] >= quota.max_jobs:
                reasons[job.job_id] = (
                    f"`{job.owner}` has {begun[job.owner]} of {quota.max_jobs} jobs running"
                )
            begun[job.owner] += 1
    return reasons


class _Share:
    """What every job has been given so far, and what is left: of the cluster, of quotas."""

    def __init__(
        self,
        jobs: Sequence[QueuedJob],
        cpus: float,
        gpus: float,
        quotas: Mapping[str, Quota],
    ) -> None:
        self.allowed = dict.fromkeys((job.job_id for job in jobs), 0)
        self._cpus, self._gpus, self._quotas = cpus, gpus, quotas
        self._total = (cpus, gpus)
        self._of_owner: Counter[str] = Counter()

    def give_to_class(self, jobs: Sequence[QueuedJob]) -> None:
        """Share out among jobs of one class: fairly among owners, in order among one's own.

        Whatever has begun gets one worker before anything gets a second one.
        """
        for job in jobs:
            if job.begun:
                self._give_one(job)
        queues: dict[str, deque[QueuedJob]] = {}
        for job in jobs:
            queues.setdefault(job.owner, deque()).append(job)
        # The owner with the fewest workers is next; among equals the one who came first.
        turns = [(self._of_owner[owner], place, owner) for place, owner in enumerate(queues)]
        heapq.heapify(turns)
        while turns:
            _, place, owner = heapq.heappop(turns)
            queue = queues[owner]
            while queue and not self._give_one(queue[0]):
                queue.popleft()
            if queue:
                heapq.heappush(turns, (self._of_owner[owner], place, owner))

    def _give_one(self, job: QueuedJob) -> bool:
        wanted = min(job.workers_wanted, job.workers_busy) if job.stopping else job.workers_wanted
        if self.allowed[job.job_id] >= wanted or self._quota_left(job) < 1 or not self._fits(job):
            return False
        self._cpus -= job.cpus_per_worker
        self._gpus -= job.gpus_per_worker
        self._of_owner[job.owner] += 1
        self.allowed[job.job_id] += 1
        return True

    def _fits(self, job: QueuedJob) -> bool:
        return job.cpus_per_worker <= self._cpus + EPSILON and (
            job.gpus_per_worker <= self._gpus + EPSILON
        )

    def _quota_left(self, job: QueuedJob) -> float:
        most = self._quotas.get(job.owner, Quota()).max_workers
        return math.inf if most is None else most - self._of_owner[job.owner]

    def why_not_more(
        self, job: QueuedJob, before: Sequence[QueuedJob], priorities: Mapping[str, int]
    ) -> str:
        """Return why a job has fewer workers than it wants; empty where it has all of them."""
        allowed = self.allowed[job.job_id]
        if allowed >= job.workers_wanted or job.stopping:
            return ""
        so_far = f"has {allowed} of {job.workers_wanted} workers: " if allowed else ""
        cpus, gpus = self._total
        if job.cpus_per_worker > cpus + EPSILON or job.gpus_per_worker > gpus + EPSILON:
            return (
                f"a worker needs {job.cpus_per_worker:g} CPUs and {job.gpus_per_worker:g} GPUs, "
                f"but the cluster has {cpus:g} and {gpus:g}"
            )
        if self._quota_left(job) < 1:
            most = self._quotas[job.owner].max_workers
            return f"{so_far}`{job.owner}` may hold {most} workers at a time"
        rank = priorities.get(job.priority, -math.inf)
        higher = sum(
            1
            for other in before
            if self.allowed[other.job_id] and priorities.get(other.priority, -math.inf) > rank
        )
        if higher:
            jobs = "1 job" if higher == 1 else f"{higher} jobs"
            return f"{so_far}{jobs} of a higher class go first"
        return f"{so_far}all workers of the cluster are in use"


def estimated_starts(
    ordered: Sequence[QueuedJob], allowed: Mapping[str, int], now_unix_s: float
) -> dict[str, float]:
    """Return when waiting jobs begin if each takes the place of the next one that ends.

    A rough figure: it knows nothing of jobs to come. A job behind one whose length nobody knows
    has none.
    """
    ends = [
        now_unix_s + (math.inf if job.remaining_s is None else job.remaining_s)
        for job in ordered
        if allowed[job.job_id]
    ]
    heapq.heapify(ends)
    starts: dict[str, float] = {}
    for job in ordered:
        if job.begun:
            continue
        if allowed[job.job_id]:
            starts[job.job_id] = now_unix_s
        elif ends:
            start = heapq.heappop(ends)
            if math.isfinite(start):
                starts[job.job_id] = start
            length = math.inf if job.remaining_s is None else job.remaining_s
            heapq.heappush(ends, start + length)
    return starts
