import math
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from service.search.objectives import (
    Objective,
    costs_of,
    crowding_distances,
    difference_interval,
    dominates,
    excess,
    incumbents,
    is_feasible,
    non_dominated_ranks,
    pareto_front,
    parse_objectives,
    t_interval,
    within_noise,
)
from trainers.errors import ConfigError

ERROR = Objective(metric="val_error")
ACCURACY = Objective(metric="val_accuracy", direction="maximize")


@dataclass(frozen=True)
class Bound:
    metric: str
    op: str
    bound: float


def test_directions_are_read_and_a_misspelt_one_is_refused_with_the_nearest():
    first, second = parse_objectives({"val_error": "minimize", "val_accuracy": "maximize"})
    assert (first, second) == (ERROR, ACCURACY)
    with pytest.raises(ConfigError, match="did you mean `minimize`"):
        parse_objectives({"val_error": "minimise"})
    with pytest.raises(ConfigError, match="empty"):
        parse_objectives({})


def test_nan_is_never_better_and_never_best():
    assert ERROR.better(0.2, than=math.nan)
    assert not ERROR.better(math.nan, than=0.2)
    assert not ACCURACY.better(math.inf, than=0.2)
    assert costs_of((0.1, 0.9), [ERROR, ACCURACY]) == (0.1, -0.9)


def test_incumbents_are_the_running_best():
    assert incumbents([0.5, math.nan, 0.7, 0.2], ERROR) == [0.5, 0.5, 0.5, 0.2]
    assert incumbents([0.5, 0.7, 0.2], ACCURACY) == [0.5, 0.7, 0.7]


def test_constraints_say_by_how_much_they_are_broken():
    bounds = [Bound("params", "<=", 100.0), Bound("val_r2", ">", 0.5)]
    assert excess({"params": 120.0}, bounds) == {"params <= 100": 20.0}
    assert is_feasible({"params": 100.0, "val_r2": 0.6}, bounds)
    assert not is_feasible({"val_r2": 0.5}, bounds)
    assert not is_feasible({"params": math.nan}, bounds)
    assert is_feasible({}, bounds)  # not known yet


def ranks_by_definition(points):
    left, ranks, front = dict(enumerate(points)), {}, 0
    while left:
        best = [i for i, p in left.items() if not any(dominates(q, p) for q in left.values())]
        for i in best:
            ranks[i] = front
            del left[i]
        front += 1
    return [ranks[i] for i in range(len(points))]


@settings(deadline=None, max_examples=150)
@given(
    st.integers(1, 3).flatmap(
        lambda k: st.lists(st.tuples(*[st.integers(0, 6)] * k), min_size=1, max_size=25)
    )
)
def test_ranks_are_those_of_the_definition(points):
    assert non_dominated_ranks(points) == ranks_by_definition(points)
    assert pareto_front(points) == [i for i, r in enumerate(ranks_by_definition(points)) if r == 0]


def test_crowding_is_deb_s_and_equal_points_share_it():
    front = [(0.0, 4.0), (1.0, 2.0), (1.0, 2.0), (4.0, 0.0), (2.0, 1.0)]
    distances = crowding_distances(front)
    assert distances[0] == distances[3] == math.inf
    assert distances[1] == distances[2] == pytest.approx(2 / 4 + 3 / 4)
    assert distances[4] == pytest.approx(3 / 4 + 2 / 4)
    assert crowding_distances([]) == []


def test_t_interval_is_scipy_s():
    values = [0.1, 0.13, 0.09, 0.12]
    interval = t_interval(values, 0.9)
    expected = stats.t.interval(0.9, 3, np.mean(values), stats.sem(values))
    assert (interval.low, interval.high) == pytest.approx(expected)
    assert t_interval([0.3]).half_width == math.inf
    with pytest.raises(ConfigError, match="finite"):
        t_interval([0.1, math.nan])


def test_difference_is_welch_s():
    first, second = [0.2, 0.25, 0.22], [0.1, 0.11, 0.12, 0.1]
    expected = stats.ttest_ind(first, second, equal_var=False).confidence_interval(0.95)
    interval = difference_interval(first, second)
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high))
    same = difference_interval([0.2, 0.2], [0.1, 0.1])
    assert same.low == same.high == pytest.approx(0.1)


def test_within_noise_counts_what_seeds_cannot_tell_apart():
    best = [0.10, 0.11, 0.12]
    far, near, better_luck, lone_far = [0.30, 0.31, 0.32], [0.11, 0.12, 0.12], [0.09] * 3, [0.5]
    others = [far, near, better_luck, lone_far, [0.115]]
    assert within_noise(best, others, ERROR) == [False, True, True, False, True]
