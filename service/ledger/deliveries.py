"""Deliveries of webhooks: due, delivered, or given up."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from service.jobs.records import LIVE_STATES, JobRecord
from service.ledger.service_schema import deliveries, jobs
from service.ledger.store import Store, insert_if_new, record_of


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """One message to one job's webhook."""

    job_id: str
    event: str
    noted_unix_s: float
    tries: int
    next_unix_s: float | None
    """When to try next; None: it was delivered, or given up."""
    delivered_unix_s: float | None
    error: str


class DeliveryStore(Store):
    """Webhooks' messages."""

    def jobs_with_webhook(self, since_unix_s: float) -> list[JobRecord]:
        """Return jobs with a webhook that have not ended, or ended since a moment."""
        query = sa.select(jobs).where(
            jobs.c.webhook_url.is_not(None),
            jobs.c.state.in_(LIVE_STATES) | (jobs.c.finished_unix_s >= since_unix_s),
        )
        with self._reading() as connection:
            return [record_of(JobRecord, row) for row in connection.execute(query).mappings()]

    def note_delivery(self, job_id: str, event: str, unix_s: float) -> bool:
        """Make a message due, once for each job and event; say whether it is new."""
        row = {
            "job_id": job_id,
            "event": event,
            "noted_unix_s": unix_s,
            "tries": 0,
            "next_unix_s": unix_s,
            "delivered_unix_s": None,
            "error": "",
        }
        with self._writing() as connection:
            return insert_if_new(connection, deliveries, row)

    def due_deliveries(self, now_unix_s: float) -> list[Delivery]:
        """Return the messages to be sent now."""
        query = sa.select(deliveries).where(deliveries.c.next_unix_s <= now_unix_s)
        with self._reading() as connection:
            rows = connection.execute(query.order_by(deliveries.c.next_unix_s)).mappings()
            return [record_of(Delivery, row) for row in rows]

    def delivered(self, delivery: Delivery, unix_s: float) -> None:
        """Record that a message arrived."""
        self._change(delivery, next_unix_s=None, delivered_unix_s=unix_s, error="")

    def delivery_failed(self, delivery: Delivery, error: str, next_unix_s: float | None) -> None:
        """Record a failed try, and when to try again; None: never."""
        self._change(delivery, next_unix_s=next_unix_s, error=error[:500])

    def deliveries(self, job_id: str) -> list[Delivery]:
        """Return a job's messages."""
        query = sa.select(deliveries).where(deliveries.c.job_id == job_id)
        with self._reading() as connection:
            rows = connection.execute(query.order_by(deliveries.c.noted_unix_s)).mappings()
            return [record_of(Delivery, row) for row in rows]

    def _change(self, delivery: Delivery, **changes: object) -> None:
        with self._writing() as connection:
            connection.execute(
                sa.update(deliveries)
                .where(deliveries.c.job_id == delivery.job_id, deliveries.c.event == delivery.event)
                .values(tries=delivery.tries + 1, **changes)
            )
