"""A factory's configuration goes through the ledger and comes back the same."""

import json
import sys
import types

import pytest
import torch

from trainers.config import TrialConfig
from trainers.models import build_model

MODEL = {"factory": "own_nets:make", "hidden": 3}


def make(input_shape, num_outputs, *, hidden, width=16):
    return torch.nn.Sequential(
        torch.nn.Linear(*input_shape, hidden), torch.nn.Linear(hidden, num_outputs)
    )


def test_a_configuration_with_a_factory_survives_being_written_in_full():
    config = TrialConfig.from_mapping({"model": MODEL})
    read = TrialConfig.model_validate(json.loads(json.dumps(config.full_mapping())))
    assert read.model.kind == "custom"
    assert read == config
    assert read.fingerprint() == config.fingerprint()


def test_after_a_round_trip_a_factory_still_gets_only_the_keys_that_were_set(monkeypatch):
    config = TrialConfig.from_mapping({"model": MODEL})
    read = TrialConfig.model_validate(config.full_mapping())
    monkeypatch.setitem(sys.modules, "own_nets", types.SimpleNamespace(make=make))
    assert build_model(read.model, (4,), 5)(torch.zeros(2, 4)).shape == (2, 5)


def test_built_in_keys_set_beside_a_factory_reach_it():
    config = TrialConfig.from_mapping({"model": {**MODEL, "width": 7}})
    assert TrialConfig.model_validate(config.full_mapping()).model.width == 7
    assert config.full_mapping()["model"]["width"] == 7
    assert "depth" not in config.full_mapping()["model"]


def test_a_value_is_read_by_its_path_defaults_included():
    config = TrialConfig.from_mapping({"model": MODEL})
    assert config.value("model.dropout") == 0.0
    assert config.value("model.hidden") == 3
    assert config.value("regularisation.early_stopping.patience_epochs") == 0
    with pytest.raises(KeyError):
        config.value("model.no_such")
