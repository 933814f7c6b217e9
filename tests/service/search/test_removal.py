"""Deleting a search keeps what it used; collecting garbage keeps what was found."""

import os

import pytest
from small_search import small_spec
from typer.testing import CliRunner

from service import run_search
from service.cli import app
from service.energy import accounts
from service.energy.books import FactorBook, make_statement
from service.ledger import Ledger
from service.search.removal import DAY_S, collect_garbage, delete_search
from trainers.errors import LedgerError, MissingError

ROUNDS = [{"sampler": "sobol", "trials": 3, "epochs": 2}]


@pytest.fixture
def finished(tmp_path):
    spec = small_spec(name="mine", rounds=ROUNDS, finalists={"trials": 1, "seeds": 1})
    result = run_search(spec, workers=1, ledger=tmp_path / "all.db", out=tmp_path / "out")
    (tmp_path / "out" / "notes.txt").write_text("mine")
    return result


def statement(ledger):
    made = make_statement(
        ledger, FactorBook([]), from_unix_s=0.0, to_unix_s=1e12, by=["project", "search"]
    )
    return [row.to_mapping() for row in made.rows]


def test_what_a_deleted_search_used_stays_booked(finished, tmp_path):
    with Ledger.open(finished.ledger_url) as ledger:
        booked, own_kwh = statement(ledger), accounts(ledger, "mine-1").own_kwh
        assert booked[0]["trials"] > 0
        removed = delete_search(ledger, "mine-1")
        assert removed.num_bytes > 0
        assert statement(ledger) == booked
        assert accounts(ledger, "mine-1").own_kwh == own_kwh
        assert ledger.search("mine-1").state == "deleted"
        assert ledger.search("mine-1").spec == {}
        assert all(not trial.params and not trial.metrics for trial in ledger.trials("mine-1"))
        assert ledger.curves_frame("mine-1").empty
        assert ledger.page_searches().items == []
        delete_search(ledger, "mine-1")
        assert statement(ledger) == booked
    left = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert left == ["notes.txt"]


def test_a_running_or_unknown_search_is_not_deleted(finished):
    with Ledger.open(finished.ledger_url) as ledger:
        ledger.update_search("mine-1", state="running")
        with pytest.raises(LedgerError, match="stop it first"):
            delete_search(ledger, "mine-1")
        with pytest.raises(MissingError):
            delete_search(ledger, "mine-2")
        assert ledger.trials("mine-1")[0].params


def test_the_command_asks_unless_told_not_to(finished, monkeypatch):
    runner, arguments = CliRunner(), ["delete", "mine-1", "--ledger", finished.ledger_url]
    refused = runner.invoke(app, arguments, input="n\n")
    assert refused.exit_code != 0
    with Ledger.open(finished.ledger_url) as ledger:
        assert ledger.search("mine-1").state == "finished"
    assert runner.invoke(app, [*arguments, "--yes"]).exit_code == 0
    listed = runner.invoke(app, ["list", "--ledger", finished.ledger_url, "--json"])
    assert "mine-1" not in listed.stdout
    again = runner.invoke(app, ["resume", "mine-1", "--ledger", finished.ledger_url])
    assert isinstance(again.exception, LedgerError)
    assert "was deleted" in str(again.exception)


def checkpoints(folder, name, num_bytes):
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / f"{name}.pt").write_bytes(b"x" * num_bytes)


@pytest.fixture
def three_ended(tmp_path):
    """Three ended searches that hold 1, 2 and 3 MB, and a running one."""
    with Ledger.open(tmp_path / "gc.db") as ledger:
        for number, state in enumerate(("finished", "stopped", "failed", "running"), start=1):
            folder = tmp_path / f"out{number}"
            search = ledger.create_search(name="s", spec={}, seed=0, out_dir=str(folder))
            ledger.update_search(search.search_id, state=state, finished_unix_s=number * DAY_S)
            checkpoints(folder, "a", number * 10**6)
        yield ledger


def test_old_checkpoints_go(three_ended, tmp_path):
    removed = collect_garbage(three_ended, days=7, now_unix_s=9.5 * DAY_S)
    assert removed.search_ids == ("s-1", "s-2")
    assert removed.num_bytes == 3 * 10**6
    assert os.path.exists(tmp_path / "out4" / "checkpoints" / "a.pt")


def test_the_oldest_go_until_there_is_room(three_ended):
    removed = collect_garbage(three_ended, max_gb=0.0035, now_unix_s=9 * DAY_S)
    assert removed.search_ids == ("s-1", "s-2")
    assert collect_garbage(three_ended, max_gb=0.0035, now_unix_s=9 * DAY_S).num_files == 0


def test_without_a_rule_nothing_goes(three_ended):
    assert collect_garbage(three_ended).num_files == 0
