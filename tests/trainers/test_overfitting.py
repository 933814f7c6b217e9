"""Too much freedom for the data, and what a penalty does about it (lecture, p. 35 and 60)."""

from dataclasses import replace

import pytest
import torch

from trainers.config import TrialConfig
from trainers.data import Dataset, load
from trainers.lanes.evaluation import evaluate
from trainers.lanes.pack import train_pack
from trainers.lanes.plan import fixed_plan
from trainers.trial import Trial

ROWS = 200
CONFIG = TrialConfig.from_mapping(
    {
        "data": {"name": "digits", "num_train": ROWS},
        "model": {"kind": "mlp", "depth": 1, "width": 128},
        "optimizer": {"kind": "adam", "lr": 0.005},
        "train": {"batch_size": 50, "epochs": 60},
    }
)


def errors(dataset: Dataset, **changes: object) -> tuple[float, float]:
    """Train one lane; return its training and test error."""
    trial = Trial(trial_id=0, config=CONFIG.with_values(changes), seed=1)
    plan = fixed_plan([trial], dataset, tier="kernels", fuse_width=1)
    states = train_pack([trial], None, trial.config.train.epochs, dataset=dataset, plan=plan).states
    train, test = (
        evaluate(states, [trial], dataset, part)[0].metrics[f"{part}_error"]
        for part in ("train", "test")
    )
    return train, test


def test_labels_drawn_by_lot_are_learnt_by_heart_and_predict_nothing():
    """Zhang et al. (2017): training error 0, and on new rows chance, 9 of 10 wrong."""
    dataset = load(CONFIG.data)
    by_lot = torch.randint(10, (ROWS,), generator=torch.Generator().manual_seed(0))
    train, test = errors(replace(dataset, y_train=by_lot))
    assert train == 0
    assert test == pytest.approx(0.9, abs=0.06)
    train, test = errors(dataset)
    assert train == 0
    assert test < 0.2


def test_a_penalty_sweep_ends_in_underfitting():
    """The gap between test and training error closes, and then both are bad."""
    dataset = load(CONFIG.data)
    none, strong = (errors(dataset, **{"regularisation.l2": l2}) for l2 in (0.0, 3.0))
    assert none[0] == 0
    assert none[1] - none[0] > 0.05
    assert strong[0] > 0.3
    assert strong[1] - strong[0] < 0.5 * (none[1] - none[0])
