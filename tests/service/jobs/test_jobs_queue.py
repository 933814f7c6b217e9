"""Who gets how many workers: rules that hold for every queue, and the cases people ask about."""

import itertools
from collections import Counter
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from service.jobs.queue import Decision, QueuedJob, allocate
from service.jobs.records import Quota

PRIORITIES = {"debug": 100, "normal": 50, "sweep": 10}
_numbers = itertools.count()


def a_job(job_id: str = "", **fields: object) -> QueuedJob:
    number = next(_numbers)
    values = {"owner": "ann", "priority": "normal", "queued_unix_s": float(number), "begun": False}
    return QueuedJob(job_id=job_id or f"j{number}", **{**values, **fields})


def share(*jobs: QueuedJob, total: float = 4, **options: object) -> dict[str, Decision]:
    given_ = {"quotas": {}, "used_kwh": {}, "priorities": PRIORITIES, **options}
    return allocate(jobs, workers_total=total, **given_)


def workers(*jobs: QueuedJob, **options: object) -> list[int]:
    decisions = share(*jobs, **options)
    return [decisions[job.job_id].allowed_workers for job in jobs]


job_lists = st.lists(
    st.builds(
        lambda **fields: a_job(**{**fields, "begun": fields["begun"] or fields["stopping"]}),
        owner=st.sampled_from(["ann", "bob", "eve"]),
        priority=st.sampled_from([*PRIORITIES, "unheard of"]),
        begun=st.booleans(),
        stopping=st.sampled_from([False, False, False, True]),
        workers_wanted=st.integers(1, 5),
        workers_busy=st.integers(0, 5),
        remaining_s=st.none() | st.floats(0, 1e4),
    ),
    max_size=12,
)
some_quotas = st.dictionaries(
    st.sampled_from(["ann", "bob"]),
    st.builds(
        Quota,
        max_workers=st.none() | st.integers(0, 4),
        max_jobs=st.none() | st.integers(0, 4),
        kwh_per_month=st.none() | st.sampled_from([1.0, 3.0]),
    ),
)


@settings(max_examples=60, deadline=None)
@given(jobs=job_lists, total=st.integers(0, 8), quotas=some_quotas)
def test_rules_of_every_queue(jobs: list[QueuedJob], total: int, quotas: dict[str, Quota]) -> None:
    used = {"ann": 2.0, "bob": 0.0}
    decisions = share(*jobs, total=total, quotas=quotas, used_kwh=used)
    allowed = {job.job_id: decisions[job.job_id].allowed_workers for job in jobs}
    assert set(decisions) == {job.job_id for job in jobs}
    assert sum(allowed.values()) <= total
    held, begun = Counter(), Counter()
    for job in jobs:
        held[job.owner] += allowed[job.job_id]
        begun[job.owner] += job.begun
        assert 0 <= allowed[job.job_id] <= job.workers_wanted
        assert (decisions[job.job_id].position is None) == job.begun
        if allowed[job.job_id] < job.workers_wanted and not job.stopping:
            assert decisions[job.job_id].waits_because
    for owner, quota in quotas.items():
        if quota.max_workers is not None:
            assert held[owner] <= quota.max_workers
        new = [j for j in jobs if j.owner == owner and not j.begun and allowed[j.job_id]]
        if quota.max_jobs is not None:
            assert not new or begun[owner] + len(new) <= quota.max_jobs
        if quota.kwh_per_month is not None and used[owner] >= quota.kwh_per_month:
            assert not any(allowed[j.job_id] for j in jobs if j.owner == owner and not j.stopping)


@settings(max_examples=50, deadline=None)
@given(jobs=job_lists, total=st.integers(0, 8))
def test_without_quotas_nobody_waits_for_a_lower_class_or_for_nothing(
    jobs: list[QueuedJob], total: int
) -> None:
    """A worker goes to a lower class only where every higher job has all that it wants."""
    decisions = share(*jobs, total=total)
    live = [job for job in jobs if not job.stopping]

    def rank(job: QueuedJob) -> float:
        return PRIORITIES.get(job.priority, -1)

    def has(job: QueuedJob) -> int:
        return decisions[job.job_id].allowed_workers

    hungry = [job for job in live if has(job) < job.workers_wanted]
    if hungry:
        assert sum(d.allowed_workers for d in decisions.values()) == total  # no worker lies idle
        highest = max(map(rank, hungry))
        assert not any(has(job) for job in live if rank(job) < highest)
    for job in live:  # what has begun keeps one worker, unless a higher class has them
        if job.begun and not has(job):
            rivals = [other for other in live if rank(other) == rank(job)]
            assert all(has(other) <= 1 for other in rivals)
            assert not any(has(other) for other in rivals if not other.begun)


