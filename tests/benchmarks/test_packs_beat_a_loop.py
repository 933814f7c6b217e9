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

WORK = Work(num_trials=16, width=32, epochs=2)


def test_a_pack_at_width_32_is_faster_than_the_plain_loop():
    dataset, arrays = load(TrialConfig().data), digits()
    configs = draw_configs(WORK)
    trials = [
        Trial(
            trial_id=number,
            seed=number,
            config=TrialConfig.from_mapping(
                {
                    "model.width": WORK.width,
                    "train.epochs": WORK.epochs,
                    "optimizer.kind": "momentum",
                    **{f"optimizer.{name}": value for name, value in config.items()},
                }
            ),
        )
        for number, config in enumerate(configs)
    ]
    plan = fixed_plan(trials, dataset, tier="kernels", fuse_width=16)

    def loop() -> None:
        for number, config in enumerate(configs):
            train_plainly(config, WORK, arrays, seed=number)

    def pack() -> None:
        train_pack(trials, None, WORK.epochs, dataset=dataset, plan=plan)

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        pack(), loop()
        ratio = statistics.median(_seconds(loop) / _seconds(pack) for _ in range(5))
    finally:
        torch.set_num_threads(threads)
    assert ratio > 1.0


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
