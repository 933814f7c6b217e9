"""Extending is killed before each write in turn: resuming, or asking again, adds just that once."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from service import extend, resume, run_search
from service.energy import session
from service.ledger import Ledger
from service.scaling.spec import extend_study, resume_study, run_study
from service.search import single_driver
from trainers.errors import LedgerError

SEARCH = {
    "name": "tiny",
    "data": {"name": "digits", "num_train": 100},
    "model": {"depth": 1, "width": 4},
    "train": {"epochs": 1, "batch_size": 50},
    "space": {"optimizer.lr": {"log_uniform": [1e-3, 1e-1]}},
    "rounds": [{"sampler": "random", "trials": 3}],
    "finalists": {"trials": 1, "seeds": 1},
    "recipe": {"checks": False},
}
STUDY = {
    "kind": "study",
    "name": "tiny",
    "data": {"name": "digits", "num_train": 100},
    "model": {"kind": "mlp", "depth": 1},
    "train": {"batch_size": 16},
    "sizes": {"model.width": [4, 6]},
    "budgets_flops": [2e5, 4e5],
    "limits": {"min_updates": 1, "max_passes": 50},
}
EXTENDED = {
    "search": {"trials": 2},
    "study": {"budgets_flops": [8e5]},
}
JUST_ADDED = 2
FIRST_WRITES = [
    n if n == JUST_ADDED else pytest.param(n, marks=pytest.mark.long) for n in range(1, 16)
]
"""Adding is the first; opening the session and recording trials lie within the others."""


class Killed(BaseException):
    """The process is gone: nothing of it reaches the ledger any more."""


@contextmanager
def killed_before_write(number: int) -> Iterator[list[int]]:
    """Let the process's writes fail from the `number`-th on; yield how many there were."""
    writes = [0]

    def count(connection: Connection) -> None:
        if connection.get_execution_options().get("writes"):
            writes[0] += 1
            if writes[0] >= number:
                raise Killed

    sa.event.listen(Engine, "commit", count)
    try:
        with suppress(Killed):
            yield writes
    finally:
        sa.event.remove(Engine, "commit", count)


@pytest.fixture(scope="module", autouse=True)
def no_wait_for_the_meter() -> Iterator[None]:
    """Let sessions end without their last window: nothing here asks what was used."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "METER_STARTS_WITHIN_S", 0.0)
        patch.setattr(session, "LAST_WINDOW_WITHIN_S", 0.0)
        yield


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the ledgers of a search and of a study that have finished."""
    folder = tmp_path_factory.mktemp("ended")
    run_search(SEARCH, workers=1, ledger=folder / "search.db", out=folder / "search")
    run_study(STUDY, workers=1, ledger=folder / "study.db", out=folder / "study")
    return folder


@pytest.fixture
def add(
    request: pytest.FixtureRequest, ended: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Path, Callable[[], object], Callable[[], object]]:
    """Return a copy of the ledger of `request.param`, and how to extend and resume it."""
    kind: str = request.param
    ledger = tmp_path / "ledger.db"
    shutil.copy(ended / f"{kind}.db", ledger)
    # The killed driver would be this very process, which is alive.
    monkeypatch.setattr(single_driver, "is_alive", lambda span: False)
    adding, resuming = (extend, resume) if kind == "search" else (extend_study, resume_study)
    return (
        ledger,
        lambda: adding("tiny-1", ledger=ledger, workers=1, **EXTENDED[kind]),
        lambda: resuming("tiny-1", ledger=ledger, workers=1),
    )


def trials_of(ledger: Path) -> list[tuple[object, ...]]:
    """Return what of the trials must not depend on kills."""
    with Ledger.open(ledger) as opened:
        assert opened.search("tiny-1").state == "finished"
        return [
            (t.trial_id, t.round, t.role, t.config_id, t.seed, t.state, t.metrics["val_loss"])
            for t in opened.trials("tiny-1")
        ]


@pytest.fixture(scope="module")
def undisturbed(ended: Path) -> dict[str, list[tuple[object, ...]]]:
    for kind, adding in (("search", extend), ("study", extend_study)):
        shutil.copy(ended / f"{kind}.db", ended / f"{kind}-extended.db")
        adding("tiny-1", ledger=ended / f"{kind}-extended.db", workers=1, **EXTENDED[kind])
    return {kind: trials_of(ended / f"{kind}-extended.db") for kind in EXTENDED}


@pytest.mark.parametrize("write", FIRST_WRITES)
@pytest.mark.parametrize("add", ["search", "study"], indirect=True)
def test_a_kill_loses_no_trial_and_adds_none_twice(add, undisturbed, request, write):
    ledger, extending, resuming = add
    kind = request.node.callspec.params["add"]
    with killed_before_write(write) as writes:
        extending()
    assert writes[0] >= write, "the extension ended before it was killed"
    with Ledger.open(ledger) as opened:
        begun = opened.events("tiny-1", "extension")
        assert bool(begun) == (opened.search("tiny-1").state == "running")
    again = resuming if begun and write % 2 else extending  # each does after some of the kills
    again()
    assert trials_of(ledger) == undisturbed[kind]


@pytest.mark.parametrize("add", ["search", "study"], indirect=True)
def test_of_two_who_extend_at_once_one_is_refused(add):
    ledger, *_ = add
    with Ledger.open(ledger) as opened:
        seen = opened.search("tiny-1")
        opened.reopen_search("tiny-1", "extension", [{"number": 9}], if_state=seen.state)
        with pytest.raises(LedgerError, match="was finished a moment ago, but somebody else"):
            opened.reopen_search("tiny-1", "extension", [{"number": 9}], if_state=seen.state)
        assert len(opened.events("tiny-1", "extension")) == 1


@pytest.mark.parametrize("add", ["search"], indirect=True)
def test_a_driver_that_lost_its_job_adds_nothing(add):
    ledger, *_ = add
    with Ledger.open(ledger) as opened:
        with pytest.raises(LedgerError, match="another driver has taken over from attempt 1"):
            opened.reopen_search(
                "tiny-1", "extension", [{}], if_state="finished", of_job=("j-1", 1)
            )
        assert opened.events("tiny-1", "extension") == []
        assert opened.search("tiny-1").state == "finished"
