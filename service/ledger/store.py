"""What every part of the ledger stands on: transactions, upserts and records."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from functools import cache
from typing import Any, ClassVar, Protocol, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, Connection, Engine, RowMapping

from service.ledger.engine import explained
from service.ledger.schema import searches
from trainers.errors import LedgerError, MissingError

_CHUNK = 5_000  # ids per IN (...): well under what both databases take as parameters


class _Record(Protocol):
    __dataclass_fields__: ClassVar[dict[str, Any]]


RecordT = TypeVar("RecordT", bound=_Record)


class Store:
    """A database with one writer at a time in this process, and any number of readers.

    Threads may share it. A write is one transaction: durable when the call returns, and never
    there in part, whatever is killed when.
    """

    def __init__(self, engine: Engine, url: URL) -> None:
        self._engine = engine
        self._write_engine = engine.execution_options(writes=True)
        self._url = url
        self._writer = threading.RLock()

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        """Yield a connection that sees one moment of the database."""
        with explained(self._url), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        """Yield a connection whose transaction is committed at the end, or undone by an error."""
        with self._writer, explained(self._url), self._write_engine.begin() as connection:
            yield connection

    def _require_search(self, connection: Connection, search_id: str) -> None:
        if not connection.execute(
            sa.select(searches.c.search_id).where(searches.c.search_id == search_id)
        ).first():
            found = connection.execute(
                sa.select(searches.c.search_id).order_by(searches.c.created_unix_s)
            ).scalars()
            raise missing("search", search_id, list(found))


def missing(kind: str, key: object, existing: Sequence[object]) -> MissingError:
    """Return the error for an id that is not there, naming those that are."""
    names = ", ".join(str(name) for name in existing[:20])
    more = f" and {len(existing) - 20} more" if len(existing) > 20 else ""
    known = f"it has {names}{more}" if existing else f"it has no {kind} yet"
    return MissingError(f"the ledger has no {kind} {str(key)!r}; {known}")


def insert_new(connection: Connection, table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert the rows whose key is not there yet."""
    if rows:
        statement = _dialect_insert(connection, table).on_conflict_do_nothing()
        connection.execute(statement, list(rows))


def insert_if_new(connection: Connection, table: sa.Table, row: Mapping[str, Any]) -> bool:
    """Insert one row unless its key is there already; say whether it was inserted."""
    first_key = next(iter(table.primary_key.columns))
    statement = _dialect_insert(connection, table).on_conflict_do_nothing().returning(first_key)
    return connection.execute(statement, dict(row)).first() is not None


def upsert(
    connection: Connection,
    table: sa.Table,
    rows: Sequence[Mapping[str, Any]],
    *,
    fenced: bool = False,
) -> None:
    """Insert rows, or replace those with the same key.

    With `fenced`, a row of an older attempt never replaces one of a newer attempt.
    """
    if not rows:
        return
    statement = _dialect_insert(connection, table)
    keys = list(table.primary_key.columns)
    replaced = {
        column.name: statement.excluded[column.name]
        for column in table.columns
        if column.name in rows[0] and not column.primary_key
    }
    guard = statement.excluded.attempt >= table.c.attempt if fenced else None
    connection.execute(
        statement.on_conflict_do_update(index_elements=keys, set_=replaced, where=guard),
        list(rows),
    )


def _dialect_insert(connection: Connection, table: sa.Table) -> Any:
    return (postgresql if connection.dialect.name == "postgresql" else sqlite).insert(table)


def update_by_key(
    connection: Connection,
    table: sa.Table,
    key: Mapping[str, Any],
    changes: Sequence[tuple[object, Mapping[str, Any]]],
    by: str,
) -> None:
    """Update many rows of one search, each found by its value of column `by`.

    Rows that change the same columns go in one executemany.
    """
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for value, columns in changes:
        check_columns(table, columns, protected=(*key, by))
        if columns:
            row = {f"new_{name}": new for name, new in columns.items()}
            groups.setdefault(tuple(columns), []).append({**row, "by_key": value})
    for names, rows in groups.items():
        statement = (
            sa.update(table)
            .where(*(table.c[name] == value for name, value in key.items()))
            .where(table.c[by] == sa.bindparam("by_key", type_=table.c[by].type))
            .values({n: sa.bindparam(f"new_{n}", type_=table.c[n].type) for n in names})
        )
        connection.execute(statement, rows)


def check_columns(table: sa.Table, names: Iterable[str], *, protected: Iterable[str] = ()) -> None:
    """Raise a LedgerError for a name that is no column of the table, or part of its key."""
    valid = set(table.columns.keys()) - set(protected)
    for name in names:
        if name not in valid:
            raise LedgerError(
                f"a row of `{table.name}` has no field {name!r} to change; "
                f"its fields are {', '.join(sorted(valid))}"
            )


def row_of(record: _Record, **key: Any) -> dict[str, Any]:
    """Turn a record into a row, with the key columns that the record itself does not carry."""
    return {**{name: getattr(record, name) for name in _field_names(type(record))}, **key}


def record_of(kind: type[RecordT], row: RowMapping, **given: Any) -> RecordT:
    """Turn a row into a record; `given` supplies fields that are no columns, or not as stored."""
    stored = {name: row[name] for name in _field_names(kind) if name not in given}
    return kind(**stored, **given)


@cache
def _field_names(kind: type[_Record]) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))


def chunks(ids: Iterable[int] | None) -> list[list[int] | None]:
    """Split ids into lists short enough for IN (...), sorted; [None] for "all of them"."""
    if ids is None:
        return [None]
    ordered = sorted(set(ids))
    return [ordered[i : i + _CHUNK] for i in range(0, len(ordered), _CHUNK)]
