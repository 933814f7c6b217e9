"""Invariants 1 and 3-8 of attribution, on made-up hosts with a fake clock and meter."""

import random
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.energy import Spent, Window, WindowMaker, attribute, member_key
from service.energy.attribution import PARTS
from service.energy.host_account import host_account
from service.energy.pieces import DEVICES
from service.energy.testing import FakeClock, FakeMeter, FakeProcesses
from service.energy.unmeasured import in_gaps_j
from service.energy.windows import MemberUse
from service.messages import Usage

HOST, BOOT, PID = "node1", "boot", 100


@dataclass(frozen=True)
class Span:
    started_s: float
    ended_s: float
    pid: int = PID
    host: str = HOST
    boot_id: str = BOOT


def window(start, end, *, cpu_s=0.5, busy=1.0, cpu_j=10.0, idle=2.0, ram=5.0, seq=0, **more):
    members = more.pop("members", {member_key("a", PID): cpu_s})
    return Window(
        host=HOST,
        boot_id=BOOT,
        meter_epoch="e",
        seq=seq,
        started_s=start,
        ended_s=end,
        started_unix_s=0.0,
        cpu_j=cpu_j,
        cpu_idle_j=idle,
        ram_j=ram,
        busy_core_s=busy,
        members={key: MemberUse(cpu_s=seconds) for key, seconds in members.items()},
        **more,
    )


def usage(start, end, busy, padding=0.0, device="cpu"):
    return Usage(
        host=HOST,
        pid=101,
        started_s=start,
        ended_s=end,
        trial_busy_s=busy,
        padding_s=padding,
        device=device,
    )


def check_conserved(attribution):
    parts = [attribution.part_j(part, device) for part in PARTS for device in DEVICES]
    assert sum(parts) == pytest.approx(attribution.node_j, rel=1e-9, abs=1e-9)
    assert min(parts) >= 0
    assert attribution.residual < 1e-9
    for share in attribution.shares:
        trials = sum(sum(joules.values()) for joules in share.trials.values())
        assert trials == pytest.approx(sum(share.parts["trials"].values()), rel=1e-9, abs=1e-12)


def test_a_window_splits_as_computed_by_hand():
    # 8 J active, host busy 1.0 core s, our tree 0.5: 4 J ours. Trial 1: 0.3 of 0.5 s: 2.4 J.
    got = attribute([window(0, 1)], [usage(0, 1, {1: 0.3, 2: 0.1}, 0.05)], "a", [Span(0, 1)])
    assert got.trials_j[1]["cpu"] == pytest.approx(2.4)
    assert got.trials_j[2]["cpu"] == pytest.approx(0.8)
    assert got.part_j("padding") == pytest.approx(0.4)
    assert got.part_j("overhead") == pytest.approx(0.4)
    assert got.part_j("idle", "cpu") == pytest.approx(2.0)
    assert got.part_j("idle", "ram") == pytest.approx(5.0)
    assert got.part_j("others") == pytest.approx(4.0)
    check_conserved(got)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_1_energy_is_conserved_in_every_piece_whatever_happens(seed):
    rng = random.Random(seed)
    windows, now = [], 0.0
    for seq in range(rng.randrange(1, 25)):
        length = rng.choice([0.05, 0.3, 1.0, 7.0])
        keys = rng.sample([member_key("a", PID), member_key("b", 7), member_key("c", 8)], k=2)
        windows.append(
            window(
                now,
                now + length,
                seq=seq,
                cpu_j=rng.uniform(0, 50),
                idle=rng.uniform(0, 60),
                ram=rng.uniform(0, 5),
                busy=rng.uniform(0, 4),
                members={key: rng.uniform(0, 3) for key in keys},
                gap_reason="reset" if rng.random() < 0.1 else "",
            )
        )
        now += length + (rng.random() < 0.2) * rng.uniform(0, 3)  # the meter was away
    usages = []
    for _ in range(rng.randrange(0, 30)):
        start = rng.uniform(-2, now)
        length = rng.uniform(0.001, 9)
        busy = {rng.randrange(6): rng.uniform(0, length) for _ in range(rng.randrange(4))}
        spent = usage(start, start + length, busy, rng.uniform(0, 1))
        usages.append(Spent(usage=spent, wasted=rng.random() < 0.3))
    edges = sorted(rng.uniform(-1, now + 2) for _ in range(4))
    spans = [Span(edges[0], edges[1]), Span(edges[2], edges[3])]
    got = attribute(windows, usages, "a", spans)
    check_conserved(got)
    assert 0 <= got.wasted_j <= got.part_j("trials") + got.part_j("padding") + 1e-9
    seconds = sum(share.piece.seconds for share in got.shares)
    assert seconds == pytest.approx(sum(s.ended_s - s.started_s for s in spans), abs=1e-4)


