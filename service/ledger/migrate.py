"""Bringing a database to this version's schema, and refusing one that is ahead of it."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection

import service.ledger.service_schema  # noqa: F401 - its tables belong to the schema
from service.ledger.engine import shown
from service.ledger.schema import metadata
from trainers.errors import LedgerError

HEAD = "0003"
"""The newest revision in `migrations/versions`, known here so that opening needs no Alembic."""

VERSION_TABLE = "isoflop_revision"
"""Not Alembic's usual name, which Optuna's tables would share in one PostgreSQL database."""

_ADVISORY_LOCK = 0x150F_10B
_MIGRATIONS = Path(__file__).parent / "migrations"


def stored_revision(connection: Connection) -> str | None:
    """Return the revision the database says it has; None where it has no ledger yet."""
    if not sa.inspect(connection).has_table(VERSION_TABLE):
        return None
    revision: str | None = connection.execute(
        sa.text(f"SELECT version_num FROM {VERSION_TABLE}")
    ).scalar()
    return revision


def upgrade(connection: Connection, url: URL) -> None:
    """Create or migrate the schema within the caller's write transaction.

    All or nothing: both databases run DDL inside transactions, so a kill leaves the old schema.
    Several processes may do this at once; they do it one after the other.

    Raises:
        LedgerError: if the schema is newer than this code, or the tables are someone else's.

    """
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_ADVISORY_LOCK)))
    revision = stored_revision(connection)
    if revision == HEAD:
        return
    if revision is None:
        _refuse_foreign_tables(connection, url)

    # Imported here: Alembic costs a tenth of a second, and opening is usually no migration.
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if revision is not None and revision not in known:
        raise LedgerError(
            f"the ledger {shown(url)} has a newer schema (revision {revision!r}) than this isoflop "
            f"knows (up to {HEAD!r}); upgrade isoflop, or name another ledger"
        )
    command.upgrade(config, "head")


def _refuse_foreign_tables(connection: Connection, url: URL) -> None:
    foreign = sorted(set(sa.inspect(connection).get_table_names()) & set(metadata.tables))
    if foreign:
        raise LedgerError(
            f"{shown(url)} is another program's database (it has tables {', '.join(foreign)}, but "
            f"no {VERSION_TABLE}); name another file or database for the ledger"
        )
