"""One turn of the service: compare ledger and cluster, copy logs, share workers out, start jobs.

Everything it decides by is in the ledger, so a service that was killed goes on with the next turn.
"""

from __future__ import annotations

import logging
import shlex
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from service.jobs.backend import TERMINAL_RUNS, ClusterView, JobBackend
from service.jobs.energy_use import MonthlyUse
from service.jobs.logs import copy_log
from service.jobs.queue import Decision, QueuedJob, allocate
from service.jobs.reconcile import (
    MAX_ATTEMPTS,
    Finding,
    examine,
    job_ids,
    orphans,
    submission_id,
)
from service.jobs.records import STARTED_STATES, JobRecord, Quota
from service.jobs.settings import QueueSettings
from service.ledger import Ledger
from trainers.errors import ClusterError

log = logging.getLogger("isoflop.jobs")
ORPHANS_EVERY_S = 30.0
"""The cluster's list of jobs grows for as long as it lives, so it is not read in every turn."""
LEAVING_S = 60.0
"""How long a driver may take to leave after it has recorded its end."""
TYPICAL_OF = 20
"""Finished jobs whose mean length stands for one that cannot be estimated."""


class Scheduler:
    """Moves jobs on. One thread at a time may take a turn."""

    def __init__(
        self,
        ledger: Ledger,
        backend: JobBackend,
        settings: QueueSettings,
        environment: Mapping[str, str],
        *,
        use: MonthlyUse | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Prepare; nothing is asked yet.

        Args:
            ledger: where jobs are.
            backend: the cluster.
            settings: classes and quotas.
            environment: what drivers need to find the ledger and the storage.
            use: energy by owner.
            clock: seconds since 1970.

        """
        self._ledger, self._backend, self._settings = ledger, backend, settings
        self._environment = dict(environment)
        self._use = use or MonthlyUse(ledger)
        self._clock = clock
        self._signalled: set[str] = set()
        self._listed_unix_s = 0.0
        self.view = ClusterView(reachable=False, why_not="it has not been asked yet")
        self.decisions: Mapping[str, Decision] = {}

    def turn(self) -> None:
        """Take one turn. A cluster that does not answer is asked again in the next one."""
        self.look()
        try:
            if self.view.reachable:
                self._reconcile()
                self._end_orphans()
                self._copy_logs()
        except ClusterError as error:
            self.view = replace(self.view, reachable=False, why_not=str(error))
        self._share_out()

    def look(self) -> None:
        """Ask what the cluster has."""
        self.view = self._backend.cluster()

    def kwh_of(self, owner: str) -> float:
        """Return what an owner's searches have used this month."""
        return self._use.of([owner], self._clock())[owner]

    def _reconcile(self) -> None:
        for job in self._ledger.live_jobs():
            if job.state not in STARTED_STATES:
                continue
            run = self._backend.status(job.submission_id or "")
            # Read again: a driver records its end before it ends, so this is not older than `run`.
            job = self._ledger.job(job.job_id)
            finding = examine(job, run, self._clock()) if job.state in STARTED_STATES else None
            if finding is not None:
                log.warning("job %s: %s: %s", job.job_id, finding.kind, finding.reason)
                self._act(job, finding)

    def _act(self, job: JobRecord, finding: Finding) -> None:
        assert job.submission_id is not None
        if finding.kind == "unsent":
            self._submit(job)
            return
        if finding.must_be_ended and job.submission_id not in self._signalled:
            self._signalled.add(job.submission_id)
            self._backend.stop(job.submission_id)
        if finding.kind == "unheeded":
            return
        copy_log(self._ledger, self._backend, job, final=True)
        if finding.kind == "stopped":
            self._settle(job, "stopped", finding.reason)
        elif job.attempt >= MAX_ATTEMPTS:
            self._settle(job, "failed", f"{finding.reason}; that was attempt {job.attempt}")
        else:
            self._ledger.update_job(
                job.job_id,
                if_attempt=job.attempt,
                if_state=("starting", "running"),
                state="queued",
                submission_id=None,
                workers_allowed=0,
                workers_busy=0,
                reason=f"attempt {job.attempt} of {MAX_ATTEMPTS}: {finding.reason}; it is resumed",
            )

    def _settle(self, job: JobRecord, state: str, reason: str) -> None:
        self._ledger.update_job(
            job.job_id,
            if_attempt=job.attempt,
            if_state=STARTED_STATES,
            state=state,
            reason=reason,
            finished_unix_s=self._clock(),
            workers_allowed=0,
            workers_busy=0,
        )

    def _end_orphans(self) -> None:
        now = self._clock()
        if now - self._listed_unix_s < ORPHANS_EVERY_S:
            return
        self._listed_unix_s = now
        runs = self._backend.list()
        known = self._ledger.known_jobs(job_ids(runs))
        for name in orphans(runs, known):
            job = known[name.rpartition("-")[0]]
            leaving = name == job.submission_id and now - (job.finished_unix_s or 0.0) < LEAVING_S
            if name not in self._signalled and not leaving:
                log.warning("the cluster runs %s, which nobody wants: ending it", name)
                self._signalled.add(name)
                self._backend.stop(name)

    def _copy_logs(self) -> None:
        for job in self._ledger.jobs_with_open_log():
            name = job.submission_id
            over = name is None or self._backend.status(name).state in TERMINAL_RUNS
            copy_log(self._ledger, self._backend, job, final=over and job.has_ended)

    def _share_out(self) -> None:
        """Decide who may have how many workers; tell drivers, and start jobs that may begin."""
        live = self._ledger.live_jobs()
        quotas = self._quotas({job.owner for job in live})
        limited = [name for name, quota in quotas.items() if quota.kwh_per_month is not None]
        typical_s = self._typical_s() if any(job.state == "queued" for job in live) else None
        self.decisions = allocate(
            [self._queued(job, typical_s) for job in live],
            workers_total=self.view.cpus,
            gpus_total=self.view.gpus,
            quotas=quotas,
            used_kwh=self._use.of(limited, self._clock()),
            priorities=self._settings.priorities,
            now_unix_s=self._clock(),
        )
        if not self.view.reachable:
            return  # what runs keeps what it has until the cluster is seen again
        for job in live:
            allowed = self.decisions[job.job_id].allowed_workers
            if job.state == "queued" and allowed > 0:
                self._start(job, allowed)
            elif job.state in STARTED_STATES and allowed != job.workers_allowed:
                self._ledger.update_job(
                    job.job_id,
                    if_attempt=job.attempt,
                    if_state=STARTED_STATES,
                    workers_allowed=allowed,
                )

    def _start(self, job: JobRecord, allowed: int) -> None:
        """Write down that an attempt begins, then begin it: killed in between, it is sent again."""
        attempt = job.attempt + 1
        begun = {
            "attempt": attempt,
            "submission_id": submission_id(job.job_id, attempt),
            "state": "starting",
            "reason": "",
            "workers_allowed": allowed,
            "heartbeat_unix_s": self._clock(),
            "started_unix_s": job.started_unix_s or self._clock(),
            "log_open": True,
        }
        if self._ledger.update_job(job.job_id, if_state="queued", if_attempt=job.attempt, **begun):
            self._submit(self._ledger.job(job.job_id))

    def _submit(self, job: JobRecord) -> None:
        assert job.submission_id is not None
        entrypoint = shlex.join(
            [self._backend.python, "-m", "service.jobs.driver", job.job_id, str(job.attempt)]
        )
        try:
            self._backend.start(job.submission_id, entrypoint, self._environment)
        except ClusterError as error:
            log.warning("job %s was not submitted, and will be again: %s", job.job_id, error)

    def _quotas(self, owners: set[str]) -> dict[str, Quota]:
        """Return each owner's limits: their own where set, else the service's."""
        rule = self._settings.per_user
        own = {user.user_id: user.quota for user in self._ledger.users()}
        return {owner: effective(own.get(owner, Quota()), rule) for owner in owners}

    def _queued(self, job: JobRecord, typical_s: float | None) -> QueuedJob:
        return QueuedJob(
            job_id=job.job_id,
            owner=job.owner,
            priority=job.priority,
            queued_unix_s=job.queued_unix_s,
            begun=job.state in STARTED_STATES,
            stopping=job.state == "stopping",
            workers_wanted=job.workers_wanted,
            workers_busy=job.workers_busy,
            cpus_per_worker=job.cpus_per_worker,
            gpus_per_worker=job.gpus_per_worker,
            remaining_s=self._remaining_s(job, typical_s),
        )

    def _remaining_s(self, job: JobRecord, typical_s: float | None) -> float | None:
        """Estimate how long a job still takes, by its own pace where it has one."""
        whole_s = job.estimated_s or typical_s
        if job.state not in STARTED_STATES or job.search_id is None or job.started_unix_s is None:
            return whole_s
        rows = self._ledger.progress(job.search_id)
        done = sum(row.epochs_done for row in rows)
        ahead = sum(
            row.horizon_epochs - row.epochs_done
            for row in rows
            if row.state in ("waiting", "running")
        )
        spent_s = self._clock() - job.started_unix_s
        by_pace_s = spent_s * ahead / done if done else 0.0
        return max(by_pace_s, (whole_s or 0.0) - spent_s) if done or whole_s else None

    def _typical_s(self) -> float | None:
        ended = self._ledger.jobs(states=["finished"], limit=TYPICAL_OF)
        lengths = [
            job.finished_unix_s - job.started_unix_s
            for job in ended
            if job.finished_unix_s is not None and job.started_unix_s is not None
        ]
        return sum(lengths) / len(lengths) if lengths else None


def effective(own: Quota, rule: object) -> Quota:
    """Return a user's limits, with the service's rule where he has none of his own."""
    limits = {
        name: getattr(own, name) if getattr(own, name) is not None else getattr(rule, name)
        for name in ("max_workers", "max_jobs", "kwh_per_month")
    }
    return Quota(**limits)
