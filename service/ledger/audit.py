"""What users did, for whoever has to answer for it. Rows are only ever added."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from service.jobs.records import AuditRecord
from service.ledger.service_schema import audit
from service.ledger.store import Store, record_of


class AuditStore(Store):
    """Audit events."""

    def audit(
        self,
        user_id: str,
        action: str,
        target: str = "",
        *,
        outcome: str = "done",
        address: str = "",
        detail: Mapping[str, Any] | None = None,
        unix_s: float | None = None,
    ) -> None:
        """Write down who did what to what, from which address, and what came of it.

        Secrets never belong into `detail`.
        """
        row = {
            "unix_s": time.time() if unix_s is None else unix_s,
            "user_id": user_id,
            "action": action,
            "target": target,
            "outcome": outcome,
            "address": address,
            "detail": detail or {},
        }
        with self._writing() as connection:
            connection.execute(sa.insert(audit), row)

    def audit_events(
        self,
        *,
        user_id: str | None = None,
        action: str | None = None,
        limit: int = 50,
        before: int | None = None,
    ) -> list[AuditRecord]:
        """Return events, newest first.

        Args:
            user_id: only this user's.
            action: only of this kind.
            limit: at most so many.
            before: only events with a smaller `event_id`: the last one of the page before.

        """
        query = sa.select(audit).order_by(audit.c.event_id.desc()).limit(limit)
        for column, value in ((audit.c.user_id, user_id), (audit.c.action, action)):
            if value is not None:
                query = query.where(column == value)
        if before is not None:
            query = query.where(audit.c.event_id < before)
        with self._reading() as connection:
            return [record_of(AuditRecord, row) for row in connection.execute(query).mappings()]
