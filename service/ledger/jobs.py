"""Jobs of the service: queued, changed under conditions, listed page by page."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from service.jobs.records import LIVE_STATES, JobRecord, JobState, TrialStop, UserRecord
from service.ledger.access import readable
from service.ledger.codec import StoredMapping
from service.ledger.schema import searches, spans, trials
from service.ledger.service_schema import jobs, trial_stops
from service.ledger.store import (
    Store,
    check_columns,
    insert_if_new,
    missing,
    record_of,
    row_of,
)


@dataclass(frozen=True, kw_only=True)
class JobOrders:
    """What a driver is to do now."""

    attempt: int
    """If it is not the driver's own, another one has taken over."""
    state: JobState
    workers_allowed: int
    reason: str = ""
    """Of a job that is to stop: who asked for it."""


class JobStore(Store):
    """Jobs, and stops of single trials."""

    def create_job(self, record: JobRecord) -> JobRecord:
        """Add a job and return it; with an idempotency key that its owner has used, the first one.

        Durable when the call returns. Two calls at once with one key make one job.
        """
        with self._writing() as connection:
            if insert_if_new(connection, jobs, row_of(record)):
                return record
            same_key = (jobs.c.owner == record.owner) & (
                jobs.c.idempotency_key == record.idempotency_key
            )
            found = _select(connection, (jobs.c.job_id == record.job_id) | same_key)
        return found[0]

    def job(self, job_id: str) -> JobRecord:
        """Return one job.

        Raises:
            LedgerError: if there is none of that id; the message names the latest ones.

        """
        with self._reading() as connection:
            found = _select(connection, jobs.c.job_id == job_id)
            if not found:
                latest = sa.select(jobs.c.job_id).order_by(jobs.c.created_unix_s.desc()).limit(20)
                raise missing("job", job_id, list(connection.execute(latest).scalars()))
        return found[0]

    def jobs(
        self,
        *,
        owner: str | None = None,
        states: Collection[str] | None = None,
        project: str | None = None,
        search_id: str | None = None,
        readable_by: UserRecord | None = None,
        limit: int = 50,
        before: str | None = None,
    ) -> list[JobRecord]:
        """Return jobs, newest first; every condition that is given must hold.

        Args:
            owner: whose.
            states: in one of these states.
            project: of exactly this project.
            search_id: that worked on this search.
            readable_by: that this user may read; None: all.
            limit: at most so many.
            before: the id of the last job of the page before.

        """
        with self._reading() as connection:
            conditions = [readable(connection, jobs, readable_by)]
            for column, value in (
                (jobs.c.owner, owner),
                (jobs.c.project, project),
                (jobs.c.search_id, search_id),
            ):
                if value is not None:
                    conditions.append(column == value)
            if states is not None:
                conditions.append(jobs.c.state.in_(list(states)))
            if before is not None:
                conditions.append(_earlier(before))
            return _select(connection, sa.and_(*conditions), limit=limit)

    def live_jobs(self) -> list[JobRecord]:
        """Return all jobs that have not ended, oldest first."""
        with self._reading() as connection:
            return _select(connection, jobs.c.state.in_(LIVE_STATES))[::-1]

    def jobs_with_open_log(self) -> list[JobRecord]:
        """Return the jobs of whose log the cluster may have more than the ledger."""
        with self._reading() as connection:
            return _select(connection, jobs.c.log_open.is_(True))

    def known_jobs(self, job_ids: Iterable[str]) -> dict[str, JobRecord]:
        """Return those of the jobs that the ledger has, by id."""
        with self._reading() as connection:
            return {job.job_id: job for job in _select(connection, jobs.c.job_id.in_([*job_ids]))}

    def update_job(
        self,
        job_id: str,
        *,
        if_state: str | Collection[str] | None = None,
        if_attempt: int | None = None,
        **changes: Any,
    ) -> bool:
        """Change fields of a job, if it is still in that state and attempt; say whether it was.

        The condition and the change are one statement, so that of two that want to move a job on
        only one does. Durable when the call returns.

        Raises:
            LedgerError: for an unknown field.

        """
        check_columns(jobs, changes, protected=("job_id", "owner", "created_unix_s"))
        statement = sa.update(jobs).where(jobs.c.job_id == job_id).values(**changes)
        if if_state is not None:
            states = [if_state] if isinstance(if_state, str) else list(if_state)
            statement = statement.where(jobs.c.state.in_(states))
        if if_attempt is not None:
            statement = statement.where(jobs.c.attempt == if_attempt)
        with self._writing() as connection:
            return bool(connection.execute(statement).rowcount)

    def job_orders(self, job_id: str) -> JobOrders:
        """Return what the job's driver is to do now. One read by key: cheap enough to ask often."""
        query = sa.select(jobs.c.attempt, jobs.c.state, jobs.c.workers_allowed, jobs.c.reason)
        with self._reading() as connection:
            row = connection.execute(query.where(jobs.c.job_id == job_id)).mappings().first()
        if row is None:
            raise missing("job", job_id, [])
        return record_of(JobOrders, row)

    def searches_worked_on(self, owner: str, since_unix_s: float) -> list[str]:
        """Return the ids of an owner's searches that anybody worked on since a moment."""
        ended_unix_s = spans.c.started_unix_s + spans.c.ended_s - spans.c.started_s
        query = (
            sa.select(searches.c.search_id)
            .join(spans, spans.c.search_id == searches.c.search_id)
            .where(searches.c.owner == owner, ended_unix_s >= since_unix_s)
            .distinct()
            .order_by(searches.c.search_id)
        )
        with self._reading() as connection:
            return list(connection.execute(query).scalars())

    def request_trial_stop(self, search_id: str, trial_id: int, requested_by: str) -> None:
        """Ask whoever runs the search to stop one trial at its next border; once is enough.

        Raises:
            LedgerError: for an unknown search or trial.

        """
        stop = TrialStop(
            search_id=search_id,
            trial_id=trial_id,
            requested_by=requested_by,
            unix_s=time.time(),
        )
        with self._writing() as connection:
            self._require_search(connection, search_id)
            of_search = sa.select(trials.c.trial_id).where(trials.c.search_id == search_id)
            if not connection.execute(of_search.where(trials.c.trial_id == trial_id)).first():
                first = connection.execute(of_search.order_by(trials.c.trial_id).limit(21))
                raise missing("trial", trial_id, list(first.scalars()))
            insert_if_new(connection, trial_stops, row_of(stop))

    def trial_stops(self, search_id: str) -> list[TrialStop]:
        """Return the requests to stop single trials of a search, by trial."""
        query = sa.select(trial_stops).where(trial_stops.c.search_id == search_id)
        with self._reading() as connection:
            rows = connection.execute(query.order_by(trial_stops.c.trial_id)).mappings()
            return [record_of(TrialStop, row) for row in rows]


def _earlier(job_id: str) -> sa.ColumnElement[bool]:
    """Return the condition that a job was made before another one."""
    made = sa.select(jobs.c.created_unix_s).where(jobs.c.job_id == job_id).scalar_subquery()
    return (jobs.c.created_unix_s < made) | (
        (jobs.c.created_unix_s == made) & (jobs.c.job_id < job_id)
    )


def _select(
    connection: Connection, condition: sa.ColumnElement[bool], limit: int | None = None
) -> list[JobRecord]:
    """Return jobs, newest first, whose specs are read only when somebody looks into them."""
    columns = [column for column in jobs.columns if column is not jobs.c.spec]
    spec = sa.cast(jobs.c.spec, sa.Text).label("spec_text")
    query = (
        sa.select(*columns, spec)
        .where(condition)
        .order_by(jobs.c.created_unix_s.desc(), jobs.c.job_id.desc())
        .limit(limit)
    )
    return [_job_of(row) for row in connection.execute(query).mappings()]


def _job_of(row: RowMapping) -> JobRecord:
    return record_of(JobRecord, row, spec=StoredMapping(row["spec_text"]))
