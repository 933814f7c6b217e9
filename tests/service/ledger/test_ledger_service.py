"""Users, tokens, jobs, logs and the audit, on both databases."""

import fnmatch
import hashlib
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.jobs.records import JobRecord, Quota, UserRecord
from service.ledger import Ledger
from service.ledger.testing_records import new_search, trial_record
from trainers.errors import ConfigError, LedgerError


@pytest.fixture(params=["sqlite", "postgres"])
def ledger(request: pytest.FixtureRequest) -> Iterator[Ledger]:
    with Ledger.open(request.getfixturevalue(f"{request.param}_url")) as ledger:
        yield ledger


def a_job(job_id: str, **fields: object) -> JobRecord:
    values = {
        "owner": "ann", "kind": "search", "action": {"run": {}}, "name": "demo", "project": "p",
        "spec": {"name": "demo", "lr": float("inf")}, "priority": "normal", "created_unix_s": 1.0,
    }  # fmt: skip
    return JobRecord(job_id=job_id, **{**values, **fields})


class TestUsers:
    def test_a_user_comes_back_as_made_and_changed(self, ledger: Ledger) -> None:
        made = ledger.create_user(
            "ann@x.org", "viewer", projects=["vision/*"], quota=Quota(max_workers=3)
        )
        assert ledger.user("ann@x.org") == made
        changed = ledger.update_user("ann@x.org", role="admin", quota=Quota(kwh_per_month=1.5))
        assert ledger.users() == [changed]
        assert (changed.role, changed.projects) == ("admin", ("vision/*",))
        assert changed.quota == Quota(kwh_per_month=1.5)

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            ({"user_id": "ann", "role": "boss"}, r"one of viewer, submitter, admin.*'boss'"),
            ({"user_id": "a b"}, r"letters, digits .*'a b'"),
            ({"user_id": "x" * 101}, "1 to 100"),
            ({"user_id": "local"}, "none of local"),
            ({"user_id": "ann", "projects": ["[a-z]*"]}, "no brackets"),
            ({"user_id": "taken"}, "'taken' exists"),
        ],
    )
    def test_bad_users_are_refused(
        self, ledger: Ledger, arguments: dict[str, str], says: str
    ) -> None:
        ledger.create_user("taken")
        with pytest.raises(ConfigError, match=says):
            ledger.create_user(**arguments)
        assert [user.user_id for user in ledger.users()] == ["taken"]

    def test_unknown_users_are_named_with_those_there_are(self, ledger: Ledger) -> None:
        ledger.create_user("ann")
        for call in (ledger.user, ledger.add_token, ledger.update_user):
            with pytest.raises(LedgerError, match="no user 'bob'; it has ann"):
                call("bob")
        with pytest.raises(LedgerError, match="no field 'colour'"):
            ledger.update_user("ann", colour=1)

    @pytest.mark.parametrize(
        ("quota", "says"),
        [({"max_wokers": 1}, "did you mean `max_workers`"), ({"max_jobs": -1}, "number >= 0")],
    )
    def test_bad_quotas_are_refused(self, quota: dict[str, int], says: str) -> None:
        with pytest.raises(ConfigError, match=says):
            Quota.from_mapping(quota)


