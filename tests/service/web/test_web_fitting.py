"""Laws are fitted elsewhere: the service answers meanwhile, and shows the last law it has."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import Future

import httpx
import pytest
from study_in_ledger import BUDGETS, add_points, add_study, finished_study

from service.child_process import start_child
from service.energy import Site
from service.jobs.manager import JobManager
from service.jobs.settings import ServiceSettings
from service.jobs.testing import FakeBackend
from service.ledger import Ledger
from service.web.app import create_app
from service.web.fitting import FittingPool, Question, StudyLook
from service.web.studies import RETRY_AFTER_S, StudyBoard
from trainers.errors import DataError, ScalingError, WorkerError

SITE = Site()


class SlowFitter:
    """Fits nothing until it is told to."""

    def __init__(self) -> None:
        self.asked: list[tuple[Question, Future[StudyLook]]] = []

    def ask(self, question: Question) -> Future[StudyLook]:
        self.asked.append((question, Future()))
        return self.asked[-1][1]

    def close(self) -> None:
        pass

    def finish(self, num_points: int) -> StudyLook:
        """Answer the last question."""
        look = StudyLook(
            num_points=num_points, recipes=(), study=None, analysis=None, why_no_law="too few"
        )
        self.asked[-1][1].set_result(look)
        return look


@pytest.fixture
def ledger(tmp_path):
    with Ledger.open(tmp_path / "isoflop.db") as ledger:
        yield ledger


@pytest.fixture
def slow() -> SlowFitter:
    return SlowFitter()


@pytest.fixture
def board(ledger, slow) -> StudyBoard:
    return StudyBoard(ledger, SITE, slow, patience_s=0.05)


def running_study(ledger: Ledger) -> str:
    study_id = add_study(ledger)
    add_points(ledger, study_id, BUDGETS[:1])
    return study_id


def test_other_requests_are_answered_while_a_law_is_being_fitted(tmp_path, ledger, slow):
    study_id = running_study(ledger)
    settings = ServiceSettings(storage={"path": str(tmp_path / "runs")})
    app = create_app(JobManager(ledger, FakeBackend(), settings), ledger, settings, slow)

    async def ask() -> None:
        transport = httpx.ASGITransport(app=app, client=("127.0.0.1", 5000))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            base = f"/api/v1/studies/{study_id}"
            views = [
                asyncio.create_task(client.get(base))
                for _ in range(60)  # more than there are threads for requests
            ]
            while not slow.asked:
                await asyncio.sleep(0.01)
            health, points = await client.get("/healthz"), await client.get(f"{base}/points")
            assert not any(view.done() for view in views)
            assert (health.status_code, len(points.json()["items"])) == (200, 5)
            slow.finish(5)
            assert {(await view).json()["num_points"] for view in views} == {5}

    asyncio.run(asyncio.wait_for(ask(), 60))
    assert len(slow.asked) == 1


def test_the_last_law_is_shown_with_its_time_until_the_next_is_there(ledger, slow, board):
    study_id = running_study(ledger)
    ledger.update_search(study_id, state="finished", finished_unix_s=1e9)
    record = ledger.search(study_id)

    async def look_twice() -> StudyLook:
        waiting = asyncio.create_task(board.look(record))
        while not slow.asked:
            await asyncio.sleep(0.01)
        first = slow.finish(5)
        assert await waiting is first
        assert await board.look(record) is first  # nothing has changed
        return first

    first = asyncio.run(look_twice())
    assert first.is_latest
    add_points(ledger, study_id, BUDGETS[1:2])
    meanwhile = asyncio.run(board.look(record))
    assert (meanwhile.num_points, meanwhile.is_latest) == (5, False)
    assert meanwhile.fitted_unix_s == first.fitted_unix_s <= time.time()
    assert len(slow.asked) == 2
    last = slow.finish(10)
    assert asyncio.run(board.look(record)) is last
    assert len(slow.asked) == 2


def test_a_running_study_is_fitted_once_in_a_while(ledger, slow, board):
    study_id = running_study(ledger)
    record = ledger.search(study_id)

    async def first() -> None:
        waiting = asyncio.create_task(board.look(record))
        while not slow.asked:
            await asyncio.sleep(0.01)
        slow.finish(5)
        await waiting

    asyncio.run(first())
    add_points(ledger, study_id, BUDGETS[1:2])
    early = asyncio.run(board.look(record))
    assert (early.num_points, early.is_latest, len(slow.asked)) == (5, False, 1)
    board._refit_every_s = 0.0
    asyncio.run(board.look(record))
    assert len(slow.asked) == 2


def test_a_fit_that_failed_keeps_the_last_law_and_is_not_tried_at_once(
    ledger, slow, board, monkeypatch
):
    study_id = running_study(ledger)
    record = ledger.search(study_id)
    monkeypatch.setattr(board, "_refit_every_s", 0.0)

    async def failing() -> None:
        waiting = asyncio.create_task(board.look(record))
        while not slow.asked:
            await asyncio.sleep(0.01)
        slow.asked[-1][1].set_exception(WorkerError("it took too long"))
        with pytest.raises(WorkerError, match="too long"):
            await waiting
        with pytest.raises(WorkerError, match="too long"):
            await board.look(record)

    asyncio.run(failing())
    assert len(slow.asked) == 1
    monkeypatch.setattr("service.web.studies.RETRY_AFTER_S", 0.0)

    async def better() -> None:
        waiting = asyncio.create_task(board.look(record))
        while len(slow.asked) < 2:
            await asyncio.sleep(0.01)
        slow.finish(5)
        await waiting

    asyncio.run(better())
    monkeypatch.setattr("service.web.studies.RETRY_AFTER_S", RETRY_AFTER_S)
    add_points(ledger, study_id, BUDGETS[1:2])
    asyncio.run(board.look(record))
    slow.asked[-1][1].set_exception(WorkerError("it took too long"))
    assert asyncio.run(board.look(record)).num_points == 5
    assert len(slow.asked) == 3


def test_errors_come_back_from_the_process_as_they_are(ledger, fitter):
    study_id = finished_study(ledger)
    question = Question(ledger_url=ledger.url, study_id=study_id, recipe="other", site=SITE)
    with pytest.raises(DataError, match="recipe"):
        fitter.ask(question).result(60)


QUICK_CHILD = """
import pickle
from service.child_process import own_pipes, read_frame, write_frame
from trainers.errors import ScalingError
questions, answers = own_pipes()
while read_frame(questions):
    write_frame(answers, pickle.dumps(ScalingError("too few points")))
"""


def test_a_process_that_takes_too_long_is_replaced(ledger, tmp_path, monkeypatch):
    (tmp_path / "quick_child.py").write_text(QUICK_CHILD)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(
        "service.web.fitting.start_child", lambda module: start_child("quick_child")
    )
    question = Question(ledger_url=ledger.url, study_id="law-1", recipe=None, site=SITE)
    hurried = FittingPool(1, within_s=0.0)
    try:
        with pytest.raises(WorkerError, match="not fitted within 0 s"):
            hurried.ask(question).result(60)
        [process] = hurried._all
        process._within_s = 60.0
        for _ in range(2):
            with pytest.raises(ScalingError, match="too few points"):
                hurried.ask(question).result(60)
        process._child.kill()
        process._child.wait()
        with pytest.raises(ScalingError, match="too few points"):
            hurried.ask(question).result(60)
    finally:
        hurried.close()
    assert process._child is None
