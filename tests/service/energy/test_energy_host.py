"""Windows made from a fake meter: invariant 2, resets, idle calibration, process trees."""

import itertools
import json
import os
import subprocess
import sys
import time

import pytest

from service.energy import Window, WindowMaker, member_key
from service.energy.processes import PsutilProcesses, TreeUse, this_host
from service.energy.testing import FakeClock, FakeMeter, FakeProcesses

KEY = member_key("a", 100)
ROOTS = {KEY: (100,)}


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def processes(clock):
    processes = FakeProcesses(clock)
    processes.run(100, cores=0.2)
    return processes


def maker_of(meter, processes, clock):
    return WindowMaker(meter, processes, clock=clock, host="h", boot="b")


def test_2_the_sum_of_windows_is_the_meters_total(clock, processes):
    meter = FakeMeter(clock)
    maker = maker_of(meter, processes, clock)
    maker.start(ROOTS)
    total = [0.0, 0.0]
    for step in range(50):
        meter.set_power(cpu_w=3.0 + step % 7)
        clock.advance(0.05 + 0.013 * step)
        window = maker.close_window(ROOTS)
        total[0] += window.cpu_j
        total[1] += window.ram_j
    assert total[0] == pytest.approx(meter.read().cpu_j, rel=1e-9)
    assert total[1] == pytest.approx(meter.read().ram_j, rel=1e-9)


def test_2_a_measurement_the_meter_skipped_is_in_the_next_window(clock, processes):
    meter = FakeMeter(clock)
    maker = maker_of(meter, processes, clock)
    maker.start(ROOTS)
    assert maker.close_window(ROOTS) is None  # no time has passed: nothing was measured
    clock.advance(1.0)
    window = maker.close_window(ROOTS)
    assert (window.seq, window.cpu_j, window.seconds) == (0, pytest.approx(10.0), 1.0)


def test_windows_join_without_gap_or_overlap(clock, processes):
    maker = maker_of(FakeMeter(clock), processes, clock)
    maker.start(ROOTS)
    windows = []
    for seconds in (1.0, 0.07, 0.3):
        clock.advance(seconds)
        windows.append(maker.close_window(ROOTS))
    assert [w.seq for w in windows] == [0, 1, 2]
    assert all(a.ended_s == b.started_s for a, b in itertools.pairwise(windows))


def test_a_reset_counter_makes_a_gap_not_262_kilojoules(clock, processes):
    meter = FakeMeter(clock, max_w=300.0)
    maker = maker_of(meter, processes, clock)
    maker.start(ROOTS)
    clock.advance(1.0)
    meter.add(cpu_j=262_000.0)
    assert "reset" in maker.close_window(ROOTS).gap_reason
    clock.advance(1.0)
    assert maker.close_window(ROOTS).gap_reason == ""


def test_idle_power_is_the_models_floor_where_known(clock, processes):
    maker = maker_of(FakeMeter(clock, idle_w=2.0), processes, clock)
    maker.start(ROOTS)
    clock.advance(3.0)
    assert maker.close_window(ROOTS).cpu_idle_j == pytest.approx(6.0)


def test_idle_power_is_learnt_from_a_quiet_window_only(clock, processes):
    meter = FakeMeter(clock, idle_w=None, cpu_w=30.0)
    maker = maker_of(meter, processes, clock)
    cores = os.cpu_count() or 1
    processes.run(100, cores=0.5 * cores)
    maker.start(ROOTS)
    clock.advance(1.0)
    assert maker.close_window(ROOTS).cpu_idle_j == 0.0  # busy: its power says nothing about idle
    processes.run(100, cores=0.01 * cores)
    meter.set_power(cpu_w=4.0)
    clock.advance(1.0)
    maker.close_window(ROOTS)
    processes.run(100, cores=0.5 * cores)
    meter.set_power(cpu_w=30.0)
    clock.advance(2.0)
    assert maker.close_window(ROOTS).cpu_idle_j == pytest.approx(8.0)


def test_a_window_comes_back_from_json_exactly(clock, processes):
    maker = maker_of(FakeMeter(clock, cpu_w=10 / 3), processes, clock)
    maker.start(ROOTS)
    clock.advance(0.7)
    window = maker.close_window(ROOTS)
    assert Window.from_row(json.loads(json.dumps(window.to_row()))) == window


