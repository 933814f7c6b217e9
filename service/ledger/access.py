"""Which rows a user may read, as a condition of a query, so that pages of a list stay full."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from service.jobs.records import UserRecord


def readable(
    connection: Connection, table: sa.Table, user: UserRecord | None
) -> sa.ColumnElement[bool]:
    """Return the condition that a row of a table with owner and project may be read by a user.

    It says the same as `service.jobs.permissions.may_read`, which a test compares it with. None:
    everything, for the service itself.
    """
    if user is None or user.role == "admin":
        return sa.true()
    patterns = [_matches(connection, table.c.project, pattern) for pattern in user.projects]
    return sa.or_(table.c.owner == user.user_id, *patterns)


def _matches(connection: Connection, column: sa.Column[Any], pattern: str) -> Any:
    """Compare case-sensitively, as file names are; `*` reaches over slashes."""
    if connection.dialect.name == "sqlite":
        return column.op("GLOB")(pattern)
    escaped = pattern.replace("!", "!!").replace("%", "!%").replace("_", "!_")
    return column.like(escaped.replace("*", "%").replace("?", "_"), escape="!")
