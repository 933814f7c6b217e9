import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from search_spaces import choice, distribution, int_uniform, log_int, log_uniform, uniform
from trainers.errors import SpaceError

numbers = st.floats(-1e6, 1e6, allow_nan=False)
positives = st.floats(1e-8, 1e8, allow_nan=False)


@st.composite
def intervals(draw):
    kind = draw(st.sampled_from(["uniform", "log_uniform", "int", "log_int"]))
    if kind in ("int", "log_int"):
        low = draw(st.integers(1 if kind == "log_int" else -1000, 1000))
        high = low + draw(st.integers(1, 1000))
        step = draw(st.none() | st.integers(1, high - low))
    else:
        low = draw(positives if kind == "log_uniform" else numbers)
        high = low + max(draw(st.floats(1e-3, 1e3)), abs(low) * 1e-3)
        step = draw(st.none() | st.floats(0.01, 1).map(lambda share: (high - low) * share))
    grid = draw(st.none() | st.integers(2, 20))
    mapping = {kind: [low, high]}
    if step is not None:
        mapping["step"] = step
    if grid is not None:
        mapping["grid"] = grid
    return distribution(mapping)


@settings(deadline=None, max_examples=200)
@given(intervals(), st.floats(0, 1))
def test_every_position_gives_a_member_and_finds_its_way_back(interval, u):
    value = interval.from_unit(u)
    assert interval.contains(value)
    assert interval.from_unit(interval.to_unit(value)) == pytest.approx(value, rel=1e-9)
    assert interval.quantise(value) == value


@settings(deadline=None, max_examples=200)
@given(intervals())
def test_plain_form_round_trips(interval):
    assert distribution(interval.to_mapping()) == interval


@settings(deadline=None, max_examples=200)
@given(intervals())
def test_grid_points_are_members_in_order_without_repeats(interval):
    if interval.count is not None and interval.count > 5000:
        return
    if interval.count is None and interval.grid is None:
        with pytest.raises(SpaceError, match="`grid` or `step`"):
            interval.grid_points()
        return
    points = interval.grid_points()
    assert points == sorted(set(points))
    assert all(interval.contains(point) for point in points)


@settings(deadline=None, max_examples=200)
@given(intervals(), st.floats(-1, 2), st.floats(-1, 2))
def test_moved_ends_stay_inside_limits_and_on_the_grid(interval, a, b):
    width = interval.high - interval.low
    low, high = interval.low + min(a, b) * width, interval.low + max(a, b) * width
    if not low < high or (interval.log and low <= 0):
        return
    limits = (interval.low, interval.high)
    if high <= limits[0] or low >= limits[1]:
        return
    moved = interval.with_ends(low, high, limits)
    assert interval.low <= moved.low < moved.high <= interval.high
    if interval.spacing is not None:
        assert interval.contains(moved.low)


@pytest.mark.parametrize("kind", ["log_uniform", "log_int"])
def test_log_scales_are_uniform_in_the_logarithm(kind):
    interval = distribution({kind: [1, 10_000_000]})
    rng = np.random.default_rng(0)
    sample = [interval.from_unit(u) for u in rng.random(4000)]
    if kind == "log_int":  # away from the coarse small integers the law is the continuous one
        sample = [value for value in sample if value >= 1000]
    low = 1 if kind == "log_uniform" else 1000
    expected = stats.loguniform(low, 10_000_000)
    assert stats.kstest(sample, expected.cdf).pvalue > 0.01


def test_uniform_scale_is_uniform():
    interval = uniform(-2, 5)
    sample = [interval.from_unit(u) for u in np.random.default_rng(1).random(4000)]
    assert stats.kstest(sample, stats.uniform(-2, 7).cdf).pvalue > 0.01


def test_integers_and_steps_all_get_the_same_share():
    for interval in (int_uniform(0, 4), uniform(0.0, 0.4, step=0.1)):
        sample = [interval.from_unit(u) for u in np.linspace(0, 1, 10_001)]
        _, counts = np.unique(sample, return_counts=True)
        assert len(counts) == 5
        assert counts.max() - counts.min() <= 2


def test_steps_give_the_decimal_numbers_a_user_expects():
    assert uniform(0.8, 0.99, step=0.05).grid_points() == [0.8, 0.85, 0.9, 0.95]
    assert int_uniform(32, 256, step=32).grid_points() == list(range(32, 257, 32))
    assert log_int(1, 100, grid=3).grid_points() == [1, 10, 100]
    assert log_uniform(1e-4, 1e-2, grid=3).grid_points() == pytest.approx([1e-4, 1e-3, 1e-2])


def test_membership_is_about_values_not_types():
    assert int_uniform(32, 256, step=32).contains(64.0)
    assert not int_uniform(32, 256, step=32).contains(65)
    assert not int_uniform(0, 4).contains(True)
    assert not uniform(0, 1).contains(math.nan)
    assert choice(1, 2).contains(1)
    assert not choice(1, 2).contains(True)
    assert not choice("NO", "on").contains(False)


@pytest.mark.parametrize(
    ("plain", "words"),
    [
        ({"log_unifrom": [1, 2]}, "did you mean `log_uniform`"),
        ({"uniform": [1, 2], "stepp": 1}, "did you mean `step`"),
        ({"uniform": [2, 1]}, r"\[2, 1\] is inverted; write \[1, 2\]"),
        ({"uniform": [1, 1]}, r"\[1, 1\] is empty"),
        ({"log_uniform": [0, 1]}, "low > 0, but got .*use `uniform`"),
        ({"log_int": [0, 8]}, "low > 0, but got .*use `int`"),
        ({"uniform": [1]}, r"two numbers \[low, high\]"),
        ({"uniform": ["a", 2]}, "takes numbers, but got 'a'"),
        ({"uniform": [True, 2]}, "takes numbers, but got True"),
        ({"uniform": [0, math.inf]}, "finite"),
        ({"int": [0.5, 2]}, "whole numbers, but got 0.5"),
        ({"uniform": [0, 1], "step": 2}, "`step` must be > 0 and at most"),
        ({"uniform": [0, 1], "step": 0}, "`step` must be > 0"),
        ({"uniform": [0, 1], "grid": 1}, "`grid` is a number of points >= 2"),
        ({"uniform": [0, 1], "limits": [0.5, 2]}, "must enclose"),
        ({"log_uniform": [1, 2], "limits": [0, 2]}, "`limits` > 0"),
        ({"uniform": [0, 1], "int": [0, 1]}, "exactly one of"),
        ({"step": 1}, "exactly one of"),
        ({"choice": [1], "step": 1}, "takes `when` only"),
        ({"choice": "abc"}, "takes a list"),
        ([], "at least one value"),
        ([1, 1], "1 twice"),
        ([[1]], "takes text, numbers"),
        (0.1, "fixed value belongs in its section"),
        ({"uniform": [0, 1], "when": 3}, "`when` is a mapping"),
        ({"uniform": [0, 1], "when": {"a": []}}, "lists no value"),
    ],
)
def test_each_broken_rule_is_named_with_the_value(plain, words):
    with pytest.raises(SpaceError, match=words):
        distribution(plain)


def test_numbers_in_scientific_notation_count_as_whole_ones():
    assert distribution({"int": [1.0, 1e3]}) == int_uniform(1, 1000)
