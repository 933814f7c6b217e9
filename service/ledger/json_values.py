"""Single values out of JSON columns, for SQLite and PostgreSQL alike."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection


def number_of(connection: Connection, column: sa.Column[Any], key: str) -> sa.ColumnElement[Any]:
    """Return the number under `key`; NULL where there is none, or it is not finite, or no number.

    A non-finite number is stored as an object, which neither database could cast.
    """
    if connection.dialect.name == "postgresql":
        inner = column.op("->")(sa.literal(key, sa.Text))
        text = column.op("->>")(sa.literal(key, sa.Text))
        is_number = sa.func.json_typeof(inner) == "number"
        return sa.case((is_number, sa.cast(text, sa.Double)), else_=None)
    path = _sqlite_path(key)
    is_number = sa.func.json_type(column, path).in_(["integer", "real"])
    value = sa.func.json_extract(column, path, type_=sa.Double)
    return sa.case((is_number, value), else_=None)


def text_of(connection: Connection, column: sa.Column[Any], key: str) -> sa.ColumnElement[Any]:
    """Return the value under `key` as text: what it says, without quotes."""
    if connection.dialect.name == "postgresql":
        return column.op("->>")(sa.literal(key, sa.Text))
    kind = sa.func.json_type(column, _sqlite_path(key))
    value = sa.cast(sa.func.json_extract(column, _sqlite_path(key)), sa.Text)
    return sa.case((kind == "true", "true"), (kind == "false", "false"), else_=value)


def _sqlite_path(key: str) -> str:
    return '$."' + key.replace('"', "") + '"'
