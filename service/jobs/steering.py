"""What may be done with jobs that are there: stop, cancel, resume, extend; and stop one trial."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from service.jobs.additions import check_addition
from service.jobs.desk import JobDesk, require
from service.jobs.kinds import parse_spec
from service.jobs.permissions import may_change
from service.jobs.records import STARTED_STATES, JobRecord, UserRecord
from trainers.errors import JobError


class Steering(JobDesk):
    """Steers jobs on behalf of their owners and of admins."""

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
        require(own or user.role == "admin", user, f"stop trials of `{search_id}`")
        if search.state != "running":
            raise JobError(
                f"only a trial of a running search can be stopped, but `{search_id}` is "
                f"{search.state}"
            )
        self._ledger.request_trial_stop(search_id, trial_id, user.user_id)

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
        require(may_change(user, job), user, f"{what}: it belongs to {job.owner}")
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


def _extension_line(job: JobRecord) -> str:
    return (
        f"scale extend {job.job_id} --budget FLOP"
        if job.kind == "study"
        else f"extend {job.job_id} --trials N"
    )
