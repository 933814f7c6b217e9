"""Numbers of a configuration are numbers: neither text nor true and false."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service import SearchSpec
from service.scaling.study_spec import StudySpec
from trainers.config import TrialConfig
from trainers.errors import ConfigError

STUDY = {
    "model": {"kind": "mlp"},
    "sizes": {"model.width": [8, 16]},
    "budgets_flops": [1e9, 3e9],
}


@pytest.mark.parametrize("value", [True, False, "20", "1e3", ""])
@pytest.mark.parametrize(
    "path", ["train.epochs", "optimizer.lr", "optimizer.alpha", "model.window", "data.split_seed"]
)
def test_text_and_truth_are_no_numbers(path, value):
    rule = re.escape(f"`{path}`: must be a number, but got {value!r}; give one without quotes")
    with pytest.raises(ConfigError, match=rule):
        TrialConfig.from_mapping({path: value})
    with pytest.raises(ConfigError, match=rule):
        SearchSpec.from_mapping({path: value})


@pytest.mark.parametrize(
    ("section", "path"),
    [
        ({"rounds": [{"trials": True}]}, "rounds.0.trials"),
        ({"budget": {"hours": "3"}}, "budget.hours"),
        ({"seed": True}, "seed"),
    ],
)
def test_a_search_takes_no_text_for_its_own_numbers(section, path):
    with pytest.raises(ConfigError, match=f"`{path}`: must be a number"):
        SearchSpec.from_mapping(section)


@pytest.mark.parametrize("budgets", [["1e9", 3e9], [True, 3e9]])
def test_a_list_of_numbers_holds_numbers(budgets):
    with pytest.raises(ConfigError, match="`budgets_flops`: must be a number"):
        StudySpec.from_mapping({**STUDY, "budgets_flops": budgets})


def test_whole_floats_and_integers_stand_for_each_other():
    config = TrialConfig.from_mapping(
        {"train.epochs": 20.0, "optimizer.lr": 1, "train.batch_size": np.int64(32)}
    )
    assert (config.train.epochs, config.optimizer.lr, config.train.batch_size) == (20, 1.0, 32)
    assert isinstance(config.train.epochs, int)
    with pytest.raises(ConfigError, match=r"fractional part, but got 20\.5"):
        TrialConfig.from_mapping({"train.epochs": 20.5})


def test_what_is_no_number_may_be_text_or_truth():
    config = TrialConfig.from_mapping(
        {"data.standardise": False, "model.factory": "nets:make", "model.size": "20"}
    )
    assert config.model.model_extra == {"size": "20"}


@given(epochs=st.integers(1, 1000), lr=st.floats(1e-9, 10), alpha=st.none() | st.floats(0.01, 0.99))
def test_a_stored_configuration_loads_again(epochs, lr, alpha):
    given_ = {"train.epochs": epochs, "optimizer.lr": lr, "optimizer.alpha": alpha}
    config = TrialConfig.from_mapping(given_)
    assert TrialConfig.model_validate_json(config.model_dump_json()) == config
    assert TrialConfig.from_mapping(config.full_mapping()) == config
