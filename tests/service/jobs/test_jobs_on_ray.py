"""A Ray head of our own, reached by its Jobs API, with real drivers and real searches."""

from __future__ import annotations

import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from service import open_search, run_search
from service.jobs.local_cluster import RAY_WORKER_PORTS, LocalBackend, free_ports
from service.jobs.manager import JobManager
from service.jobs.ray_backend import RayBackend
from service.jobs.records import JobRecord, UserRecord
from service.jobs.settings import ServiceSettings
from service.ledger import Ledger
from trainers.errors import ClusterError

ANN = UserRecord(user_id="ann", role="submitter")
TINY = {
    "name": "tiny",
    "data": {"name": "digits", "num_train": 200},
    "model": {"depth": 1, "width": 16},
    "train": {"epochs": 3, "batch_size": 50},
    "space": {"optimizer.lr": {"log_uniform": [1e-3, 1e-1]}},
    "rounds": [{"sampler": "sobol", "trials": 4}],
    "finalists": {"trials": 0},
    "recipe": {"checks": False},
    "resources": {"max_workers": 1},
}
LONG = {
    **TINY,
    "name": "long",
    "train": {"epochs": 600, "batch_size": 50},
    "rounds": [{"sampler": "sobol", "trials": 16}],
    "resources": {"max_workers": 2, "save_every_epochs": 20},
}
SWEEP = {
    **LONG,
    "name": "sweep",
    "train": {"epochs": 100, "batch_size": 50},
    "rounds": [{"sampler": "sobol", "trials": 16}] * 40,
}
"""Many short stretches of training, so that workers can change hands."""


class Service:
    """A manager over a cluster, with a ledger in a file."""

    def __init__(self, folder: Path, cluster: RayBackend) -> None:
        self.cluster = cluster
        self.ledger = Ledger.open(folder / "isoflop.db")
        self.settings = ServiceSettings.from_mapping({"storage": {"path": str(folder / "runs")}})
        self.manager = JobManager(self.ledger, cluster, self.settings)

    def until(self, holds: Callable[[], bool], timeout_s: float = 240.0) -> None:
        """Take turns until something holds."""
        deadline = time.monotonic() + timeout_s
        while not holds():
            assert time.monotonic() < deadline, [
                (job.job_id, job.state, job.reason, self.manager.log(job.job_id, 0).text[-3000:])
                for job in self.ledger.jobs()
            ]
            self.manager.tick()
            time.sleep(0.3)

    def job(self, job: JobRecord) -> JobRecord:
        return self.ledger.job(job.job_id)

    def epochs(self, job: JobRecord) -> int:
        search_id = self.job(job).search_id
        if search_id is None:
            return 0
        return sum(row.epochs_done for row in self.ledger.progress(search_id))


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalBackend]:
    os.environ["RAY_ADDRESS"] = "http://192.0.2.1:1"  # would override the address if it stayed
    backend = LocalBackend(cpus=2)
    yield backend
    backend.close()


@pytest.fixture
def service(tmp_path: Path, cluster: LocalBackend) -> Iterator[Service]:
    made = Service(tmp_path, cluster)
    yield made
    for name, run in cluster.list().items():
        if run.state in ("pending", "running"):
            cluster.stop(name)
    made.ledger.close()


def test_a_job_runs_on_the_cluster_to_its_end(service: Service, tmp_path: Path) -> None:
    """With its log, its search and its numbers in the ledger, and every door behind a token."""
    job = service.manager.submit(ANN, TINY)
    service.until(lambda: service.job(job).has_ended and not service.job(job).log_open)
    ended = service.job(job)
    assert (ended.state, ended.attempt, ended.exit_code) == ("finished", 1, 0)
    text = service.manager.log(job.job_id, 0).text
    assert f"attempt 1 of job {job.job_id}" in text
    assert "has finished" in text
    assert service.ledger.url not in text

    # The same id again starts nothing, and says so without a traceback.
    name = str(ended.submission_id)
    service.cluster.start(name, "false", {})
    assert service.cluster.status(name).state == "succeeded"
    assert set(service.cluster.list()) >= {name}
    assert service.cluster.status("j-unknown-1").state == "unknown"
    assert service.cluster.logs("j-unknown-1") == ""
    service.cluster.stop("j-unknown-1")

    view = service.cluster.cluster()
    assert (view.reachable, view.cpus, len(view.nodes)) == (True, 2.0, 1)
    assert urlsplit(service.cluster._address).hostname == "127.0.0.1"
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"{service.cluster._address}/api/jobs/", timeout=20)
    stranger = RayBackend(service.cluster._address)
    with pytest.raises(ClusterError, match="does not answer as it should"):
        stranger.list()
    token_file = service.cluster._folder / "token"  # type: ignore[attr-defined]
    assert token_file.stat().st_mode & 0o777 == 0o600

    mine = open_search(str(ended.search_id), ledger=service.ledger.url)
    assert mine.trials()["state"].tolist() == ["complete"] * 4
    assert mine.record.out_dir == str(tmp_path / "runs" / "tiny-1")


