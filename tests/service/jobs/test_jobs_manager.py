"""The service's jobs over a cluster that the test moves on by hand."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from service.jobs import reconcile
from service.jobs.backend import Run
from service.jobs.energy_use import MonthlyUse
from service.jobs.environment import driver_environment
from service.jobs.manager import JobManager
from service.jobs.records import JobRecord, Quota, UserRecord
from service.jobs.settings import ServiceSettings
from service.jobs.testing import FakeBackend
from service.ledger import Ledger
from service.ledger.service_schema import jobs
from service.ledger.store import insert_new, row_of
from service.ledger.testing_records import trial_record
from trainers.errors import ConfigError, JobError, MissingError

ANN = UserRecord(user_id="ann", role="submitter")
BOB = UserRecord(user_id="bob", role="submitter")
EVE = UserRecord(user_id="eve", role="viewer")
ADMIN = UserRecord(user_id="root", role="admin")
SPEC = {
    "name": "small",
    "project": "p",
    "train": {"epochs": 2},
    "space": {"optimizer.lr": [0.1, 0.01]},
    "rounds": [{"sampler": "grid"}],
    "resources": {"max_workers": 2},
}


class Service:
    """A manager, its ledger and its cluster, with a clock that the test turns."""

    def __init__(self, folder: Path, **settings: object) -> None:
        self.ledger = Ledger.open(folder / "isoflop.db")
        self.cluster = FakeBackend()
        self.settings = ServiceSettings.from_mapping({"storage": {"path": str(folder)}, **settings})
        self.manager = JobManager(self.ledger, self.cluster, self.settings)
        self.ahead_s = 0.0
        self.restart()

    def restart(self) -> None:
        """End the service as a kill would, and start another one over the same ledger."""
        self.manager = JobManager(self.ledger, self.cluster, self.settings)
        self.manager._scheduler._clock = lambda: time.time() + self.ahead_s

    def submit(self, user: UserRecord = ANN, **options: object) -> JobRecord:
        return self.manager.submit(user, SPEC, **options)  # type: ignore[arg-type]

    def job(self, job: JobRecord) -> JobRecord:
        return self.ledger.job(job.job_id)

    def run_of(self, job: JobRecord) -> str:
        name = self.job(job).submission_id
        assert name is not None
        return name

    def driver_begins(self, job: JobRecord) -> str:
        """Do what a driver does first: say that it lives, and make its search."""
        self.manager.tick()
        name = self.run_of(job)
        self.cluster.move(name, "running")
        now = self.job(job)
        if now.search_id is None:
            self.ledger.create_search(
                name="small", spec=SPEC, seed=0, owner=now.owner, of_job=(job.job_id, now.attempt)
            )
        self.ledger.update_job(
            job.job_id, state="running", heartbeat_unix_s=time.time() + self.ahead_s
        )
        return name

    def driver_ends(self, job: JobRecord, state: str = "finished") -> None:
        self.ledger.update_job(job.job_id, state=state, finished_unix_s=time.time())
        search_id = self.job(job).search_id
        if search_id is not None:
            self.ledger.update_search(search_id, state=state)
        self.cluster.move(self.run_of(job), "succeeded")


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    made = Service(tmp_path)
    yield made
    made.ledger.close()


class TestSubmitting:
    def test_a_job_is_started_under_our_own_id_and_ends(self, service: Service) -> None:
        job = service.submit()
        assert (job.state, job.workers_wanted, job.owner) == ("queued", 2, "ann")
        service.driver_begins(job)
        assert service.job(job).workers_allowed == 2
        service.driver_ends(job)
        service.manager.tick()
        assert service.job(job).state == "finished"
        assert [started[0] for started in service.cluster.started] == [f"{job.job_id}-1"]

    def test_the_command_holds_ids_only_and_no_ledger(self, service: Service) -> None:
        """Whatever the spec's author wrote into it."""
        service.manager.submit(ANN, {**SPEC, "project": "$(touch /tmp/x); `id` ' \" &&"})
        service.manager.tick()
        ((name, entrypoint, environment),) = service.cluster.started
        job_id = name.rpartition("-")[0]
        assert shlex.split(entrypoint) == ["python", "-m", "service.jobs.driver", job_id, "1"]
        assert environment["ISOFLOP_LEDGER"] == service.ledger.url
        assert "touch" not in entrypoint + str(environment)

    def test_a_url_from_a_file_is_passed_on_as_the_file(self, tmp_path: Path) -> None:
        secret = tmp_path / "url"
        secret.write_text("postgresql://u:password@h/d\n")
        settings = ServiceSettings.from_mapping({"ledger": {"url_file": str(secret)}})
        with Ledger.open(tmp_path / "a.db") as ledger:
            environment = driver_environment(ledger, settings)
        assert environment["ISOFLOP_LEDGER_FILE"] == str(secret)
        assert "ISOFLOP_LEDGER" not in environment

    def test_one_key_makes_one_job(self, service: Service) -> None:
        first, again = (service.submit(idempotency_key="k") for _ in range(2))
        assert first == again
        assert service.submit(BOB, idempotency_key="k").job_id != first.job_id
        with pytest.raises(JobError, match=f"used for another one, which made job {first.job_id}"):
            service.manager.submit(ANN, {**SPEC, "seed": 5}, idempotency_key="k")
        with pytest.raises(ConfigError, match="1 to 200 characters"):
            service.submit(idempotency_key="")

    def test_what_breaks_a_rule_is_refused_and_leaves_nothing(self, service: Service) -> None:
        with pytest.raises(JobError, match="`eve` is a viewer and may not submit"):
            service.submit(EVE)
        with pytest.raises(ConfigError, match=r"debug, normal, sweep.*'norml'; did you mean"):
            service.submit(priority="norml")
        with pytest.raises(ConfigError, match="unknown key"):
            service.manager.submit(ANN, {**SPEC, "optimiser": {}})
        with pytest.raises(ConfigError, match="hosts that an admin allowed"):
            service.submit(webhook_url="http://169.254.169.254/latest")
        assert service.ledger.jobs() == []

    def test_a_preview_shows_plan_quota_and_place(self, service: Service) -> None:
        service.submit()
        service.driver_begins(service.submit(priority="debug"))
        user = UserRecord(user_id="ann", role="submitter", quota=Quota(max_jobs=1, max_workers=1))
        preview = service.manager.preview(user, SPEC).to_mapping()
        assert preview["rounds"][0]["trials"] == 2
        assert preview["quota"] == {"max_workers": 1, "max_jobs": 1}
        assert preview["used"] == {"max_jobs": 2, "max_workers": 4, "kwh_per_month": 0}
        assert preview["position"] == 1
        assert any("gets 1 at most" in text for text in preview["warnings"])
        assert preview["estimate"] is None

    def test_a_preview_estimates_time_and_energy_where_asked(self, service: Service) -> None:
        found = service.manager.preview(ANN, SPEC, estimate=True).to_mapping()["estimate"]
        assert found["seconds"] > 0
        assert found["kwh"] > 0
        assert service.submit().estimated_s == found["seconds"]


