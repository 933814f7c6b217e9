"""However a session ends, the ledger says so, and a later one goes on to the same tables."""

from __future__ import annotations

import os
import signal

import pytest
from small_search import assert_same_outcome, small_spec

from service import open_search, resume, run_search
from service.search.display import Silent


class OnceTraining(Silent):
    """Does something when the first epochs of a round have been trained."""

    def __init__(self, act, times=1):
        self._act = act
        self._left = times

    def epochs(self, rows):
        for _ in range(self._left):
            self._act()
        self._left = 0


@pytest.fixture
def run(tmp_path):
    def run(display):
        return run_search(
            small_spec(name="small"),
            workers=1,
            ledger=tmp_path / "ledger.db",
            out=tmp_path / "out",
            display=display,
        )

    return run


@pytest.fixture
def go_on(tmp_path):
    return lambda: resume("small-1", ledger=tmp_path / "ledger.db", workers=1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_ends_and_resume_gives_the_same_table(run, go_on, undisturbed, number):
    handler = signal.getsignal(number)
    result = run(OnceTraining(lambda: os.kill(os.getpid(), number)))
    assert result.record.state == "interrupted"
    assert result.report_path is not None
    assert signal.getsignal(number) is handler
    assert_same_outcome(go_on(), undisturbed)


def test_a_second_signal_stops_at_once_and_resume_gives_the_same_table(
    run, go_on, undisturbed, tmp_path
):
    with pytest.raises(KeyboardInterrupt):
        run(OnceTraining(lambda: os.kill(os.getpid(), signal.SIGINT), times=2))
    record = open_search("small-1", ledger=tmp_path / "ledger.db").record
    assert (record.state, record.reason) == ("interrupted", "stopped at once with a second Ctrl-C")
    assert_same_outcome(go_on(), undisturbed)


def test_an_error_in_the_driver_is_recorded_and_resume_gives_the_same_table(
    run, go_on, undisturbed, tmp_path
):
    def break_down():
        raise RuntimeError("the screen is gone\nsecond line")

    with pytest.raises(RuntimeError, match="the screen is gone"):
        run(OnceTraining(break_down))
    result = open_search("small-1", ledger=tmp_path / "ledger.db")
    assert result.record.state == "failed"
    assert result.record.reason == "RuntimeError: the screen is gone"
    assert result.energy().node_kwh > 0  # the span was closed, its windows are in the ledger
    assert_same_outcome(go_on(), undisturbed)
