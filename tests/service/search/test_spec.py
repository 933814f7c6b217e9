from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces import Space, choice, int_uniform, log_uniform, uniform
from service.search.spec import RoundSpec, SearchSpec
from trainers.config import TrialConfig
from trainers.errors import ConfigError

READY_MADE = [
    path
    for path in sorted((Path(__file__).parents[3] / "search_spaces").glob("*.yaml"))
    if not path.stem.startswith("study-")
]

FULL = """
kind: search
name: plates-cnn
project: vision/plates
seed: 7
mode: asynchronous
data: {name: digits}
model: {factory: "plates_lib.nets:make_net"}
train: {batch_size: 256, loss: cross_entropy, precision: bf16}
space:
  optimizer.kind: [adamw, momentum]
  optimizer.lr: {log_uniform: [1e-5, 1e-1], limits: [1e-7, 1]}
  optimizer.momentum: {uniform: [0.8, 0.99], when: {optimizer.kind: momentum}}
  optimizer.weight_decay: {log_uniform: [1e-6, 1e-1]}
  model.width: {int: [32, 256], step: 32}
  model.dropout: {uniform: [0.0, 0.6]}
derive: {model.head_width: "2 * model.width"}
objectives: {val_error: minimize, energy_kwh: minimize}
constraints: {params: "<= 2e6"}
start_from: {baseline: {optimizer.lr: 1e-3}, trials: old_sweep.csv}
rounds:
  - {sampler: random, trials: 256, epochs: 3}
  - sampler: tpe
    trials: 96
    epochs: 60
    halving: {eta: 3, first_epoch: 4}
    refine: {keep_best: 0.2}
finalists: {trials: 3, seeds: 5}
budget: {hours: 6, kwh: 20}
resources: {gpus_per_worker: 1, max_workers: 16}
recipe: {stop_gain: 0.02}
"""


def python_spec(**more):
    return SearchSpec(
        data="digits",
        model={"kind": "mlp", "depth": 2},
        space={"optimizer.lr": log_uniform(1e-5, 1e-1), "model.width": choice(64, 128, 256)},
        objectives={"val_error": "minimize"},
        start_from={"baseline": {"optimizer.lr": 1e-3, "model.width": 128}},
        budget={"trials": 64, "kwh": 0.05},
        **more,
    )


def test_every_word_of_the_grammar_is_read():
    spec = SearchSpec.from_text(FULL)
    assert (spec.name, spec.project, spec.seed, spec.mode) == (
        "plates-cnn",
        "vision/plates",
        7,
        "asynchronous",
    )
    assert spec.base.train.batch_size == 256
    assert spec.base.model.factory == "plates_lib.nets:make_net"
    assert spec.space["optimizer.momentum"].when == {"optimizer.kind": ("momentum",)}
    assert [o.metric for o in spec.objective_list] == ["val_error", "energy_kwh"]
    assert spec.constraint_list[0].known_before_training
    assert spec.rounds[1].halving.first_epoch == 4
    assert spec.budget.seconds == 6 * 3600
    assert spec.resources.max_workers == 16
    assert spec.recipe.stop_gain == 0.02
    assert spec.recipe.checks


def test_python_and_yaml_give_equal_specs():
    text = """
    data: digits
    model: {kind: mlp, depth: 2}
    space:
      optimizer.lr: {log_uniform: [1e-5, 1e-1]}
      model.width: [64, 128, 256]
    objectives: {val_error: minimize}
    start_from: {baseline: {optimizer.lr: 1e-3, model.width: 128}}
    budget: {trials: 64, kwh: 0.05}
    """
    assert SearchSpec.from_text(text) == python_spec()


@pytest.mark.parametrize("path", READY_MADE, ids=lambda path: path.stem)
def test_ready_made_specs_are_valid_and_round_trip(path):
    spec = SearchSpec.from_yaml(path)
    assert SearchSpec.from_mapping(spec.to_mapping()) == spec
    assert SearchSpec.from_text(spec.to_yaml()) == spec
    assert spec.plan()


def test_the_full_spec_round_trips():
    spec = SearchSpec.from_text(FULL)
    assert SearchSpec.from_text(spec.to_yaml()) == spec
    assert SearchSpec.from_mapping(spec.to_mapping()) == spec


@st.composite
def specs(draw):
    space = {}
    if draw(st.booleans()):
        low = draw(st.floats(1e-6, 1e-3))
        space["optimizer.lr"] = log_uniform(low, draw(st.floats(2e-3, 1.0)))
    if draw(st.booleans()):
        space["model.width"] = int_uniform(8, draw(st.integers(9, 512)))
    if draw(st.booleans()):
        space["model.dropout"] = uniform(0, draw(st.floats(0.1, 0.9)), step=0.1)
    if draw(st.booleans()):
        space["model.activation"] = choice("relu", "tanh")
        space["model.batch_norm"] = choice("none", "after", when={"model.activation": "relu"})
    values = {
        "space": space,
        "seed": draw(st.integers(0, 2**40)),
        "train": {"epochs": draw(st.integers(2, 50))},
        "budget": draw(st.sampled_from([{}, {"trials": 30}, {"minutes": 1.5, "kwh": 1e-3}])),
        "finalists": {"trials": draw(st.integers(0, 5)), "seeds": 2},
        "objectives": draw(
            st.sampled_from(
                [{"val_error": "minimize"}, {"val_r2": "maximize", "flops": "minimize"}]
            )
        ),
    }
    if draw(st.booleans()):
        values["rounds"] = [
            {"trials": draw(st.integers(1, 99)), "epochs": 9, "halving": {"eta": 2}},
            {"sampler": "tpe", "trials": 5, "refine": True},
        ]
    if draw(st.booleans()):
        values["derive"] = {"train.batch_size": "max(1, model.depth * 8)"}
    return SearchSpec(**values)


