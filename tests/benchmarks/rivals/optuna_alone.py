"""(c) Optuna in one process, as its documentation shows it, sampling at random."""

from __future__ import annotations

import time

import optuna
import torch

from tests.benchmarks.workload import (
    LR,
    MOMENTUM,
    WEIGHT_DECAY,
    Outcome,
    Work,
    digits,
    outcome_of,
    train_plainly,
)


def run(work: Work) -> Outcome:
    """Run `study.optimize`; one process, torch's threads left at one, as two make it slower."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    torch.set_num_threads(1)
    data = digits()

    def objective(trial: optuna.Trial) -> float:
        config = {
            "lr": trial.suggest_float("lr", *LR, log=True),
            "momentum": trial.suggest_float("momentum", *MOMENTUM),
            "weight_decay": trial.suggest_float("weight_decay", *WEIGHT_DECAY, log=True),
        }
        return train_plainly(config, work, data, seed=trial.number)

    began_s = time.perf_counter()
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=work.seed))
    study.optimize(objective, n_trials=work.num_trials)
    wall_s = time.perf_counter() - began_s
    errors = [trial.value for trial in study.trials if trial.value is not None]
    return outcome_of("optuna, one process", errors, wall_s=wall_s, started_s=0.0)
