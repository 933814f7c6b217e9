"""Connecting to SQLite or PostgreSQL, and saying what is wrong when that fails."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import URL, Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from service.ledger.codec import dumps, loads
from trainers.errors import LedgerError

DEFAULT_PATH = "isoflop.db"
BUSY_TIMEOUT_S = 60.0
"""How long a writer waits for another process's transaction; ours take milliseconds."""


def parse_url(url_or_path: str | Path | None) -> URL:
    """Read a database URL or the path of an SQLite file; None: `./isoflop.db`.

    Raises:
        LedgerError: for a database that is neither SQLite nor PostgreSQL, or lives in memory.

    """
    text = str(url_or_path) if url_or_path is not None else DEFAULT_PATH
    if "://" not in text:
        return URL.create("sqlite", database=text)
    try:
        url = sa.make_url(text)
    except SQLAlchemyError:
        raise LedgerError(
            "a ledger is named by a path or a URL, but this URL cannot be read; "
            "use `path.db`, `sqlite:///path.db` or `postgresql://user:password@host/database`"
        ) from None
    backend = url.drivername.split("+")[0]
    if backend in ("postgresql", "postgres"):
        return url.set(drivername="postgresql+psycopg")
    if backend != "sqlite":
        raise LedgerError(
            f"a ledger is kept in SQLite or PostgreSQL, but the URL says {backend!r}; "
            "use `path.db` or `postgresql://user:password@host/database`"
        )
    if url.database in (None, "", ":memory:"):
        raise LedgerError(
            "a ledger must outlive its process, but the URL names no file; use `sqlite:///path.db`"
        )
    return url.set(drivername="sqlite")


def shown(url: URL) -> str:
    """Return the URL, or SQLite's path, as messages show it: without a password."""
    if url.get_backend_name() == "sqlite":
        return str(url.database)
    return url.set(drivername="postgresql").render_as_string(hide_password=True)


def make_engine(url: URL) -> Engine:
    """Build an engine whose transactions begin when we say so. Nothing is connected yet.

    SQLite: WAL (readers in other processes are never blocked), synchronous=FULL (a committed
    transaction survives a power cut), foreign keys enforced. A connection with the execution
    option `writes` takes the write lock at its beginning, so that it never fails half-way.
    """
    options: dict[str, Any] = {"json_serializer": dumps, "json_deserializer": loads}
    if url.get_backend_name() != "sqlite":
        return sa.create_engine(url, pool_pre_ping=True, **options)
    engine = sa.create_engine(
        url, connect_args={"timeout": BUSY_TIMEOUT_S, "check_same_thread": False}, **options
    )
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # the module's own BEGIN would come too late, and deferred
    _use_wal(connection)
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")


def _use_wal(connection: sqlite3.Connection) -> None:
    deadline_s = time.monotonic() + BUSY_TIMEOUT_S
    while connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            # This one change does not honour the busy timeout: several processes that create
            # the same file at once meet here.
            if "locked" not in str(error) or time.monotonic() > deadline_s:
                raise
            time.sleep(0.01)


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@contextmanager
def explained(url: URL) -> Iterator[None]:
    """Turn the database's own errors into a LedgerError with the next step."""
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error, OverflowError) as error:
        raise LedgerError(_explain(error, url)) from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:  # a damaged page was read
        raise LedgerError(
            f"the ledger {shown(url)} holds a value that cannot be read ({error}); "
            "it is damaged: restore a backup"
        ) from error
    except ModuleNotFoundError as error:
        raise LedgerError(
            f"a PostgreSQL ledger needs the package {error.name!r}; "
            "install it with `pip install 'isoflop[postgres]'`"
        ) from error


_SQLITE_ADVICE = {
    "file is not a database": "it is not a ledger; name another file, or move this one away",
    "malformed": "it is damaged; restore a backup, or save what can be read with "
    "`sqlite3 FILE .recover`",
    "locked": f"another process has held it for {BUSY_TIMEOUT_S:.0f} s; end that process and retry",
    "readonly": "it cannot be written; change its permissions or name another file",
    "unable to open": "it cannot be opened; its directory must exist and both must be writable, "
    "so check the path and its permissions",
    "disk is full": "the disk is full; free some space, then `isoflop resume`",
    "disk i/o": "the disk cannot be read or written; check it, and keep ledgers off network mounts",
}


def _explain(error: BaseException, url: URL) -> str:
    cause = str(getattr(error, "orig", None) or error).strip()
    first_line = cause.splitlines()[0] if cause else type(error).__name__
    if url.get_backend_name() == "sqlite":
        for symptom, advice in _SQLITE_ADVICE.items():
            if symptom in cause.lower():
                return f"the ledger {shown(url)} cannot be used: {advice} (SQLite: {first_line})"
    elif isinstance(error, sa.exc.OperationalError):
        return (
            f"the ledger {shown(url)} cannot be reached ({first_line}); "
            "check that the server runs and that the URL names its host, user and database"
        )
    return f"the ledger {shown(url)} refused a statement: {first_line}"
