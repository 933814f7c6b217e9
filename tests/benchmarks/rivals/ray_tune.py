"""(a) Ray Tune's function API as its documentation shows it, and (b) with reused actors."""

from __future__ import annotations

import tempfile
import time
from functools import partial
from typing import Any

import ray
from ray import tune

from tests.benchmarks.workload import (
    LR,
    MOMENTUM,
    NUM_WORKERS,
    WEIGHT_DECAY,
    Arrays,
    Outcome,
    Work,
    digits,
    outcome_of,
    train_plainly,
)


def run(work: Work, *, reuse_actors: bool = False) -> Outcome:
    """Run `Tuner.fit()` on a Ray that is already up."""
    data = digits()
    ray.init(num_cpus=NUM_WORKERS, include_dashboard=False, log_to_driver=False)
    with tempfile.TemporaryDirectory() as storage:
        began_s, began_unix_s = time.perf_counter(), time.time()
        tuner = tune.Tuner(
            tune.with_resources(
                tune.with_parameters(partial(_train, work=work), data=data), {"cpu": 1}
            ),
            param_space={
                "lr": tune.loguniform(*LR),
                "momentum": tune.uniform(*MOMENTUM),
                "weight_decay": tune.loguniform(*WEIGHT_DECAY),
            },
            tune_config=tune.TuneConfig(
                num_samples=work.num_trials, reuse_actors=reuse_actors, metric="error", mode="min"
            ),
            run_config=tune.RunConfig(storage_path=storage, verbose=0),
        )
        results = tuner.fit()
        wall_s = time.perf_counter() - began_s
        metrics = [result.metrics for result in results if result.metrics]
    ray.shutdown()
    first = min(row["timestamp"] - row["time_total_s"] for row in metrics)
    return outcome_of(
        "ray tune, reused actors" if reuse_actors else "ray tune, function API",
        [row["error"] for row in metrics],
        wall_s=wall_s,
        started_s=max(0.0, first - began_unix_s),
    )


def _train(config: dict[str, Any], *, work: Work, data: Arrays) -> None:
    seed = abs(hash(tune.get_context().get_trial_id())) % 2**31
    train_plainly(
        config, work, data, seed=seed, report=lambda epoch, error: tune.report({"error": error})
    )