def run_host(num_trials):
    """Return windows of a host on which one search ran that many workers for 10 s."""
    clock = FakeClock(0.0)
    meter, processes = FakeMeter(clock), FakeProcesses(clock)
    processes.run(PID, cores=0.1)
    for trial in range(num_trials):
        processes.run(200 + trial, cores=1.0 / num_trials, parent=PID)
    maker = WindowMaker(meter, processes, clock=clock, host=HOST, boot=BOOT)
    roots = {member_key("a", PID): (PID,)}
    maker.start(roots)
    windows = []
    for _ in range(10):
        clock.advance(1.0)
        windows.append(maker.close_window(roots))
    return windows, meter


@pytest.mark.parametrize("num_trials", [1, 2, 9])
def test_3_the_node_total_does_not_depend_on_how_many_trials_or_workers_run(num_trials):
    windows, _ = run_host(num_trials)
    usages = [usage(0, 10, {trial: 10.0 / num_trials}) for trial in range(num_trials)]
    got = attribute(windows, usages, "a", [Span(0, 10)])
    assert got.node_j == pytest.approx(150.0, rel=1e-12)
    assert got.own_j == pytest.approx(150.0, rel=1e-9)
    # 80 J active; the workers used 1.0 of the 1.1 cores that were busy.
    assert got.part_j("trials") == pytest.approx(80.0 / 1.1, rel=1e-9)


def test_4_replayed_duplicated_and_reordered_windows_change_nothing():
    windows, _ = run_host(3)
    usages = [usage(t, t + 2.5, {t: 1.0}) for t in range(8)]
    once = attribute(windows, usages, "a", [Span(0.3, 9.7)])
    shuffled = [*windows, *windows[3:], windows[0]]
    random.Random(1).shuffle(shuffled)
    random.Random(2).shuffle(usages)
    again = attribute(
        [Window.from_row(w.to_row()) for w in shuffled], usages, "a", [Span(0.3, 9.7)]
    )
    assert again.node_j == once.node_j
    for part in PARTS:
        assert again.part_j(part) == pytest.approx(once.part_j(part), rel=1e-12)


def test_4_merging_shards_is_associative():
    windows, _ = run_host(2)
    whole = attribute(windows, [], "a", [Span(0, 10)])
    left = attribute(windows[:4], [], "a", [Span(0, 4)])
    right = attribute(windows[4:], [], "a", [Span(4, 10)])
    assert left.node_j + right.node_j == pytest.approx(whole.node_j, rel=1e-12)
    assert left.own_j + right.own_j == pytest.approx(whole.own_j, rel=1e-12)


def test_5_identical_trials_get_identical_energy_and_permuting_them_permutes_it():
    first = attribute([window(0, 1)], [usage(0, 1, {1: 0.2, 2: 0.2, 3: 0.1})], "a", [Span(0, 1)])
    assert first.trials_j[1] == first.trials_j[2]
    assert first.trials_j[3]["cpu"] == pytest.approx(first.trials_j[1]["cpu"] / 2)
    other = attribute([window(0, 1)], [usage(0, 1, {3: 0.2, 1: 0.2, 2: 0.1})], "a", [Span(0, 1)])
    assert other.trials_j[2] == pytest.approx(first.trials_j[3])


def test_5_a_trial_without_processor_time_gets_no_active_energy():
    got = attribute([window(0, 1)], [usage(0, 1, {1: 0.4, 2: 0.0})], "a", [Span(0, 1)])
    assert got.trials_j[2] == {"cpu": 0.0, "ram": 0.0, "gpu": 0.0}


