"""GPU energy by NVML's counters and processes, with a fake NVML."""

from types import SimpleNamespace

import pytest

from service.energy import Window, attribute, member_key
from service.energy.gpu import NoGpus, NvmlGpus
from service.energy.testing import FakeClock, FakeProcesses
from service.energy.windows import GpuUse, MemberUse
from service.messages import Usage

A, B = member_key("a", 100), member_key("b", 300)
OWNERS = {100: (A,), 101: (A,), 300: (B,)}


class FakeNvml:
    """Two GPUs whose counters, processes and samples a test sets."""

    def __init__(self):
        self.millijoules = [0, 0]
        self.pids = [[], []]
        self.samples = [[], []]
        self.util = [0, 0]
        self.mig = [False, False]
        self.names = {}
        self.asked_since = []

    def nvmlSystemGetDriverVersion(self):
        return b"570.1"

    def nvmlDeviceGetHandleByIndex(self, index):
        return index

    def nvmlDeviceGetTotalEnergyConsumption(self, gpu):
        if self.millijoules[gpu] is None:
            raise RuntimeError("not supported")
        return self.millijoules[gpu]

    def nvmlDeviceGetComputeRunningProcesses(self, gpu):
        return [SimpleNamespace(pid=pid) for pid in self.pids[gpu]]

    def nvmlDeviceGetUtilizationRates(self, gpu):
        return SimpleNamespace(gpu=self.util[gpu])

    def nvmlDeviceGetMigMode(self, gpu):
        return (int(self.mig[gpu]), 0)

    def nvmlSystemGetProcessName(self, pid):
        return self.names.get(pid, "python")

    def nvmlDeviceGetProcessUtilization(self, gpu, since_us):
        self.asked_since.append(since_us)
        rows = [SimpleNamespace(pid=p, timeStamp=t, smUtil=u) for p, t, u in self.samples[gpu]]
        if not rows:
            raise RuntimeError("not found")
        return rows


@pytest.fixture
def nvml():
    return FakeNvml()


@pytest.fixture
def gpus(nvml):
    processes = FakeProcesses(FakeClock())
    for pid in (100, 101, 300, 900):
        processes.run(pid)
    gpus = NvmlGpus(nvml, 2, processes)
    gpus.split(0.0, 0.0, OWNERS)
    return gpus


def test_counters_are_weights_on_the_meters_sum(nvml, gpus):
    nvml.millijoules = [30_000, 10_000]
    uses = gpus.split(42.0, 1.0, OWNERS)
    assert [use.joules for use in uses] == pytest.approx([31.5, 10.5])
    assert "NVML's counters gave 40 J, the meter 42 J" in gpus.disagreement
    nvml.millijoules = [60_000, 20_000]
    gpus.split(40.5, 1.0, OWNERS)
    assert gpus.disagreement == ""


@pytest.mark.parametrize("counters", [[None, None], [5_000, None], [-1, -1]])
def test_without_counters_gpus_share_equally(nvml, gpus, counters):
    nvml.millijoules = counters
    assert [use.joules for use in gpus.split(10.0, 1.0, OWNERS)] == pytest.approx([5.0, 5.0])


def test_ladder_a_one_process_gets_all(nvml, gpus):
    nvml.pids, nvml.util = [[101], []], [90, 0]
    nvml.millijoules = [40_000, 0]
    first, second = gpus.split(40.0, 1.0, OWNERS)
    assert (first.method, first.members, first.pids) == ("process", {A: 1.0}, {101: 1.0})
    assert (second.method, second.members) == ("process", {})


def test_ladder_b_several_processes_share_by_summed_samples_never_counted_twice(nvml, gpus):
    nvml.pids, nvml.util = [[101, 300, 900], []], [90, 0]
    nvml.samples[0] = [(101, 1000, 30), (101, 2000, 30), (300, 2000, 20), (900, 2000, 20)]
    use = gpus.split(10.0, 1.0, OWNERS)[0]
    assert use.method == "sm_samples"
    assert use.members == pytest.approx({A: 0.6, B: 0.2})  # the stranger's 0.2 is nobody's
    assert use.pids == pytest.approx({101: 0.6, 300: 0.2})
    nvml.samples[0] += [(300, 3000, 50)]
    assert gpus.split(10.0, 1.0, OWNERS)[0].members == pytest.approx({B: 1.0})
    assert max(nvml.asked_since) == 2000


