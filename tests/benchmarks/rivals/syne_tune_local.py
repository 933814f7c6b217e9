"""(e) Syne Tune's local backend: a process per trial, started by its `Tuner`."""

from __future__ import annotations

import logging
import os
import tempfile
import time
from pathlib import Path

from tests.benchmarks.workload import LR, MOMENTUM, NUM_WORKERS, WEIGHT_DECAY, Outcome, Work
from tests.benchmarks.workload import outcome_of as _outcome_of

SCRIPT = Path(__file__).with_name("syne_tune_script.py")


def run(work: Work) -> Outcome:
    """Run `Tuner.run()` with random search; the script is that of Syne Tune's documentation."""
    os.environ["OMP_NUM_THREADS"] = "1"
    root = Path(__file__).parents[3]
    os.environ["PYTHONPATH"] = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SYNETUNE_FOLDER"] = folder
        from syne_tune import StoppingCriterion, Tuner
        from syne_tune.backend import LocalBackend
        from syne_tune.config_space import loguniform, uniform
        from syne_tune.experiments import load_experiment
        from syne_tune.optimizer.baselines import RandomSearch

        logging.disable(logging.WARNING)
        began_s = time.perf_counter()
        tuner = Tuner(
            trial_backend=LocalBackend(entry_point=str(SCRIPT)),
            scheduler=RandomSearch(
                {
                    "lr": loguniform(*LR),
                    "momentum": uniform(*MOMENTUM),
                    "weight_decay": loguniform(*WEIGHT_DECAY),
                    "width": work.width,
                    "epochs": work.epochs,
                },
                metrics=["error"],
                random_seed=work.seed,
            ),
            stop_criterion=StoppingCriterion(max_num_trials_finished=work.num_trials),
            n_workers=NUM_WORKERS,
        )
        tuner.run()
        wall_s = time.perf_counter() - began_s
        frame = load_experiment(tuner.name).results
        last = frame.sort_values("epoch").groupby("trial_id").last()
        finished = last[last["epoch"] == work.epochs]
    return _outcome_of(
        "syne tune, local backend", list(finished["error"]), wall_s=wall_s, started_s=0.0
    )
