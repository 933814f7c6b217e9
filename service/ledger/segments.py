"""Segments, their attempts, and the plans by which packs are run."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from service.ledger.records import SegmentRecord
from service.ledger.schema import plans, segments
from service.ledger.store import (
    Store,
    check_columns,
    insert_if_new,
    insert_new,
    missing,
    record_of,
    row_of,
)
from trainers.errors import LedgerError
from trainers.trial import ExecutionPlan


class SegmentStore(Store):
    """The search's segments and execution plans."""

    def add_segments(self, search_id: str, records: Sequence[SegmentRecord]) -> None:
        """Add the segments that are not there yet, all or none. Durable when the call returns."""
        with self._writing() as connection:
            self._require_search(connection, search_id)
            _insert_segments(connection, search_id, records)

    def segments(
        self,
        search_id: str,
        *,
        round: int | None = None,
        batch: int | None = None,
        rung: int | None = None,
        states: Collection[str] | None = None,
    ) -> list[SegmentRecord]:
        """Return the search's segments in the order they were added."""
        query = sa.select(segments).where(segments.c.search_id == search_id)
        for name, value in (("round", round), ("batch", batch), ("rung", rung)):
            if value is not None:
                query = query.where(segments.c[name] == value)
        if states is not None:
            query = query.where(segments.c.state.in_(list(states)))
        with self._reading() as connection:
            self._require_search(connection, search_id)
            rows = connection.execute(query.order_by(segments.c.position)).mappings()
            return [
                record_of(SegmentRecord, row, trial_ids=tuple(row["trial_ids"])) for row in rows
            ]

    def begin_attempt(self, search_id: str, segment_id: str) -> int:
        """Start the segment's next attempt and return its number, the new fencing token.

        From the moment this returns (durably), messages of earlier attempts are ignored.

        Raises:
            LedgerError: if there is no such segment, or it was split or cancelled.

        """
        with self._writing() as connection:
            attempt: int | None = connection.execute(
                _of(search_id, segment_id)
                .where(segments.c.state.not_in(("split", "cancelled")))
                .values(attempt=segments.c.attempt + 1, state="running", error="", host="")
                .returning(segments.c.attempt)
            ).scalar()
            if attempt is None:
                state = self._segment_state(connection, search_id, segment_id)
                raise LedgerError(
                    f"segment {segment_id!r} of {search_id!r} is {state} and cannot be begun; "
                    "begin the segments that took its place"
                )
        return attempt

    def update_segment(self, search_id: str, segment_id: str, **fields: Any) -> None:
        """Change fields of a segment; its attempt only ever changes by `begin_attempt`.

        Raises:
            LedgerError: for an unknown segment or field.

        """
        check_columns(
            segments, fields, protected=("search_id", "segment_id", "position", "attempt")
        )
        with self._writing() as connection:
            self._segment_state(connection, search_id, segment_id)
            if fields:
                connection.execute(_of(search_id, segment_id).values(**fields))

    def split_segment(
        self, search_id: str, segment_id: str, children: Sequence[SegmentRecord]
    ) -> None:
        """Put `children` in a segment's place, all or none; splitting again changes nothing.

        Each child starts at its parent's attempt, so that its first own attempt is a higher
        fencing token for the rows of the trials they share.
        """
        with self._writing() as connection:
            self._segment_state(connection, search_id, segment_id)
            attempt = connection.execute(
                sa.select(segments.c.attempt).where(
                    segments.c.search_id == search_id, segments.c.segment_id == segment_id
                )
            ).scalar_one()
            connection.execute(_of(search_id, segment_id).values(state="split"))
            _insert_segments(connection, search_id, children, attempt=attempt)

    def put_plan(self, search_id: str, plan: ExecutionPlan) -> ExecutionPlan:
        """Keep a signature's execution plan if it is the first; return the one that is kept."""
        with self._writing() as connection:
            self._require_search(connection, search_id)
            insert_plan(connection, search_id, plan)
            kept = connection.execute(
                sa.select(plans.c.plan).where(
                    plans.c.search_id == search_id, plans.c.signature == plan.signature
                )
            ).scalar_one()
        return ExecutionPlan(**kept)

    def plans(self, search_id: str) -> dict[str, ExecutionPlan]:
        """Return the search's execution plans by signature."""
        with self._reading() as connection:
            self._require_search(connection, search_id)
            rows = connection.execute(
                sa.select(plans.c.signature, plans.c.plan)
                .where(plans.c.search_id == search_id)
                .order_by(plans.c.signature)
            )
            return {signature: ExecutionPlan(**plan) for signature, plan in rows}

    def _segment_state(self, connection: Connection, search_id: str, segment_id: str) -> str:
        state: str | None = connection.execute(
            sa.select(segments.c.state).where(
                segments.c.search_id == search_id, segments.c.segment_id == segment_id
            )
        ).scalar()
        if state is None:
            self._require_search(connection, search_id)
            existing = connection.execute(
                sa.select(segments.c.segment_id)
                .where(segments.c.search_id == search_id)
                .order_by(segments.c.position)
            ).scalars()
            raise missing("segment", segment_id, list(existing))
        return state


def insert_plan(connection: Connection, search_id: str, plan: ExecutionPlan) -> bool:
    """Insert a plan unless its signature has one; say whether it was inserted."""
    row = {"search_id": search_id, "signature": plan.signature, "plan": asdict(plan)}
    return insert_if_new(connection, plans, row)


def _of(search_id: str, segment_id: str) -> sa.Update:
    return sa.update(segments).where(
        segments.c.search_id == search_id, segments.c.segment_id == segment_id
    )


def _insert_segments(
    connection: Connection, search_id: str, records: Sequence[SegmentRecord], **fixed: Any
) -> None:
    last = connection.execute(
        sa.select(sa.func.max(segments.c.position)).where(segments.c.search_id == search_id)
    ).scalar()
    first = 0 if last is None else last + 1
    rows = [
        {**row_of(record), **fixed, "search_id": search_id, "position": first + i}
        for i, record in enumerate(records)
    ]
    insert_new(connection, segments, rows)
