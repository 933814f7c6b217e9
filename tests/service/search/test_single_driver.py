"""A search that somebody is running is not run twice; one whose driver is gone can be resumed."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from service.energy.processes import boot_id, host_name
from service.ledger import Ledger
from service.ledger.testing_records import new_search
from service.search.single_driver import refuse_second_driver
from trainers.errors import LedgerError


@pytest.fixture
def other_process():
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.wait()


def look(tmp_path, *, pid, host=None, boot=None, ago_s=0.0, heard_ago_s=0.0, state="running"):
    """Open a span as that process would have, and ask to run its search."""
    with Ledger.open(tmp_path / "a.db") as ledger:
        search_id = new_search(ledger)
        ledger.update_search(search_id, state=state)
        span = ledger.open_span(
            search_id,
            host=host or host_name(),
            boot_id=boot or boot_id(),
            pid=pid,
            started_s=1000.0,
            started_unix_s=time.time() - ago_s,
        )
        ledger.extend_span(search_id, span.span, 1000.0 + ago_s - heard_ago_s)
        refuse_second_driver(ledger, ledger.search(search_id))


def test_a_living_driver_on_this_host_is_named(tmp_path, other_process):
    with pytest.raises(LedgerError, match=f"run by process {other_process.pid}; stop it first"):
        look(tmp_path, pid=other_process.pid)


def test_a_search_that_ended_has_no_driver(tmp_path, other_process):
    look(tmp_path, pid=other_process.pid, state="interrupted")


def test_a_dead_driver_is_no_driver(tmp_path, other_process):
    other_process.kill()
    os.waitid(os.P_PID, other_process.pid, os.WEXITED | os.WNOWAIT)
    look(tmp_path, pid=other_process.pid)  # not reaped yet: a zombie
    other_process.wait()
    look(tmp_path, pid=other_process.pid)


def test_another_process_with_a_reused_pid_is_no_driver(tmp_path, other_process):
    look(tmp_path, pid=other_process.pid, ago_s=3600.0)
    look(tmp_path, pid=other_process.pid, boot="an earlier boot")


def test_a_driver_on_another_host_is_believed_alive_while_it_writes(tmp_path):
    with pytest.raises(LedgerError, match=r"on gpu-7; stop it first: .* or wait 60 s"):
        look(tmp_path, pid=os.getpid(), host="gpu-7", ago_s=600.0, heard_ago_s=5.0)
    look(tmp_path, pid=os.getpid(), host="gpu-7", ago_s=600.0, heard_ago_s=100.0)
