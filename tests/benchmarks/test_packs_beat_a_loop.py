"""Ratios only, never seconds: neighbours on a shared machine change both sides alike."""

import statistics
import time

import pytest
import torch

from tests.benchmarks import speed
from tests.benchmarks.workload import Work, digits, draw_configs, train_plainly
from trainers import train_pack
from trainers.config import TrialConfig
from trainers.data import load
from trainers.lanes.plan import fixed_plan
from trainers.trial import Trial


@pytest.fixture
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def run_pack(work):
    """Train the work's configurations as one pack; return the validation errors."""
    dataset = load(TrialConfig().data)
    trials = [
        Trial(
            trial_id=number,
            seed=number,
            config=TrialConfig.from_mapping(
                {
                    "model.width": work.width,
                    "train.epochs": work.epochs,
                    "init.kind": "torch",
                    "optimizer.kind": "momentum",
                    **{f"optimizer.{name}": value for name, value in config.items()},
                }
            ),
        )
        for number, config in enumerate(draw_configs(work))
    ]
    plan = fixed_plan(trials, dataset, tier="kernels", fuse_width=16)
    result = train_pack(trials, None, work.epochs, dataset=dataset, plan=plan)
    return [row.metrics["val_error"] for row in result.rows]


def run_loop(work):
    """Train the same configurations one by one in a plain torch loop."""
    return [
        train_plainly(config, work, digits(), seed=number)
        for number, config in enumerate(draw_configs(work))
    ]


@pytest.mark.usefixtures("one_thread")
def test_a_pack_at_width_32_is_faster_than_the_plain_loop():
    work = Work(num_trials=16, width=32, epochs=2)
    run_pack(work), run_loop(work)
    ratios = [_seconds(lambda: run_loop(work)) / _seconds(lambda: run_pack(work)) for _ in range(3)]
    assert statistics.median(ratios) > 1.0


@pytest.mark.usefixtures("one_thread")
def test_packs_and_the_plain_loop_learn_the_same():
    work = Work(num_trials=24, width=32, epochs=8)
    ours, theirs = run_pack(work), run_loop(work)
    # The weights start from other draws of one distribution, so only means can agree.
    assert statistics.mean(ours) == pytest.approx(statistics.mean(theirs), abs=0.05)


def _seconds(work):
    began_s = time.process_time()
    work()
    return time.process_time() - began_s


@pytest.mark.benchmark
@pytest.mark.timeout(1800)
def test_a_search_is_faster_than_a_loop_over_two_processes():
    contest = speed.Contest(work=Work(num_trials=256, width=32), rivals=("d",), few={})
    rounds = [speed.run_round(contest) for _ in range(3)]
    ratios = [each["d"].wall_s / each["isoflop"].wall_s for each in rounds]
    assert statistics.median(ratios) > 1.0
    # All trained the same thing: the median trial errs alike.
    errors = [(each["d"].median_error, each["isoflop"].median_error) for each in rounds]
    assert all(abs(theirs - ours) < 0.1 for theirs, ours in errors)


@pytest.mark.long
@pytest.mark.benchmark
@pytest.mark.timeout(3 * 3600)
def test_quality_for_time():
    from tests.benchmarks import anytime

    assert anytime.main().exists()