class TestQueue:
    def test_priorities_act_on_running_work(self, service: Service) -> None:
        """The debug job takes two of the four workers at once; they come back when it ends."""
        service.manager.tick()  # the cluster is seen: a job that names no number wants all of it
        low = service.manager.submit(ANN, {**SPEC, "resources": {}}, priority="sweep")
        service.driver_begins(low)
        assert service.job(low).workers_allowed == 4
        high = service.submit(BOB, priority="debug")
        service.driver_begins(high)
        assert [service.job(job).workers_allowed for job in (low, high)] == [2, 2]
        service.driver_ends(high)
        service.manager.tick()
        assert service.job(low).workers_allowed == 4

    def test_place_reason_and_estimated_start(self, service: Service) -> None:
        service.ledger.create_user("ann", quota=Quota(max_jobs=1))
        first, second = service.submit(), service.submit()
        service.driver_begins(first)
        service.manager.tick()
        place = service.manager.place_of(second.job_id)
        assert place is not None
        assert (place.position, place.allowed_workers) == (1, 0)
        assert "`ann` has 1 of 1 jobs running" in place.waits_because
        service.driver_ends(first)
        service.manager.tick()
        assert service.job(second).state == "starting"

    def test_energy_quota_of_the_month_holds_back(self, service: Service) -> None:
        """By the ledger's accounts of the owner's searches, whoever started them."""
        service.ledger.create_user("ann", quota=Quota(kwh_per_month=1.0))
        service.manager._scheduler._use = MonthlyUse(service.ledger, lambda *_: 0.6)
        for _ in range(2):
            made = service.ledger.create_search(name="x", spec={}, seed=0, owner="ann")
            service.ledger.open_span(
                made.search_id, host="h", boot_id="b", pid=1, started_s=0.0,
                started_unix_s=time.time(),
            )  # fmt: skip
        job = service.submit()
        service.manager.tick()
        place = service.manager.place_of(job.job_id)
        assert place is not None
        assert "has used 1.2 of 1 kWh this month" in place.waits_because
        assert service.job(job).state == "queued"
        assert service.submit(BOB).job_id
        service.manager.tick()
        assert len(service.cluster.started) == 1

    def test_a_cluster_that_is_away_changes_nothing(self, service: Service) -> None:
        running, waits = service.submit(), service.submit(BOB)
        service.driver_begins(running)
        before = service.job(running)
        service.cluster.away = True
        service.manager.tick()
        assert service.job(running) == before
        assert not service.manager.cluster().reachable
        service.cluster.away = False
        service.manager.tick()
        assert service.job(waits).state == "starting"


