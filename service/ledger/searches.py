"""Searches, their rounds, and what happened along the way."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from service.ledger.records import EventRecord, RoundRecord, SearchRecord
from service.ledger.schema import events, rounds, searches, spans
from service.ledger.service_schema import jobs
from service.ledger.store import Store, check_columns, insert_if_new, record_of, row_of, upsert
from trainers.errors import LedgerError

_MAX_NAME_LENGTH = 60


def file_name(name: str) -> str:
    """Return `name` as a search id may hold it: letters, digits, dot, dash and underscore."""
    clean = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._")
    return clean[:_MAX_NAME_LENGTH].rstrip("-._") or "search"


class SearchStore(Store):
    """Searches, rounds and events."""

    def create_search(
        self,
        *,
        name: str,
        kind: str = "search",
        project: str = "",
        spec: Mapping[str, Any],
        seed: int,
        mode: str = "deterministic",
        versions: Mapping[str, str] | None = None,
        code_fingerprint: str = "",
        out_dir: str | None = None,
        owner: str | None = None,
        of_job: tuple[str, int] | None = None,
    ) -> SearchRecord:
        """Add a search under the first number that is free for its name, and return it.

        Durable when the call returns; two processes that create `demo` get `demo-1` and `demo-2`.
        With `of_job` (a job's id and attempt) the job is told its search in the same transaction,
        so that a driver that is killed in between does not leave a search that nobody knows.

        Raises:
            LedgerError: the job has a search already, or another attempt of it has begun.

        """
        row: dict[str, Any] = {
            "name": file_name(name),
            "kind": kind,
            "project": project,
            "spec": spec,
            "seed": seed,
            "mode": mode,
            "state": "running",
            "reason": "",
            "created_unix_s": time.time(),
            "versions": versions or {},
            "code_fingerprint": code_fingerprint,
            "test_looks": 0,
            "stop_requested": False,
            "out_dir": out_dir,
            "owner": owner,
        }
        search_id = None
        while search_id is None:  # PostgreSQL: another process may take the number just now
            search_id = self._insert_search(row, of_job)
        return self.search(search_id)

    def _insert_search(self, row: Mapping[str, Any], of_job: tuple[str, int] | None) -> str | None:
        with self._writing() as connection:
            taken = set(
                connection.execute(
                    sa.select(searches.c.number).where(searches.c.name == row["name"])
                ).scalars()
            )
            number = next(n for n in range(1, len(taken) + 2) if n not in taken)
            search_id = f"{row['name']}-{number}"
            numbered = {**row, "number": number, "search_id": search_id}
            if not insert_if_new(connection, searches, numbered):
                return None
            if of_job is not None:
                _tell_job(connection, of_job, search_id)
            return search_id

    def search(self, search_id: str) -> SearchRecord:
        """Return one search.

        Raises:
            LedgerError: if there is none of that id; the message names those there are.

        """
        with self._reading() as connection:
            row = _select_searches(connection, searches.c.search_id == search_id)
            if not row:
                self._require_search(connection, search_id)
        return record_of(SearchRecord, row[0])

    def searches(self) -> list[SearchRecord]:
        """Return all searches, oldest first."""
        with self._reading() as connection:
            rows = _select_searches(connection, sa.true())
        return [record_of(SearchRecord, row) for row in rows]

    def update_search(self, search_id: str, **fields: Any) -> None:
        """Change fields of a SearchRecord. Durable when the call returns.

        Raises:
            LedgerError: for an unknown search or field.

        """
        check_columns(searches, fields, protected=("search_id", "name", "number"))
        with self._writing() as connection:
            self._require_search(connection, search_id)
            if fields:
                connection.execute(_of(searches, search_id).values(**fields))

    def request_stop(self, search_id: str, by: str = "on request") -> None:
        """Ask whoever runs the search to stop it after the present epoch.

        `by` says who asked, and how, as the reason will: "by ada", "with `isoflop stop`".
        """
        with self._writing() as connection:
            self._require_search(connection, search_id)
            connection.execute(_of(searches, search_id).values(stop_requested=True))
            insert_event(connection, search_id, "stop_requested", {"by": by}, None)

    def clear_stop(self, search_id: str) -> None:
        """Forget a request to stop, as `resume` does."""
        self.update_search(search_id, stop_requested=False)

    def stop_requested(self, search_id: str) -> bool:
        """Say whether somebody, in any process, asked for the search to stop. One indexed read."""
        with self._reading() as connection:
            asked = connection.execute(
                sa.select(searches.c.stop_requested).where(searches.c.search_id == search_id)
            ).scalar()
            if asked is None:
                self._require_search(connection, search_id)
        return bool(asked)

    def count_test_look(self, search_id: str, why: str) -> int:
        """Record that the test rows were looked at; return how often they have been by now."""
        with self._writing() as connection:
            self._require_search(connection, search_id)
            looks: int = connection.execute(
                _of(searches, search_id)
                .values(test_looks=searches.c.test_looks + 1)
                .returning(searches.c.test_looks)
            ).scalar_one()
            insert_event(connection, search_id, "test_look", {"why": why, "look": looks}, None)
        return looks

    def put_round(self, search_id: str, record: RoundRecord) -> None:
        """Add a round, or replace the one of the same number. Durable when the call returns."""
        with self._writing() as connection:
            self._require_search(connection, search_id)
            upsert(connection, rounds, [row_of(record, search_id=search_id)])

    def rounds(self, search_id: str) -> list[RoundRecord]:
        """Return the search's rounds by number: the recipe's checks (-1) come first."""
        with self._reading() as connection:
            self._require_search(connection, search_id)
            rows = connection.execute(
                sa.select(rounds).where(rounds.c.search_id == search_id).order_by(rounds.c.round)
            ).mappings()
            return [record_of(RoundRecord, row) for row in rows]

    def add_event(
        self,
        search_id: str,
        kind: str,
        payload: Mapping[str, Any] | None = None,
        *,
        unix_s: float | None = None,
    ) -> None:
        """Append an event; `unix_s` is now where not given. Durable when the call returns."""
        with self._writing() as connection:
            self._require_search(connection, search_id)
            insert_event(connection, search_id, kind, payload or {}, unix_s)

    def events(self, search_id: str, kind: str | None = None) -> list[EventRecord]:
        """Return the search's events, of one kind or all, in the order they were added."""
        query = sa.select(events).where(events.c.search_id == search_id)
        if kind is not None:
            query = query.where(events.c.kind == kind)
        with self._reading() as connection:
            self._require_search(connection, search_id)
            rows = connection.execute(query.order_by(events.c.event_id)).mappings()
            return [record_of(EventRecord, row) for row in rows]


def _tell_job(connection: Connection, of_job: tuple[str, int], search_id: str) -> None:
    job_id, attempt = of_job
    told = connection.execute(
        sa.update(jobs)
        .where(jobs.c.job_id == job_id, jobs.c.attempt == attempt, jobs.c.search_id.is_(None))
        .values(search_id=search_id)
    )
    if not told.rowcount:
        raise LedgerError(
            f"a search is made once for each job, but attempt {attempt} of job {job_id} is not "
            "the one that may make it; another driver has taken over, so this one must end"
        )


def _of(table: sa.Table, search_id: str) -> sa.Update:
    return sa.update(table).where(table.c.search_id == search_id)


def _select_searches(connection: Connection, condition: sa.ColumnElement[bool]) -> list[RowMapping]:
    seconds = (
        sa.select(sa.func.coalesce(sa.func.sum(spans.c.ended_s - spans.c.started_s), 0.0))
        .where(spans.c.search_id == searches.c.search_id)
        .scalar_subquery()
        .label("seconds")
    )
    query = sa.select(searches, seconds).where(condition)
    order = (searches.c.created_unix_s, searches.c.name, searches.c.number)
    return list(connection.execute(query.order_by(*order)).mappings())


def insert_event(
    connection: Connection,
    search_id: str,
    kind: str,
    payload: Mapping[str, Any],
    unix_s: float | None,
) -> None:
    """Add an event to an open transaction; `unix_s` is now where not given."""
    row = {
        "search_id": search_id,
        "unix_s": time.time() if unix_s is None else unix_s,
        "kind": kind,
        "payload": payload,
    }
    connection.execute(sa.insert(events), row)
