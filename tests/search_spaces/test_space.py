import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces import Space, choice, int_uniform, log_uniform, uniform
from trainers.errors import SpaceError

TREE = {
    "optimizer.kind": ["adam", "momentum", "sgd"],
    "optimizer.lr": {"log_uniform": [1e-5, 1e-1], "limits": [1e-7, 1]},
    "optimizer.momentum": {"uniform": [0.8, 0.99], "when": {"optimizer.kind": "momentum"}},
    "optimizer.beta1": {"uniform": [0.8, 0.99], "when": {"optimizer.kind": ["adam"]}},
    "model.batch_norm": {"choice": ["none", "before"], "when": {"optimizer.momentum": 0.9}},
    "model.width": {"int": [32, 256], "step": 32},
}


def tree():
    # A condition on a number asks for exactly that number, so it needs a grid to be met.
    return Space.from_mapping(
        {**TREE, "optimizer.momentum": {**TREE["optimizer.momentum"], "step": 0.1}}
    )


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 2**32))
def test_samples_are_members_whatever_is_active(seed):
    space = tree()
    params = space.sample(np.random.default_rng(seed))
    assert space.contains(params)
    assert set(params) == set(space.active(params))
    assert space.from_unit(space.to_unit(params)) == pytest.approx(params)


def test_plain_form_round_trips_and_keeps_the_order():
    space = tree()
    assert Space.from_mapping(space.to_mapping()) == space
    assert list(space.to_mapping()) == list(TREE)


def test_python_and_plain_forms_give_equal_spaces():
    python = Space({"optimizer.lr": log_uniform(1e-5, 1e-1), "model.width": choice(64, 128)})
    plain = Space({"optimizer.lr": {"log_uniform": [1e-5, 1e-1]}, "model.width": [64, 128]})
    assert python == plain


def test_sections_may_be_nested_as_in_the_body_of_a_spec():
    nested = Space({"optimizer": {"lr": {"log_uniform": [1e-5, 1e-1]}}, "model": {"width": [1, 2]}})
    assert list(nested) == ["optimizer.lr", "model.width"]
    deeper = {"regularisation": {"early_stopping": {"patience_epochs": [2, 5]}}}
    assert list(Space(deeper)) == ["regularisation.early_stopping.patience_epochs"]


def test_conditions_chain_and_inactive_ones_are_left_out():
    space = tree()
    assert "optimizer.momentum" not in space.active({"optimizer.kind": "adam"})
    active = space.active({"optimizer.kind": "momentum", "optimizer.momentum": 0.9})
    assert "model.batch_norm" in active
    # The grandchild needs its parent to be active, not only to have the value.
    stale = {"optimizer.kind": "adam", "optimizer.momentum": 0.9}
    assert "model.batch_norm" not in space.active(stale)


def test_violations_say_what_is_wrong():
    space = tree()
    good = {"optimizer.kind": "sgd", "optimizer.lr": 1e-3, "model.width": 64}
    assert space.violation(good) is None
    assert "missing" in space.violation({**good, "optimizer.kind": "adam"})
    assert "`when` does not hold" in space.violation({**good, "optimizer.beta1": 0.9})
    assert "not in" in space.violation({**good, "model.width": 65})
    assert "not searched" in space.violation({**good, "x": 1})


def test_grid_is_the_exact_product_with_each_active_combination_once():
    space = Space(
        {
            "a": ["x", "y"],
            "b": {"int": [1, 3], "when": {"a": "x"}},
            "c": {"log_uniform": [1, 100], "grid": 3},
        }
    )
    grid = space.grid()
    expected = [
        {"a": "x", "b": b, "c": c} for b, c in itertools.product([1, 2, 3], [1.0, 10.0, 100.0])
    ] + [{"a": "y", "c": c} for c in (1.0, 10.0, 100.0)]
    assert len(grid) == len(expected)
    for params in grid:
        assert any(params == pytest.approx(other) for other in expected)
        assert space.contains(params)


@pytest.mark.parametrize(
    ("plain", "size"),
    [
        ({}, 1),
        ({"a": [1, 2], "b": {"int": [0, 9]}}, 20),
        ({"a": ["x", "y"], "b": {"int": [1, 3], "when": {"a": "x"}}}, 4),
        ({"a": [1, 2], "b": {"uniform": [0, 1]}}, None),
        ({f"p{i}": {"int": [0, 999]} for i in range(7)}, 1000**7),
    ],
)
def test_size_counts_different_params(plain, size):
    assert Space(plain).size == size
    assert Space(plain).is_finite == (size is not None)


def test_an_empty_space_has_one_point():
    empty = Space()
    assert not empty
    assert empty.grid() == [{}]
    assert empty.sample(np.random.default_rng(0)) == {}


def test_a_grid_too_large_to_list_is_refused():
    with pytest.raises(SpaceError, match="at most 200,000 points"):
        Space({f"p{i}": {"int": [0, 99]} for i in range(4)}).grid()


@pytest.mark.parametrize(
    ("plain", "words"),
    [
        ({"a": {"uniform": [0, 1], "when": {"b": 1}}}, "`b`, which is not searched"),
        (
            {"ab": ["x"], "c": {"uniform": [0, 1], "when": {"ba": "x"}}},
            "did you mean `ab`",
        ),
        ({"a": ["x"], "c": {"uniform": [0, 1], "when": {"a": "z"}}}, "never is"),
        (
            {
                "a": {"choice": [1], "when": {"b": 1}},
                "b": {"choice": [1], "when": {"a": 1}},
            },
            "round in a circle",
        ),
        ({"a": {"choice": [1], "when": {"a": 1}}}, "round in a circle"),
        ({"a": 3}, "`space.a`.*fixed value"),
        ([1], "maps dotted paths"),
        ({"optimizer.lr": [1], "optimizer": {"lr": [2]}}, "given twice"),
    ],
)
def test_each_broken_rule_is_named(plain, words):
    with pytest.raises(SpaceError, match=words):
        Space.from_mapping(plain)


def test_a_grid_over_a_continuum_names_the_path():
    with pytest.raises(SpaceError, match=r"`space\.optimizer\.lr`.*`grid` or `step`"):
        Space({"optimizer.lr": log_uniform(1e-5, 1e-1)}).grid()


def test_fixing_a_path_settles_the_conditions_on_it():
    space, notes = tree().fixed("optimizer.kind", "momentum")
    assert "optimizer.kind" not in space
    assert space["optimizer.momentum"].when == {}
    assert "optimizer.beta1" not in space
    assert len(notes) == 2
    without, notes = tree().fixed("optimizer.kind", "sgd")
    assert list(without) == ["optimizer.lr", "model.width"]
    assert any("model.batch_norm" in note for note in notes)


def test_replacing_a_choice_removes_what_can_no_longer_be_active():
    space = tree().replaced({"optimizer.kind": choice("adam", "sgd")})
    assert "optimizer.momentum" not in space
    assert "model.batch_norm" not in space
    assert "optimizer.beta1" in space


def test_narrowing_a_numeric_parent_removes_its_children():
    space = Space({"n": int_uniform(1, 9), "x": uniform(0, 1, when={"n": [2, 8]})})
    narrowed = space.replaced({"n": int_uniform(5, 9)})
    assert narrowed["x"].when == {"n": (8,)}
    assert "x" not in space.replaced({"n": int_uniform(3, 7)})
