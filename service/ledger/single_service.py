"""One service per ledger: a second one would take the first one's jobs for lost and run them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from service.file_lock import lock_file
from service.ledger.engine import explained, shown
from service.ledger.store import Store
from trainers.errors import LedgerError

_ADVISORY_LOCK = 0x150F_10C
_GONE_AFTER = {"idle": 30, "interval": 10, "count": 3}
"""TCP keepalive of the connection that holds PostgreSQL's lock: without it a server believes for
two hours that a host which lost its power still serves."""


class SingleServiceStore(Store):
    """Says who serves the ledger."""

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Hold the ledger as its only service; a killed one holds nothing.

        Searches from the command line need no such hold, and are not kept out by it.

        Raises:
            LedgerError: another service holds it.

        """
        if self._url.get_backend_name() == "sqlite":
            path = Path(f"{Path(str(self._url.database)).resolve()}.service")
            with _file_held(path, shown(self._url)):
                yield
        else:
            with self._advisory_lock_held():
                yield

    @contextmanager
    def _advisory_lock_held(self) -> Iterator[None]:
        with explained(self._url):
            connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        with connection:
            with explained(self._url):
                for name, value in _GONE_AFTER.items():
                    connection.exec_driver_sql(f"SET tcp_keepalives_{name} = {value}")
                mine = connection.scalar(sa.select(sa.func.pg_try_advisory_lock(_ADVISORY_LOCK)))
            if not mine:
                raise _served_already(shown(self._url), "another process")
            try:
                yield
            finally:
                with suppress(SQLAlchemyError):  # a connection that broke holds it no longer
                    connection.execute(sa.select(sa.func.pg_advisory_unlock(_ADVISORY_LOCK)))
                connection.invalidate()  # its keepalive is not for the pool


@contextmanager
def _file_held(path: Path, ledger: str) -> Iterator[None]:
    try:
        file = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise LedgerError(
            f"the service marks the ledger as served by {path}, which cannot be written "
            f"({error.strerror}); make its directory writable, or name another ledger"
        ) from None
    with file:
        try:
            lock_file(file.fileno())
        except OSError:
            file.seek(0)
            raise _served_already(ledger, file.read(100).strip() or "another process") from None
        file.truncate(0)
        file.write(f"process {os.getpid()}")
        file.flush()
        yield


def _served_already(ledger: str, by: str) -> LedgerError:
    return LedgerError(
        f"a ledger has one service, but {ledger} is served by {by} already; "
        "use that one, end it first, or name another --ledger"
    )