def test_6_lanes_and_padding_are_the_process_share_and_a_dead_lane_pays_no_more():
    windows = [window(t, t + 1, seq=t, cpu_s=1.0) for t in range(4)]
    # Lane 2 dies after two seconds: from then on its slot is padding.
    alive = [usage(t, t + 1, {1: 0.5, 2: 0.5}) for t in range(2)]
    frozen = [usage(t, t + 1, {1: 0.5}, padding=0.5) for t in range(2, 4)]
    got = attribute(windows, alive + frozen, "a", [Span(0, 4)])
    assert got.trials_j[2]["cpu"] == pytest.approx(8.0)
    assert got.part_j("padding") == pytest.approx(8.0)
    assert got.part_j("trials") + got.part_j("padding") == pytest.approx(32.0)
    assert all(2 not in share.trials for share in got.shares[2:])
    alone = attribute(windows, [usage(0, 4, {7: 4.0})], "a", [Span(0, 4)])
    assert alone.trials_j[7]["cpu"] == pytest.approx(32.0)  # one lane: the whole share, unfused


@settings(max_examples=40, deadline=None)
@given(st.floats(0.01, 0.99))
def test_7_splitting_a_window_anywhere_leaves_totals_unchanged(cut):
    usages = [usage(0, 1, {1: 0.3, 2: 0.15}, 0.02)]
    whole = attribute([window(0, 1)], usages, "a", [Span(0, 1)])
    share = {"cpu_s": 0.5 * cut, "busy": cut, "cpu_j": 10 * cut, "idle": 2 * cut, "ram": 5 * cut}
    rest = {"cpu_s": 0.5, "busy": 1.0, "cpu_j": 10.0, "idle": 2.0, "ram": 5.0}
    rest = {name: value * (1 - cut) for name, value in rest.items()}
    halves = [window(0, cut, **share), window(cut, 1, seq=1, **rest)]
    split = attribute(halves, usages, "a", [Span(0, 1)])
    for part in PARTS:
        assert split.part_j(part) == pytest.approx(whole.part_j(part), rel=1e-9, abs=1e-12)
    two_spans = attribute([window(0, 1)], usages, "a", [Span(0, cut), Span(cut, 1)])
    assert two_spans.own_j == pytest.approx(whole.own_j, rel=1e-9)


def test_8_a_trials_energy_only_grows_and_attempts_add_up():
    windows = [window(t, t + 1, seq=t) for t in range(6)]
    first = Spent(usage=usage(1, 3, {1: 0.6}), wasted=True)
    second = Spent(usage=usage(4, 5, {1: 0.3}))
    so_far = [
        attribute(windows, [first, second], "a", [Span(0, end)]).trials_j.get(1, {"cpu": 0.0})
        for end in (0.5, 1, 2, 3, 4, 5, 6)
    ]
    joules = [one["cpu"] for one in so_far]
    assert joules == sorted(joules)
    assert joules[1] == 0.0  # none before its start
    assert joules[-1] == joules[-2]  # none after its end
    both = attribute(windows, [first, second], "a", [Span(0, 6)])
    attempts = [attribute(windows, [one], "a", [Span(0, 6)]) for one in (first, second)]
    assert both.trials_j[1]["cpu"] == pytest.approx(sum(a.trials_j[1]["cpu"] for a in attempts))
    assert both.wasted_j == pytest.approx(attempts[0].trials_j[1]["cpu"])


def test_8_summed_busy_time_beyond_what_the_tree_got_is_scaled_down_to_it():
    got = attribute([window(0, 1, cpu_s=0.5)], [usage(0, 1, {1: 3.0, 2: 1.0})], "a", [Span(0, 1)])
    assert got.part_j("trials") == pytest.approx(4.0)
    assert got.part_j("overhead") == pytest.approx(0.0, abs=1e-12)
    check_conserved(got)


def test_a_gap_takes_the_mean_power_of_the_windows_beside_it():
    windows = [window(0, 1, cpu_j=10, ram=5), window(3, 4, seq=1, cpu_j=20, ram=5)]
    got = attribute(windows, [], "a", [Span(0, 4)])
    assert got.gap_s == pytest.approx(2.0)
    assert got.part_j("gap", "cpu") == pytest.approx(30.0)
    assert got.part_j("gap", "ram") == pytest.approx(10.0)
    check_conserved(got)


