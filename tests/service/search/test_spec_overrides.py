import pytest

from service.search.spec import SearchSpec
from trainers.errors import ConfigError

TEXT = """
space:
  optimizer.kind: [adam, momentum]
  optimizer.lr: {log_uniform: [1e-5, 1e-1]}
  optimizer.momentum: {uniform: [0.8, 0.99], when: {optimizer.kind: momentum}}
derive: {train.batch_size: "32 * model.depth"}
rounds:
  - {trials: 8, epochs: 2}
  - {trials: 8, space: {model.width: [1, 2], optimizer.lr: [0.1, 0.2]}}
"""


def spec(*overrides):
    return SearchSpec.from_text(TEXT, overrides)


def test_setting_a_searched_path_fixes_it_and_says_so():
    found = spec("optimizer.lr=1e-3")
    assert "optimizer.lr" not in found.space
    assert found.base.optimizer.lr == 1e-3
    assert found.notes == ("`optimizer.lr` is fixed to 0.001 and no longer searched",)
    assert "optimizer.lr" not in found.rounds[1].space


def test_conditions_on_a_fixed_path_are_settled():
    assert list(spec("optimizer.kind=adam").space) == ["optimizer.lr"]
    momentum = spec("optimizer.kind=momentum")
    assert momentum.space["optimizer.momentum"].when == {}


def test_a_derived_path_can_be_fixed():
    found = spec("train.batch_size=16")
    assert found.base.train.batch_size == 16
    assert not found.derive
    assert "no longer derived" in found.notes[0]


def test_other_keys_are_reached_by_their_paths():
    found = spec(
        "budget.trials=9",
        "rounds.0.epochs=5",
        "finalists={trials: 1, seeds: 2}",
        "seed=4",
        "space.model.depth=[1, 2]",
        "objectives.val_loss=minimize",
        "recipe.checks=false",
        "data=wine",
    )
    assert found.budget.trials == 9
    assert found.rounds[0].epochs == 5
    assert (found.finalists.trials, found.finalists.seeds) == (1, 2)
    assert found.seed == 4
    assert found.space["model.depth"].values == (1, 2)
    assert dict(found.objectives) == {"val_loss": "minimize"}
    assert not found.recipe.checks
    assert found.data.name == "wine"


def test_values_are_yaml_scalars():
    assert spec("optimizer.kind=adam", "optimizer.lr=1e-4").base.optimizer.lr == 1e-4
    assert spec("project=NO").project == "NO"


def test_the_last_setting_wins_and_a_section_may_be_set_at_once():
    found = spec("optimizer.lr=1e-4", "optimizer.lr=2e-4", "model={width: 8, depth: 1}")
    assert found.base.optimizer.lr == 2e-4
    assert (found.base.model.width, found.base.model.depth) == (8, 1)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("optimizer.lr", "takes key=value"),
        ("=3", "takes key=value"),
        ("optimizr.lr=3", "did you mean `optimizer`"),
        ("optimizer.lrr=3", "did you mean `lr`"),
        ("optimizer.lr=fast", "must be a number, but got 'fast'"),
        ("optimizer.lr=-1", "greater than 0"),
        ("rounds.5.epochs=1", "items 0 to 1"),
        ("rounds.x.epochs=1", "items 0 to 1"),
        ("budget.trials=[1", "not YAML"),
    ],
)
def test_bad_settings_are_refused(override, words):
    with pytest.raises(ConfigError, match=words):
        spec(override)


def test_notes_stay_empty_without_overrides():
    assert spec().notes == ()
