import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from service.ledger import Ledger
from trainers.errors import LedgerError

SERVE = """
import sys, time
from service.ledger import Ledger
with Ledger.open(sys.argv[1]) as ledger, ledger.serving():
    print("served", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_a_ledger_has_one_service(database: str, request: pytest.FixtureRequest) -> None:
    url = request.getfixturevalue(f"{database}_url")
    with Ledger.open(url) as first, Ledger.open(url) as second:
        with first.serving():
            says = r"one service.*served by .*process.*--ledger"
            with pytest.raises(LedgerError, match=says), second.serving():
                pass
            second.create_search(name="demo", spec={}, seed=0)  # others write as ever
        with second.serving():
            pass


def test_a_killed_service_holds_nothing_and_a_living_one_is_named(tmp_path: Path) -> None:
    path = tmp_path / "isoflop.db"
    command = [sys.executable, "-c", SERVE, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as service:
        assert service.stdout is not None
        assert service.stdout.readline() == "served\n"
        with Ledger.open(path) as ledger:
            says = f"process {service.pid} already"
            with pytest.raises(LedgerError, match=says), ledger.serving():
                pass
            os.kill(service.pid, signal.SIGKILL)
            service.wait()
            with ledger.serving():
                pass


def test_a_link_to_a_ledger_is_that_ledger(tmp_path: Path) -> None:
    link = tmp_path / "link.db"
    with Ledger.open(tmp_path / "isoflop.db") as ledger, ledger.serving():
        link.symlink_to(tmp_path / "isoflop.db")
        with (
            Ledger.open(link) as linked,
            pytest.raises(LedgerError, match="one service"),
            linked.serving(),
        ):
            pass