def test_a_trial_in_a_gap_costs_what_busy_seconds_cost_beside_it():
    windows = [window(0, 1, cpu_s=0.5), window(3, 4, seq=1, cpu_s=0.5)]
    spent = [usage(0, 1, {1: 0.4}), usage(1, 3, {1: 0.8, 2: 0.4})]
    got = attribute(windows, spent, "a", [Span(0, 4)])
    watts = got.trials_j[1]["cpu"] / 0.4
    assert in_gaps_j(got) == pytest.approx({1: 0.8 * watts, 2: 0.4 * watts})
    assert got.part_j("trials") == pytest.approx(0.4 * watts)  # the accounts stay as they were
    check_conserved(got)


def test_trials_of_a_search_shorter_than_the_meters_start_are_priced_by_the_window_after_it():
    after = window(2, 3, cpu_s=0.5)
    got = attribute([after], [usage(0, 1, {1: 0.2, 2: 0.1})], "a", [Span(0, 1)])
    watts = (after.cpu_j - after.cpu_idle_j) / after.busy_core_s
    assert got.part_j("trials") == 0.0
    assert in_gaps_j(got) == pytest.approx({1: 0.2 * watts, 2: 0.1 * watts})


@settings(deadline=None, max_examples=40)
@given(
    gap_s=st.floats(0.1, 5.0),
    busy_s=st.lists(st.floats(0.0, 50.0), min_size=1, max_size=4),
    cpu_j=st.floats(0.0, 100.0),
)
def test_trials_never_take_more_of_a_gap_than_it_has(gap_s, busy_s, cpu_j):
    windows = [window(0, 1, cpu_j=cpu_j), window(1 + gap_s, 2 + gap_s, seq=1, cpu_j=cpu_j)]
    spent = [usage(1, 1 + gap_s, dict(enumerate(busy_s, start=1)))]
    got = attribute(windows, spent, "a", [Span(0, 2 + gap_s)])
    assert sum(in_gaps_j(got).values()) <= got.part_j("gap", "cpu") * (1 + 1e-9)
    check_conserved(got)


def test_windows_of_another_users_meter_do_not_count_the_host_twice():
    theirs = [
        Window.from_row({**window(t, t + 1, seq=t, members={}).to_row(), "meter_epoch": "other"})
        for t in range(3)
    ]
    ours = [window(t, t + 1, seq=t) for t in range(3)]
    got = attribute(theirs + ours, [], "a", [Span(0, 3)])
    assert got.node_j == pytest.approx(45.0)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_1_two_searches_and_a_stranger_share_a_host_without_loss(seed):
    rng = random.Random(seed)
    clock = FakeClock(0.0)
    meter, processes = FakeMeter(clock), FakeProcesses(clock)
    pids = {"a": 100, "b": 300}
    for search, pid in pids.items():
        processes.run(pid, cores=rng.uniform(0, 0.2))
        processes.run(pid + 1, cores=rng.uniform(0, 0.9), parent=pid)
        assert search
    processes.run(900, cores=rng.uniform(0, 1))  # somebody else's
    maker = WindowMaker(meter, processes, clock=clock, host=HOST, boot=BOOT)
    alive = {member_key(search, pid): (pid,) for search, pid in pids.items()}
    maker.start(alive)
    windows, edges = [], {"a": (0.0, 12.0), "b": (3.4, 8.2)}
    for _ in range(15):
        clock.advance(rng.choice([0.2, 1.0]))
        windows.append(maker.close_window(alive))
        processes.run(301, cores=rng.uniform(0, 0.9), parent=300)
    spans = {search: [Span(*edges[search], pid=pid)] for search, pid in pids.items()}
    end = clock()
    host = host_account(windows, spans, 0.0, end)
    assert host.residual < 1e-9
    assert host.node_j == pytest.approx(meter.read().cpu_j + meter.read().ram_j, rel=1e-9)
    for search, (start, stop) in edges.items():
        got = attribute(windows, [], search, [Span(start, min(stop, end), pid=pids[search])])
        check_conserved(got)
        if stop <= end:
            assert host.own_j[search] == pytest.approx(got.own_j, rel=1e-9)
    assert min(host.unassigned_j, host.not_ours_j, host.gap_j) >= 0
