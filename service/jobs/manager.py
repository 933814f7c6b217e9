"""What users ask of the service: submit, watch, stop, resume, extend. The queue does the rest."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import math
import secrets
import threading
import time
from collections.abc import Mapping
from typing import Any

from service.jobs.additions import check_addition
from service.jobs.admission import admit, check_webhook
from service.jobs.backend import ClusterView, JobBackend
from service.jobs.environment import driver_environment
from service.jobs.kinds import JobSpec, estimate_of, parse_spec
from service.jobs.logs import LogSlice, read_slice
from service.jobs.permissions import may_change, may_submit
from service.jobs.preview import Preview
from service.jobs.queue import Decision
from service.jobs.records import STARTED_STATES, JobRecord, Quota, UserRecord
from service.jobs.scheduler import Scheduler, effective
from service.jobs.settings import ServiceSettings
from service.ledger import Ledger
from trainers.errors import ConfigError, JobError, LedgerError, nearest

log = logging.getLogger("isoflop.jobs")
TURN_EVERY_S = 2.0
MAX_KEY_LENGTH = 200


class JobManager:
    """The service's jobs. Threads may share it."""

    def __init__(self, ledger: Ledger, backend: JobBackend, settings: ServiceSettings) -> None:
        """Prepare; `start()` begins to move jobs on."""
        self._ledger, self._backend, self._settings = ledger, backend, settings
        self._scheduler = Scheduler(
            ledger, backend, settings.queue, driver_environment(ledger, settings)
        )
        self._turn = threading.Lock()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._estimates: dict[str, float] = {}

    def start(self) -> None:
        """Take turns every two seconds, in a thread, until `close()`."""
        self._scheduler.look()  # so that the first job to come knows how many workers there are
        self._thread = threading.Thread(target=self._run, name="jobs", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Take no more turns, and end a cluster of our own. Jobs on another one go on."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join(30.0)
        self._backend.close()

    def tick(self) -> None:
        """Take one turn: reconcile, copy logs, share workers out, start jobs."""
        with self._turn:
            self._scheduler.turn()

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
        _require(may_submit(user), user, "submit jobs")
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

    def resume(self, user: UserRecord, job_id: str, *, accept_changes: bool = False) -> JobRecord:
        """Queue a new job that goes on with the search of one that was stopped or failed.

        Raises:
            JobError: it has not ended, never began, or somebody else works on its search.

        """
        job = self._own(user, job_id, "resume it")
        search_id = self._free_search(job)
        search = self._ledger.search(search_id)
        if search.state == "finished":
            raise JobError(
                f"only what was stopped or failed can be resumed, but `{search_id}` has finished; "
                f"add to it: isoflop {_extension_line(job)}"
            )
        return self._again(user, job, {"resume": search_id, "accept_changes": accept_changes})

    def extend(
        self, user: UserRecord, job_id: str, *, accept_changes: bool = False, **added: Any
    ) -> JobRecord:
        """Queue a new job that adds to a finished search or study.

        Args:
            user: who asks.
            job_id: the job that finished it.
            accept_changes: train on under changed code or versions; it is recorded.
            added: trials, epochs or space of a search; budgets_flops or sizes of a study.

        Raises:
            ConfigError: what is to be added breaks a rule.
            JobError: the search has not finished, or somebody works on it.

        """
        job = self._own(user, job_id, "extend it")
        search = self._ledger.search(self._free_search(job))
        if search.state != "finished":
            raise JobError(
                f"only a finished search can be extended, but `{search.search_id}` is "
                f"{search.state}; finish it first: isoflop resume {job_id}"
            )
        action = {"extend": search.search_id, "accept_changes": accept_changes}
        given = check_addition(self._ledger, search, added, self._settings.allow)
        return self._again(user, job, {**action, **given})

    def stop(self, user: UserRecord, job_id: str, how: str = "") -> JobRecord:
        """Ask a job to finish its epochs, save and end; one that waits ends at once. Idempotent.

        Args:
            user: who asks.
            job_id: the job.
            how: by which way, for the reason, e.g. "on a page".

        Raises:
            JobError: the user may not change it.

        """
        job = self._own(user, job_id, "stop it")
        by = f"by {user.user_id} {how}".strip()
        self._end_waiting(job)
        asked = self._ledger.update_job(
            job_id,
            if_state=("starting", "running"),
            state="stopping",
            stopping_unix_s=time.time(),
            reason=f"stopped {by}",
        )
        job = self._ledger.job(job_id)
        if asked and job.search_id is not None:
            self._ledger.request_stop(job.search_id, by)
        return job

    def cancel(self, user: UserRecord, job_id: str) -> JobRecord:
        """End a job that has not begun.

        Raises:
            JobError: it has begun, or the user may not change it.

        """
        job = self._own(user, job_id, "cancel it")
        self._end_waiting(job)
        job = self._ledger.job(job_id)
        if job.state in STARTED_STATES:
            raise JobError(
                f"only a job that waits can be cancelled, but {job_id} is {job.state}; "
                f"stop it, and it can be resumed: isoflop stop {job_id}"
            )
        return job

    def stop_trial(self, user: UserRecord, search_id: str, trial_id: int) -> None:
        """Ask for one trial to end at its next epoch; the others of its search go on.

        Raises:
            JobError: the user may not change the search, or it does not run.
            MissingError: for an unknown search or trial.

        """
        search = self._ledger.search(search_id)
        own = user.role == "submitter" and search.owner == user.user_id
        _require(own or user.role == "admin", user, f"stop trials of `{search_id}`")
        if search.state != "running":
            raise JobError(
                f"only a trial of a running search can be stopped, but `{search_id}` is "
                f"{search.state}"
            )
        self._ledger.request_trial_stop(search_id, trial_id, user.user_id)

    def log(self, job_id: str, offset: int = 0) -> LogSlice:
        """Return a job's log from a byte on; `next_offset` of the answer continues it exactly."""
        return read_slice(self._ledger, job_id, offset)

    def place_of(self, job_id: str) -> Decision | None:
        """Return a live job's place, as of the last turn; None: it was submitted since then."""
        return self._scheduler.decisions.get(job_id)

    def cluster(self) -> ClusterView:
        """Return the cluster as of the last turn."""
        return self._scheduler.view

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                self.tick()
            except LedgerError as error:
                log.error("the ledger does not answer: %s", error)
            except Exception:  # a bug must not end the service: the next turn may do better
                log.exception("a turn failed")
            self._ended.wait(TURN_EVERY_S)

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

    def _again(self, user: UserRecord, job: JobRecord, action: Mapping[str, Any]) -> JobRecord:
        """Queue a job that goes on where another one ended; it stays its owner's."""
        return self._queue(
            user,
            parse_spec(job.kind, job.spec),
            action,
            priority=job.priority,
            workers=job.workers_wanted,
            owner=job.owner,
            search_id=job.search_id,
            webhook_url=job.webhook_url,
        )

    def _own(self, user: UserRecord, job_id: str, what: str) -> JobRecord:
        job = self._ledger.job(job_id)
        _require(may_change(user, job), user, f"{what}: it belongs to {job.owner}")
        return job

    def _free_search(self, job: JobRecord) -> str:
        """Return a job's search, if there is one and nobody works on it."""
        if job.search_id is None:
            raise JobError(
                f"job {job.job_id} is {job.state} and has no search to go on with; submit it again"
            )
        for other in self._ledger.jobs(search_id=job.search_id, limit=20):
            if not other.has_ended:
                raise JobError(
                    f"one job at a time works on a search, but {other.job_id} is {other.state} "
                    f"with `{job.search_id}`; wait for it, or stop it: isoflop stop {other.job_id}"
                )
        return job.search_id

    def _end_waiting(self, job: JobRecord) -> None:
        self._ledger.update_job(
            job.job_id,
            if_state="queued",
            state="cancelled" if job.attempt == 0 else "stopped",
            reason="it never began" if job.attempt == 0 else "stopped while it waited",
            finished_unix_s=time.time(),
        )

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


def new_job_id() -> str:
    """Return an id that no other service on the same cluster has: `j-` and 80 random bits."""
    return "j-" + base64.b32encode(secrets.token_bytes(10)).decode().lower()


def _require(allowed: bool, user: UserRecord, what: str) -> None:
    if not allowed:
        raise JobError(f"`{user.user_id}` is a {user.role} and may not {what}; ask an admin")


def _extension_line(job: JobRecord) -> str:
    return (
        f"scale extend {job.job_id} --budget FLOP"
        if job.kind == "study"
        else f"extend {job.job_id} --trials N"
    )


def _digest(mapping: Mapping[str, Any]) -> str:
    text = json.dumps(dict(mapping), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
