import sqlite3
import subprocess
import sys
from pathlib import Path

import optuna
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from service.ledger import Ledger, engine, migrate
from service.ledger.schema import metadata
from service.ledger.testing_records import new_search, trial_record
from trainers.errors import LedgerError


def make_ledger(path: Path) -> Path:
    with Ledger.open(path) as ledger:
        ledger.add_trials(new_search(ledger), [trial_record(i) for i in range(200)])
    return path


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_migrations_end_in_the_schema_the_code_uses(
    database: str, request: pytest.FixtureRequest
) -> None:
    url = request.getfixturevalue(f"{database}_url")
    with Ledger.open(url) as ledger, sa.create_engine(ledger.url).connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"version_table": migrate.VERSION_TABLE, "compare_type": True}
        )
        assert compare_metadata(context, metadata) == []
    assert ScriptDirectory(str(migrate._MIGRATIONS)).get_heads() == [migrate.HEAD]


def test_sqlite_is_durable_and_readable_while_written(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "a.db") as ledger, ledger._reading() as connection:
        settings = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        values = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in settings]
    assert values == ["wal", 2, 1, 60_000]


def test_opening_a_ledger_that_is_up_to_date_needs_no_alembic_optuna_or_pandas(
    tmp_path: Path,
) -> None:
    path = make_ledger(tmp_path / "a.db")
    code = (
        "import sys; from service.ledger.ledger import Ledger\n"
        "ledger = Ledger.open(sys.argv[1]); ledger.trials('demo-1')\n"
        "print([m for m in ('alembic', 'optuna', 'pandas', 'torch') if m in sys.modules])"
    )
    run = [sys.executable, "-c", code, str(path)]
    loaded = subprocess.run(run, capture_output=True, text=True, check=True).stdout
    assert loaded.strip() == "[]"


def test_missing_directory_is_made_but_a_missing_ledger_only_on_request(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.db"
    with pytest.raises(LedgerError, match=r"no ledger at .*a\.db; name one with `--ledger`"):
        Ledger.open(path, create=False)
    assert not path.parent.exists()
    make_ledger(path)
    with Ledger.open(f"sqlite:///{path}", create=False) as ledger:
        assert len(ledger.searches()) == 1


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_newer_schema_is_refused(database: str, request: pytest.FixtureRequest) -> None:
    url = request.getfixturevalue(f"{database}_url")
    with Ledger.open(url) as ledger, ledger._writing() as connection:
        connection.execute(sa.text("UPDATE isoflop_revision SET version_num = '9999'"))
    with pytest.raises(LedgerError, match=rf"newer schema .*'9999'.*'{migrate.HEAD}'.*; upgrade"):
        Ledger.open(url)


def test_other_programs_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "optuna.db"
    optuna.create_study(storage=f"sqlite:///{path}")
    with pytest.raises(LedgerError, match=r"another program's database .*trials.*; name another"):
        Ledger.open(path)
    with sqlite3.connect(path) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    assert "isoflop_revision" not in tables


def test_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database, but long enough to have a header " * 50)
    with pytest.raises(LedgerError, match="not a ledger; name another file"):
        Ledger.open(path)


def test_damaged_file_is_refused_with_the_next_step(tmp_path: Path) -> None:
    path = make_ledger(tmp_path / "a.db")
    content = bytearray(path.read_bytes())
    content[1000:] = b"\xa5" * (len(content) - 1000)
    path.write_bytes(content)
    with pytest.raises(LedgerError, match="damaged; restore a backup"), Ledger.open(path) as ledger:
        ledger.trials("demo-1")


def test_locked_ledger_is_named_after_the_timeout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_ledger(tmp_path / "a.db")
    monkeypatch.setattr(engine, "BUSY_TIMEOUT_S", 0.05)
    with sqlite3.connect(path, isolation_level=None) as other, Ledger.open(path) as ledger:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerError, match=r"another process has held it.*; end that process"):
            ledger.request_stop("demo-1")
        assert not ledger.stop_requested("demo-1")
        other.execute("ROLLBACK")


def test_unwritable_places_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LedgerError, match=r"directory .* cannot be made"):
        Ledger.open(tmp_path / "file" / "a.db")
    with pytest.raises(LedgerError, match="is a directory; name a file inside it"):
        Ledger.open(tmp_path)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("sqlite://", "must outlive its process"),
        ("sqlite:///:memory:", "must outlive its process"),
        ("mysql://host/db", "SQLite or PostgreSQL, but the URL says 'mysql'"),
        ("://", "cannot be read; use `path.db`"),
        ("postgresql://user:secret@127.0.0.1:1/db", r"\*\*\*.*cannot be reached.*server runs"),
    ],
)
def test_bad_urls_are_refused_without_showing_passwords(url: str, message: str) -> None:
    with pytest.raises(LedgerError, match=message) as caught:
        Ledger.open(url)
    assert "secret" not in str(caught.value)


def test_url_opens_the_same_ledger_again(postgres_url: str) -> None:
    with Ledger.open(postgres_url) as ledger:
        new_search(ledger)
        assert ledger.url.startswith("postgresql+psycopg://")
        with Ledger.open(ledger.url) as again:
            assert len(again.searches()) == 1
    ledger.close()