class TestTokens:
    def test_a_token_opens_the_door_until_it_is_revoked(self, ledger: Ledger) -> None:
        ann = ledger.create_user("ann")
        record, token = ledger.add_token("ann", "laptop")
        assert token.startswith(f"iso_{record.token_id}_")
        assert ledger.user_of_token(token) == ann
        ledger.revoke_token(record.token_id)
        assert ledger.user_of_token(token) is None
        again = ledger.revoke_token(record.token_id)
        assert again.revoked_unix_s == ledger.tokens("ann")[0].revoked_unix_s is not None

    def test_the_secret_is_nowhere_in_the_database(self, ledger: Ledger) -> None:
        ledger.create_user("ann")
        _, token = ledger.add_token("ann")
        secret = token.split("_", 2)[2]
        with ledger._reading() as connection:
            row = str(connection.execute(sa.text("SELECT * FROM tokens")).all())
        assert secret not in row
        assert hashlib.sha256(secret.encode()).hexdigest() in row
        assert len(secret) >= 43  # 256 bits in base 64

    def test_what_is_no_valid_token_opens_nothing(self, ledger: Ledger) -> None:
        ledger.create_user("ann")
        record, token = ledger.add_token("ann")
        _, other = ledger.add_token("ann")
        mixed = f"iso_{record.token_id}_{other.split('_', 2)[2]}"
        for wrong in ("", "iso", "iso__", "iso_x_y", token[:-1], token + "x", mixed, token[4:]):
            assert ledger.user_of_token(wrong) is None

    def test_expired_tokens_and_disabled_users_are_refused(self, ledger: Ledger) -> None:
        ledger.create_user("ann")
        _, short = ledger.add_token("ann", expires_unix_s=1000.0)
        assert ledger.user_of_token(short, now_unix_s=999.9) is not None
        assert ledger.user_of_token(short, now_unix_s=1000.0) is None
        _, lasting = ledger.add_token("ann")
        ledger.update_user("ann", disabled=True)
        assert ledger.user_of_token(lasting) is None

    def test_last_use_is_written_once_a_minute(self, ledger: Ledger) -> None:
        ledger.create_user("ann")
        _, token = ledger.add_token("ann")
        seen = []
        for now in (100.0, 130.0, 159.9, 160.0):
            ledger.user_of_token(token, now_unix_s=now)
            seen.append(ledger.tokens()[0].last_used_unix_s)
        assert seen == [100.0, 100.0, 100.0, 160.0]


class TestSessions:
    def test_a_browser_is_signed_in_until_it_signs_out(self, ledger: Ledger) -> None:
        ann = ledger.create_user("ann")
        session, cookie = ledger.open_session("ann", lifetime_s=60.0)
        assert ledger.user_of_session(cookie) == (ann, session)
        assert ledger.user_of_session("other") is None
        ledger.close_session(cookie)
        ledger.close_session(cookie)
        assert ledger.user_of_session(cookie) is None

    @pytest.mark.parametrize("end", ["expired", "disabled", "revoked"])
    def test_sessions_end_with_what_they_stand_on(self, ledger: Ledger, end: str) -> None:
        ledger.create_user("ann")
        record, _ = ledger.add_token("ann")
        _, cookie = ledger.open_session("ann", lifetime_s=0.0 if end == "expired" else 60.0)
        if end == "disabled":
            ledger.update_user("ann", disabled=True)
        if end == "revoked":
            ledger.revoke_token(record.token_id)
        assert ledger.user_of_session(cookie) is None


