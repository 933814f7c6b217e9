"""Scaling studies as jobs: admitted, previewed, run, resumed and extended like searches."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.jobs import driver
from service.jobs.admission import admit
from service.jobs.allowance import JobAllowance
from service.jobs.manager import JobManager
from service.jobs.records import JobRecord, UserRecord
from service.jobs.settings import AllowSettings, ServiceSettings
from service.jobs.testing import FakeBackend
from service.ledger import Ledger
from service.ledger.jobs import JobOrders
from service.scaling.spec import StudySpec, plan_study, study_points
from trainers.errors import ConfigError, JobError

ANN = UserRecord(user_id="ann", role="submitter")
FACTORY = "evil_lib.nets:make"
TINY: dict[str, Any] = {
    "kind": "study",
    "name": "tiny",
    "project": "vision/plates",
    "data": {"name": "digits"},
    "model": {"kind": "mlp", "depth": 1},
    "optimizer": {"kind": "momentum", "lr": 0.05},
    "train": {"batch_size": 16},
    "sizes": {"model.width": [4, 8]},
    "budgets_flops": [2e5, 5e5],
    "limits": {"min_updates": 2, "max_passes": 50},
    "resources": {"max_workers": 1},
}


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ledger]:
    monkeypatch.setenv("ISOFLOP_STORAGE", str(tmp_path / "runs"))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with Ledger.open(tmp_path / "isoflop.db") as ledger:
        yield ledger


@pytest.fixture
def manager(ledger: Ledger, tmp_path: Path) -> JobManager:
    settings = ServiceSettings.from_mapping({"storage": {"path": str(tmp_path / "runs")}})
    manager = JobManager(ledger, FakeBackend(), settings)
    manager.tick()
    return manager


def begin(manager: JobManager, ledger: Ledger, job: JobRecord) -> int:
    """Let the queue start a job, and do what its driver would do; return the exit code."""
    manager.tick()
    assert ledger.job(job.job_id).state == "starting"
    return driver.run_attempt(ledger, job.job_id, ledger.job(job.job_id).attempt)


def test_a_study_runs_as_a_job_and_is_extended(
    manager: JobManager, ledger: Ledger, tmp_path: Path
) -> None:
    job = manager.submit(ANN, {**TINY, "verify": {"flops": 1e6}})
    assert (job.kind, job.name, job.project) == ("study", "tiny", "vision/plates")
    assert begin(manager, ledger, job) == 0
    job = ledger.job(job.job_id)
    assert (job.state, job.search_id) == ("finished", "tiny-1")
    study = ledger.search("tiny-1")
    assert (study.kind, study.owner) == ("study", "ann")
    assert study.out_dir == str(tmp_path / "runs" / "tiny-1")
    assert len(study_points(ledger, "tiny-1")) == 4
    warnings = [str(event.payload["text"]) for event in ledger.events("tiny-1", "warning")]
    assert any(text.startswith("not verified: ") for text in warnings)  # two budgets are too few

    with pytest.raises(JobError, match=r"scale extend .* --budget FLOP"):
        manager.resume(ANN, job.job_id)
    with pytest.raises(ConfigError, match="budgets_flops, sizes, but got `trials`"):
        manager.extend(ANN, job.job_id, trials=2)
    with pytest.raises(ConfigError, match="needs sizes, budgets or seeds to add"):
        manager.extend(ANN, job.job_id)
    with pytest.raises(ConfigError, match="own paths"):
        manager.extend(ANN, job.job_id, sizes={"model.depth": [2]})
    more = manager.extend(ANN, job.job_id, budgets_flops=[1e6])
    assert (more.kind, more.search_id) == ("study", "tiny-1")
    assert begin(manager, ledger, more) == 0
    frame = study_points(ledger, "tiny-1").frame
    assert sorted(frame["budget_flops"].unique()) == [2e5, 5e5, 1e6]
    assert len(frame) == 6
    assert [record.search_id for record in ledger.searches()] == ["tiny-1"]


def test_a_stopped_study_is_resumed_by_its_job_without_repeating_anything(
    manager: JobManager, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = manager.submit(ANN, TINY)
    real = JobAllowance.orders

    def stopping(self: JobAllowance) -> JobOrders:
        ledger.update_job(job.job_id, state="stopping")
        return real(self)

    with monkeypatch.context() as patch:
        patch.setattr(JobAllowance, "orders", stopping)
        assert begin(manager, ledger, job) == 130
    assert ledger.job(job.job_id).state == "stopped"
    assert not any(trial.state == "complete" for trial in ledger.trials("tiny-1"))
    again = manager.resume(ANN, job.job_id)
    assert begin(manager, ledger, again) == 0
    trials = ledger.trials("tiny-1")
    places = [(trial.config_id, trial.seed) for trial in trials]
    assert len(set(places)) == len(places) == 4
    assert {trial.state for trial in trials} == {"complete"}


@pytest.mark.parametrize(
    "named",
    [
        {"model": {"factory": FACTORY}},
        {"sizes": {"model.factory": [FACTORY]}},
        {"compare": {"model.factory": [FACTORY, "torch.nn:Linear"]}},
        {"tune": {"space": {"model.factory": [FACTORY]}}},
    ],
)
def test_factories_of_studies_are_refused_wherever_they_stand(named: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"an admin allowed \(none yet\).*evil_lib"):
        admit({**TINY, **named}, AllowSettings())


def test_other_rules_of_the_network_hold_for_studies() -> None:
    with pytest.raises(ConfigError, match="registered data"):
        admit({**TINY, "data": {"name": "../secret"}}, AllowSettings())
    with pytest.raises(ConfigError, match="may plan 3 trials here, but this one plans 4"):
        admit(TINY, AllowSettings(max_trials=3))
    with pytest.raises(ConfigError, match="sizes"):
        admit({"kind": "study", "budgets_flops": [1e6]}, AllowSettings())


def test_a_preview_counts_what_would_be_trained_and_estimates_it(manager: JobManager) -> None:
    spec = {
        **TINY,
        "optimizer": {"kind": "momentum"},
        "tune": {"trials": 3},
        "seeds": {"default": 1, "near_minimum": 2},
    }
    shown = manager.preview(ANN, spec)
    assert [row["trials"] for row in shown.rounds] == [2 * 1 * 3, 2 * 2 * 2]
    assert shown.estimate is None
    measured = manager.preview(ANN, spec, estimate=True).estimate
    assert measured is not None
    plan = plan_study(StudySpec.from_mapping(spec), workers=1, flops_per_s=1e9)
    assert measured["trials"] == plan.trials
    assert measured["flops"] == pytest.approx(plan.flops)
    assert measured["seconds"] > 0
