"""What everything that users ask of the service stands on: the ledger, the rules, the queue."""

from __future__ import annotations

import base64
import secrets
import time
from collections.abc import Mapping
from typing import Any

from service.jobs.backend import ClusterView
from service.jobs.kinds import JobSpec
from service.jobs.records import JobRecord, UserRecord
from service.jobs.scheduler import Scheduler
from service.jobs.settings import ServiceSettings
from service.ledger import Ledger
from trainers.errors import JobError


class JobDesk:
    """Puts jobs into the queue."""

    def __init__(self, ledger: Ledger, settings: ServiceSettings, scheduler: Scheduler) -> None:
        self._ledger, self._settings, self._scheduler = ledger, settings, scheduler

    def cluster(self) -> ClusterView:
        """Return the cluster as of the last turn."""
        return self._scheduler.view

    def _queue(
        self,
        user: UserRecord,
        spec: JobSpec,
        action: Mapping[str, Any],
        *,
        priority: str,
        workers: int,
        owner: str | None = None,
        **fields: Any,
    ) -> JobRecord:
        now = time.time()
        record = JobRecord(
            job_id=new_job_id(),
            owner=owner or user.user_id,
            kind=spec.kind,
            action=dict(action),
            name=spec.name,
            project=spec.project,
            spec=spec.to_mapping(),
            priority=priority,
            reason="waits for the next turn of the queue",
            workers_wanted=workers,
            cpus_per_worker=spec.resources.cpus_per_worker,
            gpus_per_worker=spec.resources.gpus_per_worker,
            created_unix_s=now,
            queued_unix_s=now,
            **fields,
        )
        return self._ledger.create_job(record)


def new_job_id() -> str:
    """Return an id that no other service on the same cluster has: `j-` and 80 random bits."""
    return "j-" + base64.b32encode(secrets.token_bytes(10)).decode().lower()


def require(allowed: bool, user: UserRecord, what: str) -> None:
    """Refuse what a user may not do.

    Raises:
        JobError: naming the user, the role and what was asked.

    """
    if not allowed:
        raise JobError(f"`{user.user_id}` is a {user.role} and may not {what}; ask an admin")
