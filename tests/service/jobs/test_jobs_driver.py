"""The process behind a job: the same search as from the command line, and an end for every case."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from service import open_search, run_search
from service.jobs import driver
from service.jobs.allowance import JobAllowance
from service.jobs.backend import Run
from service.jobs.manager import JobManager
from service.jobs.records import JobRecord, UserRecord
from service.jobs.settings import ServiceSettings
from service.jobs.testing import FakeBackend
from service.ledger import Ledger
from trainers.errors import ChangedError, ConfigError, LedgerError, MissingError, WorkerError

ANN = UserRecord(user_id="ann", role="submitter")
ROOT = Path(__file__).parents[3]
TINY = {
    "name": "tiny",
    "data": {"name": "digits", "num_train": 200},
    "model": {"depth": 1, "width": 16},
    "train": {"epochs": 3, "batch_size": 50},
    "space": {"optimizer.lr": {"log_uniform": [1e-3, 1e-1]}},
    "rounds": [{"sampler": "sobol", "trials": 4}],
    "finalists": {"trials": 1, "seeds": 2},
    "recipe": {"checks": False},
    "resources": {"max_workers": 1},
}
LONGER = {
    **TINY,
    "train": {"epochs": 400, "batch_size": 50},
    "resources": {"max_workers": 1, "save_every_epochs": 10},
}


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ledger]:
    monkeypatch.setenv("ISOFLOP_STORAGE", str(tmp_path / "runs"))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with Ledger.open(tmp_path / "isoflop.db") as ledger:
        yield ledger


def put_job(ledger: Ledger, spec: dict[str, object] = TINY, **fields: object) -> JobRecord:
    known = {
        "job_id": "j-1", "owner": "ann", "kind": "search", "action": {"run": {}}, "name": "tiny",
        "project": "", "spec": spec, "priority": "normal", "state": "starting", "attempt": 1,
        "workers_allowed": 1,
    }  # fmt: skip
    return ledger.create_job(JobRecord(**{**known, **fields}))  # type: ignore[arg-type]


class TestOneAttempt:
    def test_it_runs_the_search_that_the_command_line_would(
        self, ledger: Ledger, tmp_path: Path
    ) -> None:
        put_job(ledger)
        assert driver.run_attempt(ledger, "j-1", 1) == 0
        job = ledger.job("j-1")
        assert (job.state, job.exit_code, job.search_id) == ("finished", 0, "tiny-1")
        assert job.heartbeat_unix_s is not None
        search = ledger.search("tiny-1")
        assert search.owner == "ann"
        assert search.out_dir == str(tmp_path / "runs" / "tiny-1")
        alone = run_search(TINY, workers=1, ledger=tmp_path / "b.db", out=tmp_path / "b")
        mine = ledger.curves_frame("tiny-1")
        assert mine["val_loss"].tolist() == alone.curves()["val_loss"].tolist()

    def test_a_search_that_cannot_work_fails_with_its_reason(self, ledger: Ledger) -> None:
        put_job(ledger, {**TINY, "data": {"name": "nowhere"}})
        with pytest.raises(ConfigError, match="nowhere"):
            driver.run_attempt(ledger, "j-1", 1)
        job = ledger.job("j-1")
        assert (job.state, job.exit_code, job.search_id) == ("failed", 2, None)
        assert "nowhere" in job.reason

    @pytest.mark.parametrize(
        ("error", "state"),
        [
            (WorkerError("Ray ended"), "running"),
            (LedgerError("it cannot be reached"), "running"),
            (ChangedError("code changed"), "failed"),
            (MissingError("no search"), "failed"),
        ],
    )
    def test_what_may_pass_is_left_for_another_attempt(
        self, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, error: Exception, state: str
    ) -> None:
        def fails(*_: object) -> str:
            raise error

        put_job(ledger)
        monkeypatch.setattr(driver, "_work", fails)
        with pytest.raises(type(error)):
            driver.run_attempt(ledger, "j-1", 1)
        assert (ledger.job("j-1").state, ledger.job("j-1").reason) == (state, str(error))

    def test_an_attempt_that_was_overtaken_does_nothing(self, ledger: Ledger) -> None:
        put_job(ledger, attempt=2)
        assert driver.run_attempt(ledger, "j-1", 1) == 130
        assert ledger.searches() == []
        assert ledger.job("j-1").state == "starting"

    def test_stop_saves_and_resume_and_extend_go_on(self, ledger: Ledger) -> None:
        """Asked before its first epoch: nothing is trained, and nothing is lost."""
        put_job(ledger, state="starting")
        real = JobAllowance.orders

        def stopping(self: JobAllowance) -> object:
            ledger.update_job("j-1", state="stopping")
            return real(self)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(JobAllowance, "orders", stopping)
            assert driver.run_attempt(ledger, "j-1", 1) == 130
        assert ledger.job("j-1").state == "stopped"
        assert ledger.search("tiny-1").state == "interrupted"
        put_job(ledger, job_id="j-2", action={"resume": "tiny-1"}, search_id="tiny-1")
        assert driver.run_attempt(ledger, "j-2", 1) == 0
        put_job(ledger, job_id="j-3", action={"extend": "tiny-1", "trials": 2}, search_id="tiny-1")
        assert driver.run_attempt(ledger, "j-3", 1) == 0
        searches = [t for t in ledger.trials("tiny-1") if t.role == "search"]
        assert len(searches) == 6
        [added] = ledger.events("tiny-1", "extension")
        assert added.payload["job_id"] == "j-3"
        # The job's next attempt, after a kill at its very end, finds that and adds nothing.
        ledger.update_job("j-3", state="starting", attempt=2)
        assert driver.run_attempt(ledger, "j-3", 2) == 0
        assert ledger.events("tiny-1", "extension") == [added]
        assert [search.search_id for search in ledger.searches()] == ["tiny-1"]

    def test_what_the_cluster_ends_is_left_for_the_manager(self, ledger: Ledger) -> None:
        put_job(ledger)
        ledger.create_search(name="tiny", spec={}, seed=0, of_job=("j-1", 1))
        ledger.update_search("tiny-1", state="interrupted", reason="SIGTERM")
        ledger.update_job("j-1", state="running")
        job = ledger.job("j-1")
        assert driver._record_end(ledger, job, 1, "tiny-1") == 130
        assert ledger.job("j-1").state == "running"


class TestFindingTheLedger:
    def test_by_environment_or_file(self, tmp_path: Path) -> None:
        (tmp_path / "url").write_text("a.db\n")
        assert driver.ledger_url({"ISOFLOP_LEDGER": "b.db"}) == "b.db"
        assert driver.ledger_url({"ISOFLOP_LEDGER_FILE": str(tmp_path / "url")}) == "a.db"

    def test_bad_input_is_explained(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with pytest.raises(ConfigError, match="not by hand"):
            driver.ledger_url({})
        with pytest.raises(ConfigError, match="readable file"):
            driver.ledger_url({"ISOFLOP_LEDGER_FILE": str(tmp_path / "none")})
        assert driver.main(["j-1"]) == driver.main(["j-1", "one"]) == 2
        monkeypatch.setenv("ISOFLOP_LEDGER", str(tmp_path / "none.db"))
        assert driver.main(["j-1", "1"]) == 2
        assert "there is no ledger" in capsys.readouterr().err


def test_orders_are_asked_for_once_a_second(ledger: Ledger) -> None:
    put_job(ledger, state="running", workers_allowed=3)
    now = [100.0]
    allowance = JobAllowance(ledger, "j-1", 1, most=2, clock=lambda: now[0])
    assert allowance.workers(3) == 3
    assert allowance.num_busy == 2
    ledger.update_job("j-1", workers_allowed=1, state="stopping")
    assert (allowance.workers(2), allowance.reason_to_stop()) == (3, "")
    now[0] += 1.0
    assert (allowance.workers(2), allowance.reason_to_stop()) == (1, "its job was asked to stop")
    ledger.update_job("j-1", reason="stopped by ada on a page")
    now[0] += 1.0
    assert allowance.reason_to_stop() == "stopped by ada on a page"
    ledger.update_job("j-1", attempt=2)
    now[0] += 1.0
    assert "attempt 2 of job j-1 has taken over" in allowance.reason_to_stop()


class ProcessCluster(FakeBackend):
    """A cluster of one machine without Ray: drivers are real processes."""

    def __init__(self, folder: Path) -> None:
        super().__init__(python=sys.executable)
        self.folder = folder
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, submission_id, entrypoint, env):
        if submission_id in self.processes:
            return
        super().start(submission_id, entrypoint, env)
        inherited = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
        with (self.folder / f"{submission_id}.log").open("wb") as log:
            self.processes[submission_id] = subprocess.Popen(
                shlex.split(entrypoint), stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                env={**inherited, **env, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
                start_new_session=True,
            )  # fmt: skip

    def status(self, submission_id):
        process = self.processes.get(submission_id)
        if process is None:
            return Run(state="unknown")
        code = process.poll()
        if code is None:
            return Run(state="running")
        return Run(state="failed" if code else "succeeded", exit_code=code)

    def stop(self, submission_id):
        self.processes[submission_id].send_signal(signal.SIGTERM)

    def list(self):
        return {name: self.status(name) for name in self.processes}

    def logs(self, submission_id):
        return (self.folder / f"{submission_id}.log").read_text()

    def close(self):
        for process in self.processes.values():
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.mark.long
def test_a_driver_that_is_killed_is_resumed_and_nothing_is_trained_twice(tmp_path: Path) -> None:
    """SIGKILL twice, in the middle of training; then the tables of a search nobody disturbed."""
    ledger = Ledger.open(tmp_path / "isoflop.db")
    cluster = ProcessCluster(tmp_path)
    settings = ServiceSettings.from_mapping({"storage": {"path": str(tmp_path / "runs")}})
    manager = JobManager(ledger, cluster, settings)
    try:
        job = manager.submit(ANN, LONGER)
        kills, deadline = 0, time.monotonic() + 240
        while not ledger.job(job.job_id).has_ended and time.monotonic() < deadline:
            manager.tick()
            now = ledger.job(job.job_id)
            if now.search_id is not None and now.state == "running" and kills < 2:
                done = sum(row.epochs_done for row in ledger.progress(now.search_id))
                if done > 200 * (kills + 1):
                    os.killpg(cluster.processes[str(now.submission_id)].pid, signal.SIGKILL)
                    kills += 1
            time.sleep(0.1)
        manager.tick()
        ended = ledger.job(job.job_id)
        assert (ended.state, ended.attempt, kills) == ("finished", 3, 2), ended
        text = manager.log(job.job_id, 0).text
        assert [f"attempt {n} of job" in text for n in (1, 2, 3)] == [True] * 3
        alone = run_search(LONGER, workers=1, ledger=tmp_path / "b.db", out=tmp_path / "b")
        mine = open_search("tiny-1", ledger=ledger.url)
        curves, expected = mine.curves(), alone.curves()
        assert not curves.duplicated(["trial_id", "epoch"]).any()
        for column in ("trial_id", "epoch", "val_loss", "lr"):
            assert curves[column].tolist() == expected[column].tolist()
        assert mine.record.test_looks == 1
        assert len(ledger.searches()) == 1
    finally:
        cluster.close()
        ledger.close()