class TestCases:
    def test_a_higher_class_takes_what_it_wants_and_gives_it_back(self) -> None:
        low = a_job(workers_wanted=4, begun=True, workers_busy=4, priority="sweep")
        high = a_job(workers_wanted=3, priority="debug")
        assert workers(low) == [4]
        assert workers(low, high) == [1, 3]
        assert workers(low, replace(high, begun=True, workers_wanted=8)) == [0, 4]
        assert "1 job of a higher class" in share(low, high)[low.job_id].waits_because
        assert workers(low) == [4]

    def test_owners_of_one_class_share_alike(self) -> None:
        ann = a_job(workers_wanted=8, begun=True)
        bob = a_job(workers_wanted=8, owner="bob")
        later = a_job(workers_wanted=8)
        assert workers(ann, bob, later) == [2, 2, 0]

    def test_of_ones_own_jobs_the_first_is_served_first(self) -> None:
        first, second = a_job(workers_wanted=3), a_job(workers_wanted=3)
        assert workers(first, second) == [3, 1]
        assert workers(first, replace(second, begun=True)) == [1, 3]

    def test_reasons_name_quota_and_numbers(self) -> None:
        running, waits = a_job(begun=True), a_job()
        for quota, words in (
            (Quota(max_jobs=1), "`ann` has 1 of 1 jobs running"),
            (Quota(max_workers=1), "`ann` may hold 1 workers at a time"),
            (Quota(kwh_per_month=2), "`ann` has used 2.5 of 2 kWh this month"),
        ):
            decisions = share(running, waits, quotas={"ann": quota}, used_kwh={"ann": 2.5})
            assert words in decisions[waits.job_id].waits_because

    def test_energy_used_up_pauses_what_runs(self) -> None:
        decisions = share(
            a_job("r", begun=True), quotas={"ann": Quota(kwh_per_month=1)}, used_kwh={"ann": 1.0}
        )
        assert decisions["r"].allowed_workers == 0

    def test_workers_of_other_shapes(self) -> None:
        big = a_job(workers_wanted=5, cpus_per_worker=1.5)
        gpu = a_job(workers_wanted=2, gpus_per_worker=1.0, owner="bob")
        decisions = share(big, gpu, total=4, gpus_total=0)
        assert decisions[big.job_id].allowed_workers == 2
        assert "1 GPUs, but the cluster has 4 and 0" in decisions[gpu.job_id].waits_because
        assert workers(big, gpu, total=4, gpus_total=1) == [2, 1]

    def test_what_is_stopping_keeps_only_what_still_saves(self) -> None:
        saving = a_job(begun=True, stopping=True, workers_wanted=4, workers_busy=1)
        urgent = a_job(workers_wanted=4, priority="debug")
        assert workers(saving, urgent) == [1, 3]

    def test_starts_are_estimated_by_who_ends_first(self) -> None:
        """Two run for 100 s and 30 s more; three wait, of 50, 20 and unknown length."""
        running = [a_job(begun=True, remaining_s=s, owner=f"u{s}") for s in (100.0, 30.0)]
        waiting = [a_job(remaining_s=s) for s in (50.0, 20.0, None)]
        last = [a_job(), a_job()]
        decisions = share(*running, *waiting, *last, total=2, now_unix_s=1000.0)
        found = [decisions[job.job_id] for job in (*waiting, *last)]
        assert [d.position for d in found] == [1, 2, 3, 4, 5]
        assert [d.estimated_start_unix_s for d in found] == [1030.0, 1080.0, 1100.0, 1100.0, None]


def test_a_thousand_waiting_jobs_are_shared_out_in_one_go() -> None:
    """Every job gets a place; the order is that of arrival."""
    jobs = [a_job(owner=f"u{n % 40}", workers_wanted=2) for n in range(1200)]
    decisions = share(*jobs, total=64)
    assert sum(d.allowed_workers for d in decisions.values()) == 64
    assert [decisions[job.job_id].position for job in jobs] == list(range(1, 1201))
