"""Handing in a spec: what it would do, what quota it meets, and the job that it becomes."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

from service.jobs.admission import admit, check_webhook
from service.jobs.desk import JobDesk, require
from service.jobs.kinds import JobSpec, estimate_of
from service.jobs.permissions import may_submit
from service.jobs.preview import Preview
from service.jobs.records import STARTED_STATES, JobRecord, Quota, UserRecord
from service.jobs.scheduler import Scheduler, effective
from service.jobs.settings import ServiceSettings
from service.ledger import Ledger
from trainers.errors import ConfigError, JobError, nearest

MAX_KEY_LENGTH = 200


class Submissions(JobDesk):
    """Previews and submits."""

    def __init__(self, ledger: Ledger, settings: ServiceSettings, scheduler: Scheduler) -> None:
        super().__init__(ledger, settings, scheduler)
        self._estimates: dict[str, float] = {}
        """Digest of a spec -> seconds, as its preview estimated."""

    def preview(
        self,
        user: UserRecord,
        mapping: Mapping[str, Any],
        priority: str = "normal",
        *,
        estimate: bool = False,
    ) -> Preview:
        """Say what a spec would do and what quota it would meet; nothing is queued.

        Args:
            user: who asks.
            mapping: the spec.
            priority: its class.
            estimate: measure and estimate time and energy too, which takes a second or two.

        Raises:
            ConfigError: if the spec, its data or the class break a rule.

        """
        spec = admit(mapping, self._settings.allow)
        rank = self._rank(priority)
        workers = self._workers(spec, None)
        estimated = self._estimate(spec, workers) if estimate else None
        live = self._ledger.live_jobs()
        before = [job for job in live if job.state == "queued" and self._rank_of(job) >= rank]
        quota, used = self.quota_of(user)
        return Preview.of(
            spec,
            workers=workers,
            estimate=estimated,
            quota=quota,
            used=used,
            position=len(before) + 1,
        )

    def quota_of(self, user: UserRecord) -> tuple[Quota, dict[str, float]]:
        """Return a user's limits, and how much of each is in use."""
        live = self._ledger.live_jobs()
        own = [job for job in live if job.owner == user.user_id and job.state in STARTED_STATES]
        used = {
            "max_jobs": float(len(own)),
            "max_workers": float(sum(job.workers_allowed for job in own)),
            "kwh_per_month": self._scheduler.kwh_of(user.user_id),
        }
        return effective(user.quota, self._settings.queue.per_user), used

    def submit(
        self,
        user: UserRecord,
        mapping: Mapping[str, Any],
        *,
        priority: str = "normal",
        idempotency_key: str | None = None,
        workers: int | None = None,
        webhook_url: str | None = None,
    ) -> JobRecord:
        """Queue a spec and return its job; the same key of the same user gives the first one.

        Raises:
            ConfigError: if the spec, the class, the key or the webhook break a rule.
            JobError: the user may not submit, or the key stands for another request.

        """
        require(may_submit(user), user, "submit jobs")
        spec = admit(mapping, self._settings.allow)
        self._rank(priority)
        check_webhook(webhook_url, self._settings.allow)
        if idempotency_key is not None and not 0 < len(idempotency_key) <= MAX_KEY_LENGTH:
            raise ConfigError(
                f"an idempotency key has 1 to {MAX_KEY_LENGTH} characters, but this one has "
                f"{len(idempotency_key)}; use a UUID"
            )
        plain = spec.to_mapping()
        made = self._queue(
            user,
            spec,
            {"run": {}},
            priority=priority,
            workers=self._workers(spec, workers),
            idempotency_key=idempotency_key,
            webhook_url=webhook_url,
            estimated_s=self._estimates.get(_digest(plain)),
        )
        if idempotency_key is not None and _digest(made.spec) != _digest(plain):
            raise JobError(
                f"an idempotency key stands for one request, but {idempotency_key!r} was used for "
                f"another one, which made job {made.job_id}; use a new key"
            )
        return made

    def _rank(self, priority: str) -> int:
        classes = self._settings.queue.priorities
        if priority not in classes:
            raise ConfigError(
                f"a job's class is one of {', '.join(classes)}, but got {priority!r}"
                f"{nearest(priority, list(classes))}"
            )
        return classes[priority]

    def _rank_of(self, job: JobRecord) -> float:
        return self._settings.queue.priorities.get(job.priority, -math.inf)

    def _workers(self, spec: JobSpec, asked: int | None) -> int:
        """Return how many workers a job wants: as asked, as the spec allows, as the cluster has."""
        most = spec.resources.max_workers
        fit = int(self.cluster().cpus // spec.resources.cpus_per_worker) or 1
        wanted = asked or most or fit
        return max(min(wanted, most or wanted), 1)

    def _estimate(self, spec: JobSpec, workers: int) -> dict[str, Any]:
        seconds, found = estimate_of(spec, workers=workers, folder=self._settings.storage.path)
        self._estimates[_digest(spec.to_mapping())] = seconds
        return found


def _digest(mapping: Mapping[str, Any]) -> str:
    text = json.dumps(dict(mapping), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