class TestReconciling:
    def test_a_service_killed_between_record_and_submission_submits(self, service: Service) -> None:
        job = service.submit()
        service.cluster.start = lambda *_: None  # type: ignore[method-assign]
        service.manager.tick()
        assert (service.job(job).state, service.cluster.started) == ("starting", [])
        del service.cluster.start  # type: ignore[method-assign]
        service.restart()
        service.manager.tick()
        assert [started[0] for started in service.cluster.started] == [f"{job.job_id}-1"]

    def test_a_submission_whose_answer_was_lost_is_not_made_twice(self, service: Service) -> None:
        job = service.submit()
        service.manager.tick()
        service.restart()
        for _ in range(3):
            service.manager.tick()
        assert len(service.cluster.started) == 1
        assert service.job(job).attempt == 1

    def test_a_driver_that_died_is_resumed_a_few_times_and_then_failed(
        self, service: Service
    ) -> None:
        job = service.submit()
        for attempt in range(1, reconcile.MAX_ATTEMPTS + 1):
            name = service.driver_begins(job)
            assert name == f"{job.job_id}-{attempt}"
            service.cluster.move(name, "failed", message="killed by signal 9", exit_code=-9)
            service.manager._scheduler._reconcile()
            reason = service.job(job).reason
            assert "ended with exit code -9, without a word: killed by signal 9" in reason
        assert service.job(job).state == "failed"
        assert len(service.ledger.searches()) == 1
        service.manager.tick()
        assert len(service.cluster.started) == reconcile.MAX_ATTEMPTS

    def test_a_driver_that_says_why_it_ended_is_quoted(self, service: Service) -> None:
        job = service.submit()
        name = service.driver_begins(job)
        service.ledger.update_job(job.job_id, reason="Ray ended while the search ran")
        service.cluster.move(name, "failed", exit_code=2)
        service.manager._scheduler._reconcile()
        assert "exit code 2, Ray ended while the search ran; it is resumed" in (
            service.job(job).reason
        )
        service.manager.tick()
        assert service.job(job).reason == ""

    def test_jobs_of_a_cluster_that_was_started_anew_are_resumed(self, service: Service) -> None:
        job = service.submit()
        service.driver_begins(job)
        service.cluster.forget()
        service.manager.tick()
        assert (service.job(job).attempt, service.job(job).state) == (2, "starting")
        assert service.job(job).search_id is not None

    @pytest.mark.parametrize(
        ("state", "run", "limit_s"),
        [
            ("starting", "pending", reconcile.PENDING_LIMIT_S),
            ("starting", "running", reconcile.FIRST_WORD_LIMIT_S),
            ("running", "running", reconcile.SILENT_LIMIT_S),
        ],
    )
    def test_what_is_stuck_is_ended_and_tried_again(
        self, service: Service, state: str, run: str, limit_s: float
    ) -> None:
        job = service.submit()
        service.manager.tick()
        service.ledger.update_job(job.job_id, state=state)
        name = service.run_of(job)
        service.cluster.move(name, run)
        service.ahead_s = limit_s - 5
        service.manager.tick()
        assert service.cluster.stopped == []
        service.ahead_s = limit_s + 5
        service.manager.tick()
        assert service.cluster.stopped == [name]
        assert service.job(job).submission_id == f"{job.job_id}-2"

    def test_what_nobody_wants_is_ended_and_others_jobs_are_left_alone(
        self, service: Service
    ) -> None:
        job = service.submit()
        name = service.driver_begins(job)
        service.cluster.runs |= {
            f"{job.job_id}-7": Run(state="running"),
            "j-aaaaaaaa-1": Run(state="running"),  # another service's
            "somebody-elses": Run(state="running"),
        }
        service.ahead_s = 60.0
        service.manager.tick()
        assert service.cluster.stopped == [f"{job.job_id}-7"]
        service.ledger.update_job(job.job_id, state="failed", finished_unix_s=time.time())
        service.ahead_s = 200.0
        service.manager.tick()
        assert service.cluster.stopped == [f"{job.job_id}-7", name]