@pytest.mark.long
def test_stop_saves_and_resume_goes_on_where_it_stopped(service: Service, tmp_path: Path) -> None:
    job = service.manager.submit(ANN, LONG)
    service.until(lambda: service.epochs(job) > 500)
    service.manager.stop(ANN, job.job_id)
    service.until(lambda: service.job(job).has_ended)
    stopped = service.job(job)
    assert stopped.state == "stopped"
    done = service.epochs(job)
    assert 500 < done < 16 * 600
    again = service.manager.resume(ANN, job.job_id)
    service.until(lambda: service.job(again).has_ended, 500)
    assert (service.job(again).state, service.job(again).search_id) == (
        "finished", stopped.search_id,
    )  # fmt: skip
    mine = open_search(str(stopped.search_id), ledger=service.ledger.url)
    curves = mine.curves()
    assert not curves.duplicated(["trial_id", "epoch"]).any()
    alone = run_search(LONG, workers=1, ledger=tmp_path / "b.db", out=tmp_path / "b")
    assert curves["val_loss"].tolist() == pytest.approx(alone.curves()["val_loss"].tolist())


@pytest.mark.long
def test_a_higher_class_gets_the_next_free_worker_and_gives_it_back(service: Service) -> None:
    """A sweep on both workers; a debug job on one of them; then the sweep on both again."""
    low = service.manager.submit(ANN, SWEEP, priority="sweep")
    service.until(lambda: service.job(low).workers_busy == 2)
    before = service.epochs(low)
    one = {**TINY, "name": "urgent"}
    high = service.manager.submit(ANN, one, priority="debug")
    service.until(lambda: service.job(high).workers_allowed == 1)
    assert service.job(low).workers_allowed == 1
    service.until(lambda: service.job(high).has_ended)
    assert service.job(high).state == "finished"
    assert not service.job(low).has_ended
    service.until(lambda: service.job(low).workers_busy == 2)
    assert service.epochs(low) > before
    service.until(lambda: service.job(low).has_ended, 500)
    ended = service.job(low)
    assert (ended.state, ended.attempt) == ("finished", 1)  # nothing was killed for it
    curves = open_search(str(ended.search_id), ledger=service.ledger.url).curves()
    assert not curves.duplicated(["trial_id", "epoch"]).any()


@pytest.mark.long
def test_jobs_outlive_the_service_and_its_cluster(tmp_path: Path) -> None:
    """The head is ended under a running job; a new service with a new head resumes it."""
    first = LocalBackend(cpus=2)
    try:
        service = Service(tmp_path, first)
        job = service.manager.submit(ANN, SWEEP)
        service.until(lambda: service.epochs(job) > 300)
        service.manager.tick()
    finally:
        first.close()
    service.ledger.close()
    second = LocalBackend(cpus=2)
    try:
        service = Service(tmp_path, second)
        before = service.epochs(job)
        service.until(lambda: service.job(job).has_ended, 600)
        ended = service.job(job)
        assert (ended.state, ended.attempt) == ("finished", 2)
        assert before > 300
        text = service.manager.log(job.job_id, 0).text
        assert "attempt 1 of job" in text
        assert "attempt 2 of job" in text
        curves = open_search(str(ended.search_id), ledger=service.ledger.url).curves()
        assert not curves.duplicated(["trial_id", "epoch"]).any()
    finally:
        second.close()
        service.ledger.close()


def test_ports_are_free_and_none_of_rays_workers() -> None:
    ports = free_ports(5)
    assert len(set(ports)) == 5
    assert not set(ports) & set(RAY_WORKER_PORTS)


def test_a_cluster_that_is_not_there_is_told_in_one_line() -> None:
    backend = RayBackend(f"http://127.0.0.1:{free_ports(1)[0]}")
    view = backend.cluster()
    assert not view.reachable
    assert "\n" not in view.why_not
    with pytest.raises(ClusterError, match="check that its head runs, and the token"):
        backend.status("j-a-1")
