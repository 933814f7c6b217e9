"""Work that is added to a search after its end: written down as it begins, or not at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from service.ledger.schema import searches
from service.ledger.searches import insert_event
from service.ledger.service_schema import jobs
from service.ledger.store import Store, check_columns
from trainers.errors import LedgerError


class ReopeningStore(Store):
    """Extensions and predictions."""

    def reopen_search(
        self,
        search_id: str,
        kind: str,
        payloads: Sequence[Mapping[str, Any]],
        *,
        if_state: str,
        of_job: tuple[str, int] | None = None,
        **fields: Any,
    ) -> None:
        """Record what is added to a search, and that the search runs again, as one transaction.

        Whoever is killed afterwards leaves a running search that nobody works on, and resuming it
        does what was recorded; whoever is killed before has added nothing. Durable when the call
        returns.

        Args:
            search_id: of a search that nobody works on.
            kind: of the events that hold what is added.
            payloads: one event each.
            if_state: the state that the search was seen in: of two that add at once, one is
                refused.
            of_job: id and attempt of the service's job that adds; its id is kept with the events.
            fields: further fields of the SearchRecord to change.

        Raises:
            LedgerError: somebody else changed the search's state, or took over the job.

        """
        check_columns(searches, fields, protected=("search_id", "name", "number", "state"))
        running = {"state": "running", "reason": "", "finished_unix_s": None}
        by = {} if of_job is None else {"job_id": of_job[0]}
        with self._writing() as connection:
            self._require_search(connection, search_id)
            if of_job is not None and not _has_attempt(connection, *of_job):
                raise LedgerError(
                    f"`{search_id}` is extended by the job's latest attempt, but another driver "
                    f"has taken over from attempt {of_job[1]} of job {of_job[0]}; this one must end"
                )
            moved = connection.execute(
                sa.update(searches)
                .where(searches.c.search_id == search_id, searches.c.state == if_state)
                .values(**running, **fields)
            )
            if not moved.rowcount:
                raise LedgerError(
                    f"`{search_id}` was {if_state} a moment ago, but somebody else works on it "
                    f"now; look at it with: isoflop show {search_id}"
                )
            for payload in payloads:
                insert_event(connection, search_id, kind, {**payload, **by}, None)


def _has_attempt(connection: sa.Connection, job_id: str, attempt: int) -> bool:
    found = sa.select(jobs.c.job_id).where(jobs.c.job_id == job_id, jobs.c.attempt == attempt)
    return connection.execute(found).first() is not None
