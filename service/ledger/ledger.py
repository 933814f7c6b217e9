"""The ledger: the one place where everything that happened is written down."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

from service.ledger import migrate
from service.ledger.audit import AuditStore
from service.ledger.books import BookStore
from service.ledger.browse import BrowseStore
from service.ledger.deletion import DeletionStore
from service.ledger.deliveries import DeliveryStore
from service.ledger.energy_rows import EnergyStore
from service.ledger.engine import explained, make_engine, parse_url, shown
from service.ledger.export import ExportStore
from service.ledger.job_logs import JobLogStore
from service.ledger.jobs import JobStore
from service.ledger.messages import MessageStore
from service.ledger.reopening import ReopeningStore
from service.ledger.single_service import SingleServiceStore
from service.ledger.users import UserStore
from trainers.errors import LedgerError


class Ledger(
    BookStore,
    BrowseStore,
    DeletionStore,
    DeliveryStore,
    ExportStore,
    MessageStore,
    ReopeningStore,
    EnergyStore,
    UserStore,
    JobStore,
    JobLogStore,
    AuditStore,
    SingleServiceStore,
):
    """Everything about all searches, in one SQLite file or PostgreSQL database.

    Data persistence: each call that writes is one transaction, and is durable when it returns
    (SQLite: WAL with synchronous=FULL; PostgreSQL: its own default). A call that is killed, or
    raises, leaves nothing behind. Every write may be repeated: rows are keyed by their meaning.

    Threads may share a ledger; their writes take turns. Other processes may read at any time,
    and may write (`isoflop stop` does); they wait for one transaction at most.

    Example:
        >>> with Ledger.open("isoflop.db") as ledger:        # doctest: +SKIP
        ...     ledger.trials_frame("demo-1")

    """

    @classmethod
    def open(cls, url_or_path: str | Path | None = None, *, create: bool = True) -> Self:
        """Open a ledger, making or migrating its tables where needed.

        Args:
            url_or_path: path of an SQLite file, `sqlite:///path` or `postgresql://...`.
                None: `./isoflop.db`.
            create: whether a missing SQLite file is made, with its directory.

        Raises:
            LedgerError: if it cannot be opened, is not a ledger, or has a newer schema.

        """
        url = parse_url(url_or_path)
        if url.get_backend_name() == "sqlite":
            _prepare_place(Path(str(url.database)), create=create)
        with explained(url):
            ledger = cls(make_engine(url), url)
        try:
            ledger._bring_up_to_date()
        except BaseException:
            ledger.close()
            raise
        return ledger

    def _bring_up_to_date(self) -> None:
        with self._reading() as connection:
            revision = migrate.stored_revision(connection)
        if revision != migrate.HEAD:
            with self._writing() as connection:
                migrate.upgrade(connection, self._url)

    @property
    def url(self) -> str:
        """The URL that opens this ledger again, from any process; it may hold a password."""
        return self._url.render_as_string(hide_password=False)

    @property
    def shown_url(self) -> str:
        """The path or URL as messages show it: without a password."""
        return shown(self._url)

    def close(self) -> None:
        """Close all connections. What was written stays; closing twice is harmless."""
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _prepare_place(path: Path, *, create: bool) -> None:
    if path.is_dir():
        raise LedgerError(f"a ledger is a file, but {path} is a directory; name a file inside it")
    if path.exists():
        return
    if not create:
        raise LedgerError(
            f"there is no ledger at {path}; name one with `--ledger`, or run a search first"
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LedgerError(
            f"the ledger's directory {path.parent} cannot be made ({error.strerror}); "
            "name a path that can be written"
        ) from error
