"""A session from begin to accounts: with a fake clock, with the real meter, and across kills."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest
from energy_helpers import RealTimeMeter, add_usage, new_search

from service.energy import EnergySession, WindowMaker, accounts
from service.energy.accounts import EnergyAccounts
from service.energy.host_account import host_account
from service.energy.processes import host_name, this_host
from service.energy.session import recover
from service.energy.spool import Member, Spool
from service.energy.testing import FakeClock, FakeMeter, FakeProcesses
from service.energy.windows import Window
from service.ledger import Ledger
from service.messages import Usage

PARTS = ("trials", "padding", "overhead", "idle", "others", "gap")


@pytest.fixture
def ledger(tmp_path):
    with Ledger.open(tmp_path / "ledger.db") as ledger:
        yield ledger


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def processes(clock):
    processes = FakeProcesses(clock)
    processes.run(os.getpid(), cores=0.1)
    processes.run(200, cores=0.9, parent=os.getpid())
    processes.run(900, cores=0.5)
    return processes


def check_closed(account: EnergyAccounts):
    parts = account.parts_kwh()
    assert sum(parts[part] for part in PARTS) == pytest.approx(parts["node"], rel=1e-9)
    assert account.residual < 1e-9
    frame = account.frame()
    assert frame.kwh.sum() == pytest.approx(account.node_kwh, rel=1e-9)
    assert account.per_trial.active_kwh.sum() == pytest.approx(account.trials_kwh, rel=1e-9)
    for trial_id in account.per_trial["trial_id"]:
        row = account.of_trial(trial_id)
        assert row["cost_kwh"] == row["active_kwh"] + row["unmeasured_kwh"]
    assert account.of_trial(10**6) is None


def fake_session(ledger, search_id, clock, processes, **more):
    return EnergySession.begin(
        ledger, search_id, meter=FakeMeter(clock, **more), clock=clock, processes=processes
    )


def usage_of(clock_s, length, busy, pid=200):
    return Usage(
        host=host_name(),
        pid=pid,
        started_s=clock_s,
        ended_s=clock_s + length,
        trial_busy_s=busy,
        padding_s=0.0,
    )


def test_accounts_of_a_search_by_hand(ledger, clock, processes):
    search_id = new_search(ledger)
    session = fake_session(ledger, search_id, clock, processes)
    started_s = clock()
    for _ in range(10):
        clock.advance(1.0)
        session.mark()
        session.flush()
    session.end()
    add_usage(ledger, search_id, [usage_of(started_s, 10.0, {0: 6.0, 1: 2.0})])
    account = accounts(ledger, search_id)
    check_closed(account)
    joules = {name: kwh * 3.6e6 for name, kwh in account.parts_kwh().items()}
    # 80 J active, 1.5 cores busy, 1.0 ours; 8 of the tree's 10 CPU seconds are the trials'.
    assert joules["node"] == pytest.approx(150.0)
    assert joules["trials"] == pytest.approx(80 / 1.5 * 0.8)
    assert joules["overhead"] == pytest.approx(80 / 1.5 * 0.2)
    assert joules["idle"] == pytest.approx(70.0)
    assert joules["others"] == pytest.approx(80 / 3)
    assert session.own_kwh() == pytest.approx(account.own_kwh, rel=1e-9)
    assert account.per_trial.trial_id.tolist() == [0, 1]
    assert account.seconds == pytest.approx(10.0)
    assert account.measured_share == 0.0
    assert account.provenance["meters"] == ["fake"]


def test_a_second_span_goes_on_from_the_first(ledger, clock, processes):
    search_id = new_search(ledger)
    for _ in range(2):
        session = fake_session(ledger, search_id, clock, processes)
        clock.advance(2.0)
        session.end()
        clock.advance(100.0)  # between spans nothing is this search's
    account = accounts(ledger, search_id)
    check_closed(account)
    assert account.node_kwh * 3.6e6 == pytest.approx(60.0)
    assert session.own_kwh() == pytest.approx(account.own_kwh, rel=1e-9)


def test_4_flushing_twice_and_replaying_windows_changes_nothing(ledger, clock, processes):
    search_id = new_search(ledger)
    session = fake_session(ledger, search_id, clock, processes)
    clock.advance(1.0)
    session.flush()
    session.flush()
    session.end()
    session.end()
    (span,) = ledger.spans(search_id)
    before = accounts(ledger, search_id)
    rows = ledger.windows(span.host, span.boot_id, 0, 1e12)
    ledger.put_windows(list(reversed(rows)))
    assert accounts(ledger, search_id).parts_kwh() == before.parts_kwh()


def test_9_a_dead_workers_unreported_work_is_shown_as_wasted(ledger, clock, processes):
    search_id = new_search(ledger)
    session = fake_session(ledger, search_id, clock, processes)
    began_s = clock()
    for _ in range(3):
        clock.advance(1.0)
        session.mark()
    processes.kill(200)
    session.book_lost(host=host_name(), pid=200, trial_ids=[0, 1], since_s=began_s)
    clock.advance(1.0)
    session.end()
    add_usage(ledger, search_id, [usage_of(began_s, 1.0, {0: 0.45, 1: 0.45})])
    account = accounts(ledger, search_id)
    check_closed(account)
    assert account.wasted_kwh == pytest.approx(2 * account.trials_kwh / 3, rel=1e-6)


def test_an_empty_search_has_empty_accounts(ledger):
    account = accounts(ledger, new_search(ledger))
    check_closed(account)
    assert account.node_kwh == account.measured_share == 0.0


# -- the real meter, real processes ------------------------------------------------------------

DRIVER = """
    import pathlib, sys, time
    from service.energy import EnergySession
    from service.energy.testing import FakeClock, FakeMeter
    from service.ledger import Ledger
    from energy_helpers import RealTimeMeter
    ledger_path, search_id, spool, seconds = sys.argv[1:5]
    ledger = Ledger.open(ledger_path)
    session = EnergySession.begin(
        ledger, search_id, meter=RealTimeMeter(), spool=pathlib.Path(spool))
    print("begun", flush=True)
    until = time.monotonic() + float(seconds)
    while time.monotonic() < until:
        session.flush()
        time.sleep(0.1)
        sum(i * i for i in range(100_000))
    session.end()
    print("ended", flush=True)