@settings(deadline=None, max_examples=50)
@given(specs())
def test_any_spec_round_trips_through_mapping_and_text(spec):
    assert SearchSpec.from_mapping(spec.to_mapping()) == spec
    assert SearchSpec.from_text(spec.to_yaml()) == spec


@settings(deadline=None, max_examples=50)
@given(specs(), st.integers(0, 1000))
def test_any_point_of_a_space_is_a_trial(spec, seed):
    params = spec.space.sample(np.random.default_rng(seed))
    config = spec.configure(params, epochs=3)
    assert config.train.epochs == 3
    assert {path: config.value(path) for path in params} == params
    assert TrialConfig.from_mapping(config.to_mapping()) == config


def test_a_trial_is_base_then_params_then_derive():
    spec = SearchSpec.from_text(FULL)
    config = spec.configure({"optimizer.kind": "adamw", "optimizer.lr": 0.01, "model.width": 64})
    assert config.model.width == 64
    assert config.value("model.head_width") == 128
    assert config.train.batch_size == 256
    assert config.train.epochs == 20


def test_a_whole_number_is_derived_where_one_is_needed():
    spec = SearchSpec(
        space={"model.width": [64, 128]}, derive={"train.batch_size": "model.width / 2"}
    )
    assert spec.configure({"model.width": 64}).train.batch_size == 32
    with pytest.raises(ConfigError, match=r"takes whole numbers.*gives 10\.6667; use floor"):
        SearchSpec(space={"model.width": [32]}, derive={"train.batch_size": "model.width / 3"})


def test_derive_may_read_settings_that_are_not_searched():
    spec = SearchSpec(derive={"model.width": "8 * model.depth"}, model={"depth": 3})
    assert spec.configure({}).model.width == 24


def test_the_baseline_is_a_full_length_trial():
    config = python_spec().baseline_config()
    assert (config.optimizer.lr, config.model.width, config.train.epochs) == (1e-3, 128, 20)
    assert SearchSpec(space={"model.width": [1]}).baseline_config() is None


def test_a_baseline_may_be_another_searchs_best_yaml(tmp_path):
    best = SearchSpec(data="digits", model={"width": 77}, train={"epochs": 9})
    (tmp_path / "best.yaml").write_text(best.to_yaml())
    (tmp_path / "spec.yaml").write_text(
        "space: {model.width: [32, 64]}\nstart_from: {baseline: best.yaml}\n"
    )
    spec = SearchSpec.from_yaml(tmp_path / "spec.yaml")
    assert spec.baseline_config().model.width == 77
    assert spec.baseline_config().train.epochs == 9
    # From here on the file is not needed any more: the mapping holds its content.
    (tmp_path / "best.yaml").unlink()
    assert SearchSpec.from_mapping(spec.to_mapping()) == spec


def test_start_configs_are_completed_from_the_sections():
    spec = SearchSpec(
        optimizer={"kind": "adam"},
        space={"optimizer.lr": log_uniform(1e-5, 1e-1), "model.width": [64, 128]},
        start_from={"configs": [{"optimizer.lr": 0.01}, {"optimizer": {"lr": 0.1}}]},
    )
    assert spec.start_configs() == [
        {"optimizer.lr": 0.01, "model.width": 128},
        {"optimizer.lr": 0.1, "model.width": 128},
    ]


def test_names_default_to_data_and_model():
    assert SearchSpec(data="wine").name == "wine-mlp"
    assert SearchSpec(data={"name": "mnist1d"}, model={"kind": "cnn"}).name == "mnist1d-cnn"


def test_objectives_follow_the_task():
    spec = SearchSpec(space={"model.width": [1, 2]})
    assert dict(spec.for_task("classification").objectives) == {"val_error": "minimize"}
    assert dict(spec.for_task("regression").objectives) == {"val_loss": "minimize"}
    with pytest.raises(ConfigError, match="does not exist for classification"):
        SearchSpec(objectives={"val_rmse": "minimize"}).for_task("classification")
    with pytest.raises(ConfigError, match=r"`constraints\.val_error` does not exist"):
        SearchSpec(objectives={"val_rmse": "minimize"}, constraints={"val_error": "<= 1"}).for_task(
            "regression"
        )


def test_a_spec_is_frozen_and_survives_pickling():
    import pickle

    spec = SearchSpec.from_text(FULL)
    with pytest.raises(ValueError, match="frozen"):
        spec.seed = 3
    assert spec.base.train.batch_size == 256
    assert pickle.loads(pickle.dumps(spec)) == spec


def test_refine_may_be_said_with_one_word():
    assert RoundSpec.model_validate({"refine": True}).refine.keep_best == 0.2
    assert RoundSpec.model_validate({"refine": False}).refine is None


def test_a_round_may_bring_a_space_of_its_own():
    spec = SearchSpec(
        space={"model.width": [1, 2]}, rounds=[{"space": {"model.depth": [1, 2]}, "trials": 2}]
    )
    assert spec.rounds[0].space == Space({"model.depth": [1, 2]})
    assert SearchSpec.from_mapping(spec.to_mapping()) == spec