class TestJobs:
    def test_a_job_comes_back_as_it_was_made(self, ledger: Ledger) -> None:
        made = ledger.create_job(a_job("j-1", action={"extend": "s-1", "trials": 3}))
        assert ledger.job("j-1") == made
        with pytest.raises(LedgerError, match="no job 'j-2'; it has j-1"):
            ledger.job("j-2")

    def test_one_key_makes_one_job_for_each_owner(self, ledger: Ledger) -> None:
        """Eight threads at once: a client that sends its request again makes nothing new."""
        made: list[str] = []

        def submit(number: int) -> None:
            record = a_job(f"j-{number}", idempotency_key="k", owner=f"u{number % 2}")
            made.append(ledger.create_job(record).job_id)

        threads = [threading.Thread(target=submit, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(ledger.jobs()) == 2 == len(set(made))
        assert ledger.create_job(a_job("j-x")).job_id == "j-x"
        assert ledger.create_job(a_job("j-y")).job_id == "j-y"  # without a key: another job

    def test_of_two_that_move_a_job_on_one_does(self, ledger: Ledger) -> None:
        ledger.create_job(a_job("j-1"))
        won = [ledger.update_job("j-1", if_state="queued", state=to) for to in ("starting", "x")]
        assert won == [True, False]
        assert ledger.job("j-1").state == "starting"
        assert not ledger.update_job("j-1", if_attempt=3, reason="late")
        assert not ledger.update_job("j-9", reason="unknown")
        with pytest.raises(LedgerError, match="no field 'colour'"):
            ledger.update_job("j-1", colour=1)
        with pytest.raises(LedgerError, match="no field 'owner'"):
            ledger.update_job("j-1", owner="eve")

    def test_pages_follow_each_other_without_gap_or_repeat(self, ledger: Ledger) -> None:
        """Jobs of the same instant too; the order of the whole is that of the pages."""
        for number in range(11):
            ledger.create_job(a_job(f"j-{number:02}", created_unix_s=float(number // 4)))
        seen: list[str] = []
        before = None
        while page := ledger.jobs(limit=3, before=before):
            seen += [job.job_id for job in page]
            before = seen[-1]
        assert seen == [f"j-{number:02}" for number in reversed(range(11))]

    def test_lists_are_narrowed_by_every_condition(self, ledger: Ledger) -> None:
        ledger.create_job(a_job("j-1", state="running", search_id="s-1"))
        ledger.create_job(a_job("j-2", owner="bob", project="q", log_open=True))
        ledger.create_job(a_job("j-3", owner="bob", state="finished"))

        def ids(**conditions: object) -> list[str]:
            return [job.job_id for job in ledger.jobs(**conditions)]  # type: ignore[arg-type]

        assert ids(owner="bob") == ["j-3", "j-2"]
        assert ids(owner="bob", states=["queued"]) == ["j-2"] == ids(project="q")
        assert ids(search_id="s-1") == ["j-1"]
        assert [job.job_id for job in ledger.live_jobs()] == ["j-1", "j-2"]
        assert [job.job_id for job in ledger.jobs_with_open_log()] == ["j-2"]
        assert set(ledger.known_jobs(["j-3", "j-7"])) == {"j-3"}

    @settings(
        max_examples=12,
        deadline=None,
        suppress_health_check=[
            HealthCheck.function_scoped_fixture,
            HealthCheck.differing_executors,
        ],
    )
    @given(
        pattern=st.text("aA%_!*?/.-", min_size=1, max_size=6),
        role=st.sampled_from(["viewer", "submitter", "admin"]),
    )
    def test_a_user_lists_exactly_what_he_may_read(
        self, ledger: Ledger, pattern: str, role: str
    ) -> None:
        """The query's patterns are those of `fnmatch`, letter case included."""
        projects = ["a", "A", "a/A", "%", "_", "a_a", "aXa", "a.a", "", "!a", "-/-"]
        for number, project in enumerate(projects):
            owner = "ann" if project == "A" else "bob"
            ledger.create_job(a_job(f"j-{number}", project=project, owner=owner))
        ann = UserRecord(user_id="ann", role=role, projects=(pattern,))  # type: ignore[arg-type]
        expected = {
            p for p in projects if role == "admin" or p == "A" or fnmatch.fnmatchcase(p, pattern)
        }
        assert {job.project for job in ledger.jobs(readable_by=ann)} == expected

    def test_a_driver_reads_its_orders(self, ledger: Ledger) -> None:
        ledger.create_job(a_job("j-1", state="running", attempt=2, workers_allowed=3))
        orders = ledger.job_orders("j-1")
        assert (orders.attempt, orders.state, orders.workers_allowed) == (2, "running", 3)
        with pytest.raises(LedgerError, match="no job 'j-9'"):
            ledger.job_orders("j-9")

    def test_a_job_is_told_its_search_once_and_with_it(self, ledger: Ledger) -> None:
        """A driver that lost its place makes no second search."""
        ledger.create_job(a_job("j-1", attempt=2))
        of = {"name": "demo", "spec": {}, "seed": 0}
        with pytest.raises(LedgerError, match="another driver has taken over"):
            ledger.create_search(**of, of_job=("j-1", 1))  # type: ignore[arg-type]
        assert ledger.searches() == []
        made = ledger.create_search(**of, owner="ann", of_job=("j-1", 2))  # type: ignore[arg-type]
        assert ledger.job("j-1").search_id == made.search_id == "demo-1"
        assert made.owner == "ann"
        with pytest.raises(LedgerError, match="made once for each job"):
            ledger.create_search(**of, of_job=("j-1", 2))  # type: ignore[arg-type]

    def test_searches_worked_on_are_found_by_owner_and_time(self, ledger: Ledger) -> None:
        for owner in ("ann", "ann", "bob"):
            made = ledger.create_search(name="demo", spec={}, seed=0, owner=owner)
            ended = 50.0 if made.search_id == "demo-1" else 10.0
            span = {"host": "h", "boot_id": "b", "pid": 1, "started_s": 0.0}
            ledger.open_span(made.search_id, **span, started_unix_s=100.0)  # type: ignore[arg-type]
            ledger.extend_span(made.search_id, 0, ended)
        assert ledger.searches_worked_on("ann", 150.0) == ["demo-1"]
        assert ledger.searches_worked_on("ann", 0.0) == ["demo-1", "demo-2"]
        assert ledger.searches_worked_on("eve", 0.0) == []


class TestTrialStops:
    def test_a_stop_is_asked_once(self, ledger: Ledger) -> None:
        search_id = new_search(ledger)
        ledger.add_trials(search_id, [trial_record(i) for i in range(3)])
        for who in ("ann", "bob"):
            ledger.request_trial_stop(search_id, 2, who)
        (stop,) = ledger.trial_stops(search_id)
        assert (stop.trial_id, stop.requested_by) == (2, "ann")
        with pytest.raises(LedgerError, match="no trial '9'; it has 0, 1, 2"):
            ledger.request_trial_stop(search_id, 9, "ann")
        with pytest.raises(LedgerError, match="no search 'x'"):
            ledger.request_trial_stop("x", 0, "ann")


class TestLogs:
    @settings(
        max_examples=12,
        deadline=None,
        suppress_health_check=[
            HealthCheck.function_scoped_fixture,
            HealthCheck.differing_executors,
        ],
    )
    @given(
        texts=st.lists(st.text("aé漢😀\n", max_size=12), min_size=1, max_size=3),
        data=st.data(),
    )
    def test_a_reader_that_comes_back_misses_nothing_and_sees_nothing_twice(
        self, ledger: Ledger, texts: list[str], data: st.DataObject
    ) -> None:
        """However the log was copied, and however much is read at a time."""
        ledger.create_job(a_job("j-1"))
        with ledger._writing() as connection:
            connection.execute(sa.text("DELETE FROM job_logs"))
        for attempt, text in enumerate(texts, start=1):
            copied = 0
            while copied < len(text):
                end = data.draw(st.integers(copied + 1, len(text)))
                start = data.draw(st.integers(0, copied))  # some of it once more
                at_byte = len(text[:start].encode())
                ledger.append_log("j-1", attempt, text[start:end], at_byte=at_byte)
                copied = end
            assert ledger.log_bytes("j-1", attempt) == len(text.encode())
        whole, read, offset = "".join(texts), "", 0
        assert ledger.log_bytes("j-1") == len(whole.encode())
        limit = data.draw(st.integers(4, 20))
        while True:
            piece, offset = ledger.read_log("j-1", offset=offset, limit_bytes=limit)
            if not piece:
                break
            assert len(piece.encode()) <= limit
            read += piece
        assert read == whole

    def test_text_that_belongs_further_on_is_not_put_into_the_gap(self, ledger: Ledger) -> None:
        ledger.create_job(a_job("j-1"))
        assert ledger.append_log("j-1", 1, "later", at_byte=10) == 0
        assert ledger.read_log("j-1") == ("", 0)


def test_audit_is_read_newest_first_page_by_page(ledger: Ledger) -> None:
    for number in range(5):
        who = "ann" if number % 2 else "bob"
        ledger.audit(who, "stop", f"j-{number}", outcome="refused", detail={"n": number})
    first = ledger.audit_events(limit=3)
    assert [event.target for event in first] == ["j-4", "j-3", "j-2"]
    rest = ledger.audit_events(limit=3, before=first[-1].event_id)
    assert [event.target for event in rest] == ["j-1", "j-0"]
    assert [event.target for event in ledger.audit_events(user_id="ann")] == ["j-3", "j-1"]
    assert ledger.audit_events(action="start") == []
    assert replace(rest[-1], event_id=0, unix_s=0.0).detail == {"n": 0}