"""


def start_driver(ledger, search_id, spool, seconds):
    path = ledger.url.removeprefix("sqlite:///")
    here = os.path.dirname(__file__)
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(DRIVER), path, search_id, str(spool), str(seconds)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": here},
        text=True,
    )
    assert process.stdout.readline().strip() == "begun"
    return process


def wait_for_windows(spool, num, within_s=30.0):
    reader, found = Spool(spool).reader(), []
    until = time.monotonic() + within_s
    while len(found) < num and time.monotonic() < until:
        found += [item for item in reader.new() if isinstance(item, Window)]
        time.sleep(0.02)
    assert len(found) >= num
    return found


def test_1_two_real_searches_and_a_strangers_process_on_one_host(ledger, tmp_path):
    spool = tmp_path / "spool"
    ids = [new_search(ledger), new_search(ledger)]
    spin = "import time\nt=time.monotonic()\nwhile time.monotonic()-t<30: pass"
    stranger = subprocess.Popen([sys.executable, "-c", spin])
    try:
        first = start_driver(ledger, ids[0], spool, 4.0)
        wait_for_windows(spool, 1)
        second = start_driver(ledger, ids[1], spool, 1.5)
        assert second.wait(60) == first.wait(60) == 0
    finally:
        stranger.kill()
        stranger.wait()
    spans = {search_id: ledger.spans(search_id) for search_id in ids}
    found = [accounts(ledger, search_id) for search_id in ids]
    for account in found:
        check_closed(account)
        assert account.own_kwh > 0
    edges = [span for own in spans.values() for span in own]
    start, end = min(s.started_s for s in edges), max(s.ended_s for s in edges)
    rows = ledger.windows(edges[0].host, edges[0].boot_id, start, end)
    host = host_account([Window.from_row(row) for row in rows], spans, start, end)
    assert host.residual < 1e-9
    assert host.not_ours_j > 0
    for account in found:
        assert host.own_j[account.search_id] == pytest.approx(account.own_kwh * 3.6e6, rel=1e-9)
    assert found[1].gap_seconds < 1.0  # it joined a meter that ran already
    assert len({row["meter_epoch"] for row in rows}) == 1  # two searches, one meter


def test_9_when_the_meters_holder_is_killed_another_search_takes_over(ledger, tmp_path):
    spool = tmp_path / "spool"
    ids = [new_search(ledger), new_search(ledger)]
    holder = start_driver(ledger, ids[0], spool, 60)
    wait_for_windows(spool, 1)
    other = start_driver(ledger, ids[1], spool, 7)
    before = wait_for_windows(spool, 3)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    killed_s = time.monotonic()
    assert other.wait(60) == 0
    account = accounts(ledger, ids[1])
    check_closed(account)
    (span,) = ledger.spans(ids[1])
    rows = ledger.windows(span.host, span.boot_id, span.started_s, span.ended_s)
    windows = [Window.from_row(row) for row in rows]
    epochs = list(dict.fromkeys(one.meter_epoch for one in windows))
    assert len(epochs) == 2
    assert epochs[0] == before[0].meter_epoch
    last_s = max(one.ended_s for one in windows if one.meter_epoch == epochs[0])
    next_s = min(one.started_s for one in windows if one.meter_epoch == epochs[1])
    assert last_s <= killed_s + 0.2
    gap = [s.piece.seconds for s in account.attribution.shares if s.piece.window is None]
    assert sum(gap) == pytest.approx(next_s - last_s, abs=1.0)
    assert account.gap_kwh > 0  # estimated from the windows beside it


def test_9_a_killed_drivers_last_windows_are_recovered_on_resume(ledger, tmp_path):
    spool, search_id = tmp_path / "spool", new_search(ledger)
    driver = start_driver(ledger, search_id, spool, 60)
    wait_for_windows(spool, 2)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    (span,) = ledger.spans(search_id)
    measured = wait_for_windows(spool, 1)
    recover(ledger, search_id, Spool(spool).reader())
    recover(ledger, search_id, Spool(spool).reader())
    (recovered,) = ledger.spans(search_id)
    assert recovered.ended_s >= max(span.ended_s, max(one.ended_s for one in measured))
    account = accounts(ledger, search_id)
    check_closed(account)
    assert account.num_windows == len(measured)


def test_3_a_second_meter_on_the_host_does_not_start(tmp_path):
    first, second = Spool(tmp_path / "spool"), Spool(tmp_path / "spool")
    assert first.try_lock()
    assert not second.try_lock()
    first.unlock()
    assert second.try_lock()
    first.close()
    second.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_9_a_forked_child_does_not_keep_a_dead_meters_lock(tmp_path):
    first, second = Spool(tmp_path / "spool"), Spool(tmp_path / "spool")
    first.try_lock()
    child = os.fork()
    if child == 0:
        time.sleep(30)
        os._exit(0)
    try:
        os.close(first._lock_fd)  # what the kernel does when the parent is killed
        first._lock_fd = None
        until = time.monotonic() + 20
        while not second.try_lock():  # the child may not have run yet
            assert time.monotonic() < until
            time.sleep(0.01)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        second.close()


def test_a_member_whose_process_is_gone_is_forgotten(tmp_path):
    spool = Spool(tmp_path / "spool")
    mine = this_host().stat(os.getpid())
    spool.join(Member(search_id="a", pid=os.getpid(), started=mine.started, roots=(os.getpid(),)))
    spool.join(Member(search_id="b", pid=os.getpid(), started=mine.started - 5, roots=(1,)))
    spool.join(Member(search_id="c", pid=2**22 + 3, started=1.0, roots=(1,)))
    assert [one.search_id for one in spool.members(this_host())] == ["a"]
    assert len(list((tmp_path / "spool" / "members").iterdir())) == 1
    spool.close()


def test_a_half_written_line_is_read_when_it_is_whole(tmp_path, clock, processes):
    maker = WindowMaker(FakeMeter(clock), processes, clock=clock)
    maker.start({})
    clock.advance(1.0)
    spool = Spool(tmp_path / "spool")
    spool.begin_epoch(maker.epoch, {})
    window = maker.close_window({})
    spool.append(window)
    (path,) = spool.directory.glob("windows-*.jsonl")
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    reader = spool.reader()
    assert [item for item in reader.new() if isinstance(item, Window)] == []
    path.write_bytes(whole)
    assert [item for item in reader.new() if isinstance(item, Window)] == [window]
    spool.close()


def test_12_a_real_session_costs_little_and_measures_what_passed(ledger, tmp_path):
    search_id = new_search(ledger)
    began_s = time.monotonic()
    session = EnergySession.begin(ledger, search_id, spool=tmp_path / "spool")
    wait_for_windows(tmp_path / "spool", 1)
    starting_s = session._source._host.cpu_s
    first_s = time.monotonic()
    while time.monotonic() - first_s < 4.0:
        session.mark()
        session.flush()
        time.sleep(0.25)
    seconds = time.monotonic() - first_s
    cost = (session._source._host.cpu_s - starting_s) / seconds
    session.end()
    account = accounts(ledger, search_id)
    check_closed(account)
    assert account.seconds == pytest.approx(session._clock() - began_s, abs=1.0)
    assert account.own_kwh > 0
    assert cost < 0.05  # four windows a second; a search asks for one and is under 1 %


@pytest.mark.long
def test_12_equal_work_costs_about_the_same_and_twice_the_work_about_twice(ledger, tmp_path):
    """Sanity only, for a quiet machine: what others do changes what the same work costs."""
    search_id = new_search(ledger)
    session = EnergySession.begin(
        ledger, search_id, meter=RealTimeMeter(), spool=tmp_path / "spool"
    )
    usages = []
    for trial_id, cpu_s in enumerate((2.0, 2.0, 4.0)):
        started_s, until = time.monotonic(), time.thread_time() + cpu_s
        while time.thread_time() < until:
            pass
        seconds = time.monotonic() - started_s
        usages.append(usage_of(started_s, seconds, {trial_id: cpu_s}, pid=os.getpid()))
        session.mark()
        session.flush()
    session.end()
    add_usage(ledger, search_id, usages)
    first, same, double = accounts(ledger, search_id).per_trial.active_kwh
    assert same == pytest.approx(first, rel=0.15)
    assert 1.7 < double / first < 2.3
