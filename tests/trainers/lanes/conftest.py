from collections.abc import Callable
from typing import Any

import pytest

from trainers.config import TrialConfig
from trainers.data import Dataset, load
from trainers.trial import Trial

MakeTrial = Callable[..., Trial]


@pytest.fixture(scope="session")
def digits() -> Dataset:
    """300 training rows of digits: four full batches of 64 and one of 44."""
    return load(TrialConfig.from_mapping({"data.num_train": 300}).data)


@pytest.fixture(scope="session")
def make_trial() -> MakeTrial:
    def make(trial_id: int, **values: Any) -> Trial:
        """A small float64 trial; keywords are paths with `__` for the dot."""
        settings: dict[str, Any] = {
            "data.num_train": 300,
            "model.width": 16,
            "train.epochs": 4,
            "train.precision": "float64",
            **{path.replace("__", "."): value for path, value in values.items()},
        }
        config = TrialConfig.from_mapping(settings)
        return Trial(trial_id=trial_id, config=config, seed=100 + trial_id)

    return make


@pytest.fixture(scope="session")
def varied_trials(make_trial: MakeTrial) -> Callable[..., list[Trial]]:
    def make(count: int, **shared: Any) -> list[Trial]:
        """Trials of one signature that differ in everything that may differ."""
        schedules = ["constant", "linear", "exponential", "step", "cosine", "plateau"]
        inits = ["auto", "he", "xavier", "uniform", "torch", "too_small"]
        trials = []
        for i in range(count):
            values: dict[str, Any] = {
                "optimizer__lr": 0.002 * (i + 1),
                "optimizer__momentum": 0.1 * (i % 9),
                "optimizer__beta1": 0.8 + 0.02 * (i % 6),
                "optimizer__beta2": 0.98 + 0.002 * (i % 6),
                "optimizer__alpha": 0.9 + 0.01 * (i % 6),
                "optimizer__eps": 1e-8 * (i + 1),
                "optimizer__weight_decay": 1e-4 * i,
                "schedule__kind": schedules[i % 6],
                "schedule__warmup_fraction": 0.1 * (i % 3),
                "schedule__end_factor": 0.05 * i,
                "schedule__gamma": 0.5 + 0.05 * (i % 6),
                "schedule__patience_epochs": i % 2,
                "train__epochs": 4 + i % 3,
                "train__grad_clip_norm": None if i % 2 else 0.5 + i,
                "init__kind": inits[i % 6],
                "init__scale": 1.0 + 0.05 * i,
                "model__dropout": 0.1 * (i % 5),
                "model__bn_momentum": 0.05 + 0.05 * (i % 4),
                "regularisation__l1": 1e-5 * i,
                "regularisation__l1_form": ["subgradient", "proximal"][i % 2],
                "regularisation__l2": 1e-4 * (i % 3),
                "regularisation__decoupled_decay": 1e-3 * (i % 4),
                "regularisation__label_smoothing": 0.03 * (i % 4),
                "regularisation__early_stopping": {
                    "patience_epochs": 2 * (i % 2),
                    "restore_best": i % 3 == 0,
                },
            }
            trials.append(make_trial(i, **(values | shared)))
        return trials

    return make
