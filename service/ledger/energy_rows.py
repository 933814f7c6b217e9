"""Rows behind the energy accounts: spans of searches, windows of hosts, usage of segments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from service.ledger.records import SpanRecord
from service.ledger.schema import energy_windows, spans, usage
from service.ledger.store import Store, missing, record_of, row_of, upsert
from service.messages import Usage


class EnergyStore(Store):
    """Spans, energy windows and usage."""

    def open_span(
        self,
        search_id: str,
        *,
        host: str,
        boot_id: str,
        pid: int,
        started_s: float,
        started_unix_s: float,
    ) -> SpanRecord:
        """Begin the search's next span on a host; it is empty until `extend_span`."""
        with self._writing() as connection:
            self._require_search(connection, search_id)
            last = connection.execute(
                sa.select(sa.func.max(spans.c.span)).where(spans.c.search_id == search_id)
            ).scalar()
            span = SpanRecord(
                search_id=search_id,
                span=0 if last is None else last + 1,
                host=host,
                boot_id=boot_id,
                pid=pid,
                started_s=started_s,
                ended_s=started_s,
                started_unix_s=started_unix_s,
            )
            connection.execute(sa.insert(spans), row_of(span))
        return span

    def extend_span(self, search_id: str, span: int, ended_s: float) -> None:
        """Move the span's end to `ended_s`, never back. Durable when the call returns."""
        of_span = sa.and_(spans.c.search_id == search_id, spans.c.span == span)
        with self._writing() as connection:
            ended = connection.execute(sa.select(spans.c.ended_s).where(of_span)).scalar()
            if ended is None:
                self._require_search(connection, search_id)
                existing = connection.execute(
                    sa.select(spans.c.span).where(spans.c.search_id == search_id)
                ).scalars()
                raise missing("span", span, list(existing))
            if ended_s > ended:
                connection.execute(sa.update(spans).where(of_span).values(ended_s=ended_s))

    def spans(self, search_id: str) -> list[SpanRecord]:
        """Return the search's spans, first one first."""
        with self._reading() as connection:
            self._require_search(connection, search_id)
            rows = connection.execute(
                sa.select(spans).where(spans.c.search_id == search_id).order_by(spans.c.span)
            ).mappings()
            return [record_of(SpanRecord, row) for row in rows]

    def put_windows(self, windows: Sequence[Mapping[str, Any]]) -> None:
        """Add windows, or replace those with the same (host, boot_id, meter_epoch, seq).

        Each has those keys and started_s, ended_s, started_unix_s and a payload (a mapping).
        All or none; sending windows again changes nothing.
        """
        with self._writing() as connection:
            upsert(connection, energy_windows, windows)

    def windows(
        self, host: str, boot_id: str, started_s: float, ended_s: float
    ) -> list[dict[str, Any]]:
        """Return the host's windows that overlap (started_s, ended_s), by time."""
        table = energy_windows
        query = sa.select(table).where(
            table.c.host == host,
            table.c.boot_id == boot_id,
            table.c.ended_s > started_s,
            table.c.started_s < ended_s,
        )
        with self._reading() as connection:
            rows = connection.execute(query.order_by(table.c.started_s, table.c.seq)).mappings()
            return [dict(row) for row in rows]

    def usage(self, search_id: str) -> list[tuple[str, int, Usage]]:
        """Return (segment_id, attempt, usage) of the search, failed attempts included."""
        with self._reading() as connection:
            self._require_search(connection, search_id)
            rows = connection.execute(
                sa.select(usage)
                .where(usage.c.search_id == search_id)
                .order_by(usage.c.started_s, *usage.primary_key.columns)
            ).mappings()
            return [
                (
                    row["segment_id"],
                    row["attempt"],
                    record_of(Usage, row, trial_busy_s=_by_trial(row["trial_busy_s"])),
                )
                for row in rows
            ]


def _by_trial(stored: Mapping[str, float]) -> dict[int, float]:
    return {int(trial_id): seconds for trial_id, seconds in stored.items()}  # JSON keys are text