def test_ladder_c_to_e_fall_back_to_what_workers_report(nvml, gpus):
    nvml.pids, nvml.util = [[101, 300], [77777]], [90, 90]  # no samples; pid of another namespace
    assert [use.method for use in gpus.split(9.0, 1.0, OWNERS)] == ["usage", "usage"]
    nvml.names[101] = "nvidia-cuda-mps-server"
    nvml.pids = [[101], []]
    assert gpus.split(9.0, 1.0, OWNERS)[0].method == "usage"


def test_ladder_c_a_partitioned_gpu_is_not_split_by_process(nvml):
    nvml.mig = [True, True]
    gpus = NvmlGpus(nvml, 2, FakeProcesses(FakeClock()))
    nvml.pids = [[101], [101]]
    assert {use.method for use in gpus.split(9.0, 1.0, OWNERS)} == {"usage"}


def test_a_process_that_ended_in_the_window_still_counts_as_one_of_two(nvml, gpus):
    nvml.pids, nvml.util = [[101, 300], []], [90, 0]
    gpus.split(1.0, 1.0, OWNERS)
    nvml.pids = [[300], []]
    assert gpus.split(1.0, 1.0, OWNERS)[0].method == "usage"  # two ran in it, and no samples
    assert gpus.split(1.0, 1.0, OWNERS)[0].method == "process"


def test_idle_power_is_learnt_with_nobody_on_the_gpu(nvml, gpus):
    nvml.millijoules = [20_000, 20_000]
    gpus.split(40.0, 1.0, OWNERS)  # at rest, no process: 20 W each
    nvml.pids, nvml.util = [[101], []], [100, 0]
    nvml.millijoules = [320_000, 40_000]
    first, second = gpus.split(320.0, 1.0, OWNERS)
    assert first.joules - first.idle_j == pytest.approx(280.0)
    assert second.idle_j == pytest.approx(20.0)


def test_a_chip_nvml_cannot_see_is_one_gpu_of_unknown_use():
    assert NoGpus().split(0.0, 1.0, {}) == ()
    (use,) = NoGpus().split(3.0, 1.0, {})
    assert (use.joules, use.method) == (3.0, "usage")


class Span:
    host, boot_id, pid, started_s, ended_s = "h", "b", 100, 0.0, 1.0


def window(gpu):
    return Window(
        host="h",
        boot_id="b",
        meter_epoch="e",
        seq=0,
        started_s=0.0,
        ended_s=1.0,
        started_unix_s=0.0,
        cpu_j=0.0,
        cpu_idle_j=0.0,
        ram_j=0.0,
        busy_core_s=1.0,
        members={A: MemberUse(cpu_s=0.1), B: MemberUse(cpu_s=0.1)},
        gpus=(gpu,),
    )


def usage(pid, busy, padding=0.0):
    return Usage(
        host="h",
        pid=pid,
        started_s=0.0,
        ended_s=1.0,
        trial_busy_s=busy,
        padding_s=padding,
        device="cuda:0",
    )


def test_each_workers_trials_share_what_that_worker_used():
    gpu = GpuUse(
        index=0,
        joules=120.0,
        idle_j=20.0,
        method="sm_samples",
        pids={101: 0.5, 102: 0.25, 300: 0.1},
        members={A: 0.75, B: 0.1},
    )
    usages = [usage(101, {1: 0.4, 2: 0.4}, padding=0.2), usage(102, {3: 0.01})]
    got = attribute([window(gpu)], usages, "a", [Span])
    assert got.trials_j[1]["gpu"] == pytest.approx(20.0)
    assert got.trials_j[3]["gpu"] == pytest.approx(25.0)
    assert got.part_j("padding", "gpu") == pytest.approx(10.0)
    assert got.part_j("idle", "gpu") == pytest.approx(10.0)
    assert got.part_j("others", "gpu") == pytest.approx(35.0)
    assert got.residual < 1e-9


def test_reported_seconds_split_a_gpu_between_searches_or_equally():
    gpu = GpuUse(index=0, joules=100.0, idle_j=0.0, method="usage")
    mine, theirs = [usage(101, {1: 0.6})], {"b": [usage(300, {9: 0.2})]}
    got = attribute([window(gpu)], mine, "a", [Span], others_usages=theirs)
    assert got.trials_j[1]["gpu"] == pytest.approx(75.0)
    unknown = attribute([window(gpu)], mine, "a", [Span])
    assert unknown.trials_j[1]["gpu"] == pytest.approx(50.0)
    nothing = attribute([window(gpu)], [], "a", [Span])
    assert nothing.part_j("overhead", "gpu") == pytest.approx(50.0)
    assert max(one.residual for one in (got, unknown, nothing)) < 1e-9
