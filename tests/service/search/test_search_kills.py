"""Kill the driver at any instant: nothing is lost, nothing twice, and the table is the same."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from small_search import SMALL, small_spec, table

from service import open_search, run_search
from service.search.yaml_loading import dump_yaml

MOST_SESSIONS = 60


def start(arguments: list[str], folder: Path, errors: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", "from service.cli import main; main()", *arguments],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=errors.open("ab"),
        env=dict(os.environ),
        start_new_session=True,
    )


def search_under_fire(folder: Path, num_kills: int, workers: int, rng: random.Random) -> None:
    """Run the small search to its end although its driver is killed `num_kills` times."""
    (folder / "spec.yaml").write_text(dump_yaml({"name": "small", **SMALL}))
    errors = folder / "errors.txt"
    common = ["--workers", str(workers), "--ledger", str(folder / "ledger.db")]
    arguments = ["search", "spec.yaml", "--out", "out", *common]
    for session in range(MOST_SESSIONS):
        process = start(arguments, folder, errors)
        if session < num_kills:
            _wait_for_ledger(folder, process)
            time.sleep(rng.uniform(0.0, 3.0))
            process.send_signal(signal.SIGKILL)
            process.wait()
        elif process.wait(timeout=240) == 0:
            return
        arguments = ["resume", "small-1", *common]
    raise AssertionError(errors.read_text())


def _wait_for_ledger(folder: Path, process: subprocess.Popen[bytes]) -> None:
    """Wait until the search is recorded, so that there is something to resume."""
    import sqlite3

    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with sqlite3.connect(folder / "ledger.db") as connection:
                rows = connection.execute("select out_dir from searches").fetchall()
            if rows and rows[0][0]:
                return
        except sqlite3.Error:
            pass
        time.sleep(0.05)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    result = run_search(
        small_spec(name="small"), workers=1, ledger=folder / "ledger.db", out=folder / "out"
    )
    return table(result.trials()), result.curves().drop(columns="busy_s")


def check(folder: Path, undisturbed: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    result = open_search("small-1", ledger=folder / "ledger.db")
    trials, curves = result.trials(), result.curves()
    assert result.record.state == "finished"
    assert not trials.duplicated(["config_id", "seed"]).any()
    assert not curves.duplicated(["trial_id", "epoch"]).any()
    assert result.record.test_looks == 1
    pd.testing.assert_frame_equal(table(trials), undisturbed[0])
    pd.testing.assert_frame_equal(curves.drop(columns="busy_s"), undisturbed[1])
    accounts = result.energy()
    assert abs(accounts.residual) < 1e-9


def test_three_kills_change_nothing(tmp_path, undisturbed):
    search_under_fire(tmp_path, num_kills=3, workers=1, rng=random.Random(1))
    check(tmp_path, undisturbed)


@pytest.mark.long
@pytest.mark.parametrize("moment", range(20))
def test_a_kill_at_a_random_moment_changes_nothing(tmp_path, undisturbed, moment):
    search_under_fire(tmp_path, num_kills=1, workers=1 + moment % 2, rng=random.Random(moment))
    check(tmp_path, undisturbed)


@pytest.mark.parametrize("workers", [2, pytest.param(4, marks=pytest.mark.long)])
def test_more_workers_give_the_same_table(tmp_path, undisturbed, workers):
    search_under_fire(tmp_path, num_kills=0, workers=workers, rng=random.Random(0))
    check(tmp_path, undisturbed)
