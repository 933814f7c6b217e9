"""A ledger of an older schema is brought up, whole or not at all.

The tests also play the next revision: a copy of the migrations with another one behind the last.
"""

import shutil
from pathlib import Path

import pytest
import sqlalchemy as sa

from service.ledger import Ledger, migrate
from service.ledger.testing_records import new_search, trial_record
from trainers.errors import LedgerError

NEXT_REVISION = """
import sqlalchemy as sa
from alembic import op

revision = "next"
down_revision = "HEAD"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("searches") as table:
        table.add_column(sa.Column("mood", sa.Text, nullable=False, server_default="calm"))
    LAST_STEP
"""


@pytest.fixture(params=["sqlite", "postgres"])
def older_ledger(request: pytest.FixtureRequest) -> str:
    """Return the URL of a ledger of today's revision with a search of two hundred trials."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    with Ledger.open(url) as ledger:
        ledger.add_trials(new_search(ledger), [trial_record(i) for i in range(200)])
    return url


def ship_next_revision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last_step: str = "pass"
) -> None:
    """Make this isoflop one that knows another revision."""
    migrations = tmp_path / "migrations"
    shutil.copytree(migrate._MIGRATIONS, migrations)
    text = NEXT_REVISION.replace("LAST_STEP", last_step).replace("HEAD", migrate.HEAD)
    (migrations / "versions" / "r9999_mood.py").write_text(text)
    monkeypatch.setattr(migrate, "_MIGRATIONS", migrations)
    monkeypatch.setattr(migrate, "HEAD", "next")


def revision_and_moods(url: str) -> tuple[str | None, list[str]]:
    """Look past the ledger's own code; no moods: the column is not there."""
    with Ledger.open(url) as ledger, ledger._reading() as connection:
        columns = {column["name"] for column in sa.inspect(connection).get_columns("searches")}
        query = sa.text("SELECT mood FROM searches")
        moods = list(connection.execute(query).scalars()) if "mood" in columns else []
        return migrate.stored_revision(connection), moods


def test_an_older_ledger_is_upgraded_when_it_is_opened_and_keeps_what_it_holds(
    older_ledger: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Ledger.open(older_ledger) as ledger:
        before = ledger.search("demo-1"), ledger.trials("demo-1")
    ship_next_revision(tmp_path, monkeypatch)
    with Ledger.open(older_ledger) as ledger:
        assert (ledger.search("demo-1"), ledger.trials("demo-1")) == before
    assert revision_and_moods(older_ledger) == ("next", ["calm"])


def test_an_upgrade_that_fails_leaves_the_older_ledger_as_it_was(
    older_ledger: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as newer:
        ship_next_revision(tmp_path, newer, last_step="raise RuntimeError('the power went')")
        with pytest.raises(RuntimeError, match="the power went"):
            Ledger.open(older_ledger)
    assert revision_and_moods(older_ledger) == (migrate.HEAD, [])


def test_an_upgraded_ledger_is_refused_by_the_older_isoflop(
    older_ledger: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as newer:
        ship_next_revision(tmp_path, newer)
        Ledger.open(older_ledger).close()
    with pytest.raises(LedgerError, match=r"newer schema .*'next'.*; upgrade isoflop"):
        Ledger.open(older_ledger)


OLDEST_SEARCH = """
INSERT INTO searches (search_id, name, number, kind, project, spec, seed, mode, state, reason,
    created_unix_s, versions, code_fingerprint, test_looks, stop_requested)
VALUES ('old-1', 'old', 1, 'search', 'p', '{"name": "old"}', 7, 'deterministic', 'finished', '',
    1.5, '{}', 'f', 0, false)
"""


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_a_ledger_of_the_first_revision_is_opened_today(
    database: str,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = request.getfixturevalue(f"{database}_url")
    with monkeypatch.context() as older:
        first_only = tmp_path / "first"
        shutil.copytree(migrate._MIGRATIONS, first_only)
        for script in (first_only / "versions").glob("r*.py"):
            if script.name != "r0001_first_schema.py":
                script.unlink()
        older.setattr(migrate, "_MIGRATIONS", first_only)
        older.setattr(migrate, "HEAD", "0001")
        with Ledger.open(url) as ledger, ledger._writing() as connection:
            connection.execute(sa.text(OLDEST_SEARCH))
    with Ledger.open(url) as ledger:
        search = ledger.search("old-1")
        assert (search.seed, search.spec, search.owner) == (7, {"name": "old"}, None)
        assert ledger.users() == []
