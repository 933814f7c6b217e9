import pytest

from search_spaces import Space, apply_consequence, with_lr_interval


def lr_space(**options):
    return Space({"optimizer.lr": {"log_uniform": [1e-5, 1e-1], **options}})


def test_raising_moves_a_log_interval_by_half_its_decades():
    space = Space({"regularisation.l2": {"log_uniform": [1e-6, 1e-2]}})
    moved, reason = apply_consequence(space, "regularisation.l2", "raise", "the best overfit")
    interval = moved["regularisation.l2"]
    assert (interval.low, interval.high) == (pytest.approx(1e-4), pytest.approx(1.0))
    assert reason.kind == "raised"
    assert reason.text.endswith("the best overfit")
    back, _ = apply_consequence(moved, "regularisation.l2", "lower", "they underfit")
    assert back["regularisation.l2"].low == pytest.approx(1e-6)


def test_moves_stay_inside_limits_and_meaning():
    space = Space({"regularisation.l2": {"log_uniform": [1e-6, 1e-2], "limits": [1e-6, 1e-1]}})
    moved, _ = apply_consequence(space, "regularisation.l2", "raise", "")
    assert moved["regularisation.l2"].high == 1e-1
    dropout = Space({"model.dropout": {"uniform": [0.0, 0.8]}})
    assert apply_consequence(dropout, "model.dropout", "raise", "")[0]["model.dropout"].high < 1
    same, reason = apply_consequence(dropout, "model.dropout", "lower", "")
    assert same["model.dropout"].low == 0
    assert same["model.dropout"].high == pytest.approx(0.4)
    assert reason.kind == "lowered"


def test_a_choice_of_numbers_loses_one_end_but_never_its_last_value():
    space = Space({"model.width": [32, 64, 128]})
    raised, _ = apply_consequence(space, "model.width", "raise", "underfit")
    assert raised["model.width"].values == (64, 128)
    lowered, _ = apply_consequence(space, "model.width", "lower", "overfit")
    assert lowered["model.width"].values == (32, 64)
    one = Space({"model.width": [32]})
    kept, reason = apply_consequence(one, "model.width", "raise", "underfit")
    assert kept == one
    assert reason.kind == "kept"
    words = Space({"model.activation": ["relu", "tanh"]})
    assert apply_consequence(words, "model.activation", "raise", "x")[0] == words


def test_a_path_that_is_not_searched_is_said_so():
    space = lr_space()
    same, reason = apply_consequence(space, "model.dropout", "raise", "the best overfit")
    assert same is space
    assert "not searched" in reason.text


def test_the_sweeps_range_cuts_the_users_interval():
    space, reason = with_lr_interval(lr_space(), 1e-4, 1.0, "rates up to 1 train")
    interval = space["optimizer.lr"]
    assert (interval.low, interval.high) == (1e-4, 1e-1)
    assert reason.kind == "narrowed"
    assert "rates up to 1 train" in reason.text


def test_a_range_around_the_users_interval_changes_nothing():
    space, reason = with_lr_interval(lr_space(), 1e-6, 1.0, "sweep")
    assert space == lr_space()
    assert reason.kind == "kept"


def test_a_range_outside_is_taken_only_as_far_as_limits_allow():
    same, reason = with_lr_interval(lr_space(), 0.5, 5.0, "sweep")
    assert same == lr_space()
    assert "set `limits`" in reason.text
    moved, reason = with_lr_interval(lr_space(limits=[1e-7, 1]), 0.5, 5.0, "sweep")
    assert (moved["optimizer.lr"].low, moved["optimizer.lr"].high) == (0.5, 1)
    assert "moves" in reason.text
    same, reason = with_lr_interval(lr_space(limits=[1e-7, 0.2]), 0.5, 5.0, "sweep")
    assert same == lr_space(limits=[1e-7, 0.2])
    assert "outside its limits" in reason.text


def test_a_choice_of_rates_keeps_those_that_train():
    space = Space({"optimizer.lr": [1e-4, 1e-3, 1e-1]})
    assert with_lr_interval(space, 5e-4, 1.0, "")[0]["optimizer.lr"].values == (1e-3, 1e-1)
    assert with_lr_interval(space, 10, 20, "")[0] == space
    assert with_lr_interval(space, 1e-5, 20, "")[0] == space


def test_a_fixed_rate_is_left_alone():
    space = Space({"model.width": [1, 2]})
    same, reason = with_lr_interval(space, 1e-4, 1e-2, "sweep")
    assert same is space
    assert "not searched" in reason.text
