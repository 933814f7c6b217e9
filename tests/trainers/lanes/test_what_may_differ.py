"""DESIGN rule 7: what may differ between the lanes of one pack, each with an effect of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from trainers.config import TrialConfig, valid_paths
from trainers.data import Dataset
from trainers.lanes.pack import train_pack
from trainers.lanes.plan import fixed_plan
from trainers.lanes.signature import PER_LANE, signature
from trainers.trial import EpochReport, EpochRow, Trial

SHARED = {
    "data.num_train": 300,
    "model.width": 16,
    "model.batch_norm": "before",
    "model.dropout": 0.1,
    "train.epochs": 5,
    "train.precision": "float64",
    "optimizer.lr": 0.03,
}
OPTIMIZERS = {
    "optimizer.momentum": ("momentum", 0.5),
    "optimizer.alpha": ("rmsprop", 0.8),
    "optimizer.beta1": ("adam", 0.5),
    "optimizer.beta2": ("adam", 0.9),
    "optimizer.eps": ("adam", 1e-2),
}
STOPS = {
    "regularisation.early_stopping.patience_epochs": 1,
    "regularisation.early_stopping.min_delta": 0.2,
}
CASES: dict[str, tuple[dict[str, Any], Any]] = {
    # path: (what must hold for it to act at all, another value than the default)
    "model.dropout": ({}, 0.4),
    "model.bn_momentum": ({}, 0.5),
    "model.bn_decay": ({}, 0.5),
    "optimizer.lr": ({}, 0.01),
    **{path: ({"optimizer.kind": kind}, value) for path, (kind, value) in OPTIMIZERS.items()},
    "optimizer.weight_decay": ({}, 0.1),
    "schedule.kind": ({}, "cosine"),
    "schedule.warmup_fraction": ({}, 0.5),
    "schedule.cooldown_fraction": ({"schedule.kind": "wsd"}, 0.9),
    "schedule.end_factor": ({"schedule.kind": "linear"}, 0.5),
    "schedule.gamma": ({"schedule.kind": "exponential"}, 0.5),
    "schedule.num_steps": ({"schedule.kind": "step"}, 5),
    "schedule.patience_epochs": ({"schedule.kind": "plateau", "schedule.threshold": 0.5}, 0),
    "schedule.threshold": ({"schedule.kind": "plateau", "schedule.patience_epochs": 0}, 0.5),
    "train.epochs": ({"schedule.kind": "linear"}, 7),
    "train.grad_clip_norm": ({}, 0.01),
    "train.convergence_change": ({}, 10.0),
    "pruning.sparsity": ({"pruning.after_epochs": 2}, 0.5),
    "pruning.after_epochs": ({"pruning.sparsity": 0.5}, 3),
    "init.kind": ({}, "xavier"),
    "init.scale": ({}, 0.5),
    "init.constant": ({"init.kind": "constant"}, 0.01),
    "regularisation.l1": ({}, 0.01),
    "regularisation.l1_form": ({"regularisation.l1": 0.01}, "proximal"),
    "regularisation.l2": ({}, 0.01),
    "regularisation.decoupled_decay": ({}, 0.1),
    "regularisation.label_smoothing": ({}, 0.2),
    "regularisation.early_stopping.patience_epochs": (
        {"regularisation.early_stopping.min_delta": 10.0},
        1,
    ),
    "regularisation.early_stopping.min_delta": (
        {"regularisation.early_stopping.patience_epochs": 1},
        10.0,
    ),
    "regularisation.early_stopping.restore_best": ({"optimizer.lr": 3.0}, True),
}
Curves = dict[int, list[EpochRow]]


def per_lane_paths() -> set[str]:
    """Return every path that a pack's signature leaves out, but the seed.

    The constants of learning rules act under their own rule: see `test_rule_packs.py`.
    """
    whole = ("schedule.", "init.", "regularisation.", "pruning.")
    named = {
        f"{section}.{key}"
        for section, keys in PER_LANE.items()
        if section != "learning_rule"
        for key in keys
    }
    return {p for p in valid_paths() if p.startswith(whole) or p in named} - {"train.seed"}


def config(values: dict[str, Any]) -> TrialConfig:
    return TrialConfig.from_mapping({**SHARED, **values})


def train(trials: Sequence[Trial], dataset: Dataset) -> Curves:
    curves: Curves = {trial.trial_id: [] for trial in trials}

    def keep(report: EpochReport) -> None:
        for row in report.rows:
            curves[row.trial_id].append(row)

    plan = fixed_plan(trials, dataset, tier="kernels", fuse_width=8)
    train_pack(trials, None, 7, keep, dataset=dataset, plan=plan)
    return curves


def numbers(rows: Sequence[EpochRow]) -> list[tuple[str, dict[str, float]]]:
    return [(row.status, dict(row.metrics)) for row in rows]


def weights(rows: Sequence[EpochRow]) -> list[tuple[str, float, float]]:
    return [(row.status, row.metrics["val_loss"], row.metrics["train_loss"]) for row in rows]


def test_the_cases_are_all_that_may_differ() -> None:
    assert set(CASES) == per_lane_paths()


@pytest.mark.parametrize("kind", ["sgd", "momentum", "rmsprop", "adam", "adamw", "adagrad"])
def test_everything_that_may_differ_differs_in_one_pack_and_acts_in_its_own_lane(
    kind: str, digits: Dataset
) -> None:
    pairs: dict[str, tuple[Trial, Trial]] = {}
    for path, (needs, value) in CASES.items():
        if needs.get("optimizer.kind", kind) != kind:
            continue
        held = {"optimizer.kind": kind, **needs}
        one, other = config(held), config({**held, path: value})
        number = 2 * len(pairs)
        pairs[path] = (
            Trial(trial_id=number, config=one, seed=7),
            Trial(trial_id=number + 1, config=other, seed=7),
        )
    trials = [trial for pair in pairs.values() for trial in pair]
    assert len({signature(trial.config, digits) for trial in trials}) == 1
    packed = train(trials, digits)
    for path, (one, other) in pairs.items():
        alone = train([other], digits)[other.trial_id]
        assert numbers(packed[other.trial_id]) == numbers(alone), path
        acts = weights(packed[one.trial_id]) != weights(packed[other.trial_id])
        restores = path.endswith("restore_best")
        assert acts or restores, f"{path} changed nothing in its lane"
        if restores:
            best = [row.metrics.get("best_epoch") for row in packed[other.trial_id]]
            assert best[-1] is not None
