"""Rules over whole trainings: what they reach, and how they come to agree with the gradient.

The gates are those of the numpy prototype that the rules' formulas were checked with: cosines of
over 0.3 with the true gradient, errors far below chance, and backprop first.
"""

import numpy as np
import pytest

from trainers.config import TrialConfig
from trainers.data import Dataset, load
from trainers.lanes.evaluation import evaluate
from trainers.lanes.pack import train_pack
from trainers.lanes.plan import fixed_plan
from trainers.trial import EpochReport, Trial

FEEDBACK = ["feedback_alignment", "direct_feedback_alignment", "dtp", "sdtp", "ao_sdtp"]
CHANCE = 0.9


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load(TrialConfig.from_mapping({"data.num_train": 1000}).data)


def trained(digits: Dataset, kind: str, *, epochs: int = 25, **more: object):
    """Return the hidden layers' cosines at each epoch, and the final training error.

    Each epoch's are that of all hidden layers together, then one by one.
    """
    config = TrialConfig.from_mapping(
        {
            "data.num_train": 1000,
            "model.width": 32,
            "model.depth": 3,
            "model.activation": "tanh",
            "train": {"epochs": epochs, "batch_size": 50},
            "optimizer": {"kind": "adam", "lr": 2e-3},
            "learning_rule.kind": kind,
            **more,
        }
    )
    trials = [Trial(trial_id=0, config=config, seed=3)]
    plan = fixed_plan(trials, digits, tier="kernels", fuse_width=1)
    cosines: list[list[float]] = []

    def keep(report: EpochReport) -> None:
        metrics = report.rows[0].metrics
        cosines.append([metrics[name] for name in metrics if name.startswith("cos_backprop")])

    result = train_pack(
        trials,
        None,
        epochs,
        keep,
        dataset=digits,
        plan=plan,
    )
    (found,) = evaluate(result.states, trials, digits, "train")
    return cosines, found.metrics["train_error"]


@pytest.fixture(scope="module")
def backprop_error(digits: Dataset) -> float:
    return trained(digits, "backprop")[1]


@pytest.mark.parametrize("kind", FEEDBACK)
def test_updates_come_to_point_along_the_gradient(
    kind: str, digits: Dataset, backprop_error: float
) -> None:
    cosines, error = trained(digits, kind)
    assert len(cosines[-1]) == 1 + 3
    assert min(cosines[-1]) > 0.3
    assert cosines[-1][0] > cosines[0][0]
    assert error < 0.2 * CHANCE
    assert backprop_error <= error


def test_a_readout_on_random_features_is_worse_than_trained_features(
    digits: Dataset, backprop_error: float
) -> None:
    cosines, random_features = trained(digits, "forward_only")
    assert not np.any(cosines)
    assert backprop_error < random_features < 0.5 * CHANCE


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("predictive_coding", {}),
        ("oja", {}),
        ("sanger", {}),
        ("competitive", {"learning_rule.hidden_rate": 0.1}),
        ("node_perturbation", {}),
        ("weight_perturbation", {}),
        ("evolution", {}),
    ],
)
def test_every_other_rule_learns_something(
    kind: str, more: dict[str, object], digits: Dataset
) -> None:
    _, error = trained(digits, kind, epochs=10, **{"model.depth": 1, **more})
    assert error < 0.6 * CHANCE