class TestStoppingAndGoingOn:
    def test_stop_asks_through_the_ledger_first_and_by_signal_after_a_while(
        self, service: Service
    ) -> None:
        job = service.submit()
        name = service.driver_begins(job)
        search_id = service.job(job).search_id
        assert search_id is not None
        for _ in range(2):  # twice is once
            assert service.manager.stop(ANN, job.job_id, "on a page").state == "stopping"
        assert service.ledger.stop_requested(search_id)
        [asked] = service.ledger.events(search_id, "stop_requested")
        assert asked.payload == {"by": "by ann on a page"}
        service.manager.tick()
        assert service.cluster.stopped == []
        service.ahead_s = reconcile.STOP_PATIENCE_S + 5
        service.manager.tick()
        assert service.cluster.stopped == [name]
        service.manager.tick()
        stopped = service.job(job)
        assert (stopped.state, stopped.workers_allowed) == ("stopped", 0)
        assert stopped.reason == "stopped by ann on a page; what was saved can be resumed"
        assert service.manager.stop(ANN, job.job_id).state == "stopped"

    def test_a_waiting_job_is_cancelled_or_stopped_at_once(self, service: Service) -> None:
        first, second = service.submit(), service.submit()
        assert service.manager.cancel(ANN, first.job_id).state == "cancelled"
        assert service.manager.stop(ANN, second.job_id).state == "cancelled"
        service.manager.tick()
        assert service.cluster.started == []
        third = service.submit()
        service.manager.tick()
        with pytest.raises(JobError, match=r"is starting; stop it"):
            service.manager.cancel(ANN, third.job_id)

    def test_resume_goes_on_with_the_same_search(self, service: Service) -> None:
        job = service.submit()
        service.driver_begins(job)
        with pytest.raises(JobError, match=f"{job.job_id} is running with `small-1`"):
            service.manager.resume(ANN, job.job_id)
        service.driver_ends(job, "stopped")
        again = service.manager.resume(ANN, job.job_id)
        assert (again.search_id, again.action["resume"]) == ("small-1", "small-1")
        with pytest.raises(JobError, match="one job at a time"):
            service.manager.resume(ANN, job.job_id)
        service.driver_begins(again)
        assert len(service.ledger.searches()) == 1
        service.driver_ends(again)
        with pytest.raises(JobError, match="`small-1` has finished; add to it"):
            service.manager.resume(ANN, again.job_id)

    def test_extend_adds_to_what_has_finished(self, service: Service) -> None:
        job = service.submit()
        with pytest.raises(JobError, match="is queued and has no search"):
            service.manager.extend(ANN, job.job_id, trials=3)
        service.driver_begins(job)
        service.driver_ends(job, "stopped")
        with pytest.raises(JobError, match="`small-1` is stopped; finish it first"):
            service.manager.extend(ANN, job.job_id, trials=3)
        service.ledger.update_search("small-1", state="finished")
        with pytest.raises(ConfigError):
            service.manager.extend(ANN, job.job_id)
        again = service.manager.extend(ANN, job.job_id, trials=3)
        assert dict(again.action) == {"extend": "small-1", "trials": 3, "accept_changes": False}

    def test_one_trial_is_stopped_by_its_owner_while_it_runs(self, service: Service) -> None:
        job = service.submit()
        service.driver_begins(job)
        service.ledger.add_trials("small-1", [trial_record(0)])
        with pytest.raises(JobError, match="`bob` is a submitter and may not stop trials"):
            service.manager.stop_trial(BOB, "small-1", 0)
        with pytest.raises(MissingError, match="no trial '7'"):
            service.manager.stop_trial(ANN, "small-1", 7)
        service.manager.stop_trial(ANN, "small-1", 0)
        assert [stop.trial_id for stop in service.ledger.trial_stops("small-1")] == [0]
        service.driver_ends(job)
        with pytest.raises(JobError, match="`small-1` is finished"):
            service.manager.stop_trial(ADMIN, "small-1", 0)

    @pytest.mark.parametrize("action", ["stop", "cancel", "resume", "extend"])
    def test_only_owners_and_admins_change_jobs(self, service: Service, action: str) -> None:
        job = service.submit()
        with pytest.raises(JobError, match=r"`bob` is a submitter and may not .* to ann"):
            getattr(service.manager, action)(BOB, job.job_id)
        with pytest.raises(MissingError, match="no job 'j-x'"):
            getattr(service.manager, action)(ADMIN, "j-x")


