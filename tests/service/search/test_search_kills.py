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
from small_search import SMALL, assert_same_outcome

from service import open_search
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


def check(folder: Path, undisturbed: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    assert_same_outcome(open_search("small-1", ledger=folder / "ledger.db"), undisturbed)


def test_three_kills_change_nothing(tmp_path, undisturbed):
    search_under_fire(tmp_path, num_kills=3, workers=1, rng=random.Random(1))
    check(tmp_path, undisturbed)


@pytest.mark.long
@pytest.mark.parametrize("moment", range(20))
def test_a_kill_at_a_random_moment_changes_nothing(tmp_path, undisturbed, moment):
    search_under_fire(tmp_path, num_kills=1, workers=1 + moment % 2, rng=random.Random(moment))
    check(tmp_path, undisturbed)


@pytest.mark.long
@pytest.mark.parametrize("workers", [2, 4])
def test_more_workers_give_the_same_table(tmp_path, undisturbed, workers):
    search_under_fire(tmp_path, num_kills=0, workers=workers, rng=random.Random(0))
    check(tmp_path, undisturbed)