class TestTrees:
    def test_children_count_and_strangers_do_not(self, clock, processes):
        processes.run(101, cores=0.5, parent=100)
        processes.run(900, cores=1.0)
        trees = TreeUse(processes, clock)
        trees.sample(ROOTS)
        clock.advance(2.0)
        assert trees.sample(ROOTS)[KEY] == pytest.approx({100: 0.4, 101: 1.0})

    def test_what_ran_before_joining_is_not_counted(self, clock, processes):
        clock.advance(50.0)
        trees = TreeUse(processes, clock)
        assert trees.sample(ROOTS) == {KEY: {}}

    def test_a_child_that_lived_within_one_window_is_counted(self, clock, processes):
        trees = TreeUse(processes, clock)
        trees.sample(ROOTS)
        processes.run(150, cores=1.0, parent=100)
        clock.advance(0.3)
        processes.kill(150)
        clock.advance(0.7)
        used = trees.sample(ROOTS)[KEY]
        assert sum(used.values()) == pytest.approx(0.2 + 0.3)

    def test_9_a_killed_workers_last_moments_are_counted(self, clock, processes):
        processes.run(101, cores=1.0, parent=100)
        trees = TreeUse(processes, clock)
        trees.sample(ROOTS)
        clock.advance(1.0)
        trees.sample(ROOTS)
        clock.advance(0.4)
        processes.kill(101)
        clock.advance(0.6)
        assert trees.sample(ROOTS)[KEY] == pytest.approx({100: 0.2, 101: 0.4})

    def test_9_a_worker_nobody_waited_for_never_makes_time_negative(self, clock, processes):
        processes.run(101, cores=1.0, parent=100)
        trees = TreeUse(processes, clock)
        trees.sample(ROOTS)
        clock.advance(1.0)
        trees.sample(ROOTS)
        processes.kill(101, waited_for=False)
        clock.advance(1.0)
        assert trees.sample(ROOTS)[KEY] == pytest.approx({100: 0.2})

    def test_a_worker_started_between_two_walks_is_charged_in_full_later(self, clock, processes):
        trees = TreeUse(processes, clock)
        trees.sample(ROOTS)
        processes.run(101, cores=1.0, parent=100)
        total = 0.0
        for _ in range(8):
            clock.advance(0.5)
            total += sum(trees.sample(ROOTS)[KEY].values())
        assert total == pytest.approx(4.0 * 1.2)

    def test_a_process_belongs_to_the_nearest_search_above_it(self, clock, processes):
        processes.run(300, cores=0.3, parent=100)
        processes.run(301, cores=0.1, parent=300)
        roots = {**ROOTS, "b:300": (300,)}
        trees = TreeUse(processes, clock)
        trees.sample(roots)
        clock.advance(1.0)
        assert trees.sample(roots) == {
            KEY: pytest.approx({100: 0.2}),
            "b:300": pytest.approx({300: 0.3, 301: 0.1}),
        }

    def test_two_searches_in_one_process_share_it_equally(self, clock, processes):
        roots = {"a:100": (100,), "b:100": (100,)}
        trees = TreeUse(processes, clock)
        trees.sample(roots)
        clock.advance(1.0)
        assert trees.sample(roots) == {
            "a:100": pytest.approx({100: 0.1}),
            "b:100": pytest.approx({100: 0.1}),
        }


@pytest.mark.parametrize("view", [this_host, PsutilProcesses])
def test_real_processes_are_seen_by_both_views(view):
    processes = view()
    trees = TreeUse(processes)
    roots = {"me": (os.getpid(),)}
    trees.sample(roots)
    busy_s = processes.busy_core_s()
    spin = "import time\nwhile time.process_time() < 0.3: pass"
    subprocess.run([sys.executable, "-c", spin], check=True)
    until = time.process_time() + 0.2
    while time.process_time() < until:
        pass
    used_s = sum(trees.sample(roots)["me"].values())
    assert 0.45 < used_s < 1.5
    assert processes.busy_core_s() - busy_s > 0.4
    assert os.getpid() in set(processes.pids())
    assert processes.stat(2**22 + 17) is None