class TestLogs:
    def test_a_tail_misses_nothing_over_restarts_retries_and_the_end_of_the_cluster(
        self, service: Service
    ) -> None:
        job = service.submit()
        name = service.driver_begins(job)
        read, offset = "", 0

        def tail() -> bool:
            nonlocal read, offset
            piece = service.manager.log(job.job_id, offset)
            read, offset = read + piece.text, piece.next_offset
            return piece.ended

        for printed in ("one\n", "one\ntwo é", "one\ntwo été\nthr"):
            service.cluster.printed[name] = printed
            service.manager.tick()
            assert not tail()
            service.restart()
        assert read == "one\ntwo été\n"  # whole lines while it runs
        service.cluster.printed[name] += "ee"
        service.cluster.move(name, "failed")
        service.manager.tick()
        name = service.driver_begins(job)
        service.cluster.printed[name] = "second attempt\n"
        service.manager.tick()
        assert not tail()
        service.cluster.printed[name] += "done\n"
        service.driver_ends(job)
        service.manager.tick()
        service.cluster.forget()
        while not tail():
            pass
        assert read == "one\ntwo été\nthreesecond attempt\ndone\n"

    def test_a_long_log_is_cut_and_says_so(
        self, service: Service, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("service.jobs.logs.copy_log.__kwdefaults__", {"max_bytes": 2048})
        job = service.submit()
        name = service.driver_begins(job)
        for lines in (100, 300, 900):
            service.cluster.printed[name] = "0123456789\n" * lines
            service.manager.tick()
        service.driver_ends(job)
        service.manager.tick()
        text = service.manager.log(job.job_id, 0).text
        assert "[the log is cut here, at 2 kB" in text
        assert text.count("cut here") == 1
        assert len(text) < 2200


def test_a_turn_with_a_thousand_waiting_jobs_starts_what_fits(service: Service) -> None:
    record = service.submit()
    others = [
        replace(record, job_id=f"j-{n}", owner=f"u{n % 50}", queued_unix_s=float(n), spec=SPEC)
        for n in range(1000)
    ]
    with service.ledger._writing() as connection:
        insert_new(connection, jobs, [row_of(other) for other in others])
    service.manager.tick()
    assert len(service.cluster.started) == 4
    place = service.manager.place_of("j-999")
    assert place is not None
    assert place.position == 1000


def test_a_thread_takes_turns_and_survives_a_ledger_that_is_away(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.jobs.manager.TURN_EVERY_S", 0.01)

    class Flaky(FakeBackend):
        def cluster(self):
            self.cpus += 1
            if self.cpus == 6:  # in the first turn of the thread
                raise sa.exc.OperationalError("", {}, Exception("gone"))
            return super().cluster()

    flaky = Flaky()
    manager = JobManager(service.ledger, flaky, service.settings)
    job = service.submit()
    manager.start()
    deadline = time.monotonic() + 30
    while service.job(job).state == "queued" and time.monotonic() < deadline:
        time.sleep(0.05)
    manager.close()
    assert service.job(job).state == "starting"
