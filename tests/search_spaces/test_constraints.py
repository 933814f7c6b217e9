import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces import Constraint, parse_constraints
from trainers.errors import SpaceError

finite = st.floats(-1e9, 1e9, allow_nan=False)


@given(finite, finite)
def test_violation_and_satisfaction_agree_with_python(value, bound):
    for op, kept in {
        "<=": value <= bound,
        "<": value < bound,
        ">=": value >= bound,
        ">": value > bound,
    }.items():
        constraint = Constraint("params", op, bound)
        assert constraint.satisfied(value) == kept
        assert (constraint.violation(value) > 0) == (not kept)


@pytest.mark.parametrize(
    ("text", "op", "bound"),
    [("<= 2e6", "<=", 2e6), ("<1_000", "<", 1000), (" >=  -1 ", ">=", -1), (">.5", ">", 0.5)],
)
def test_comparisons_are_read(text, op, bound):
    assert Constraint.parse("params", text) == Constraint("params", op, bound)


def test_what_is_known_before_training_is_told_apart():
    constraints = parse_constraints({"params": ["<= 2e6", ">= 10"], "energy_kwh": "< 1"})
    assert [c.known_before_training for c in constraints] == [True, True, False]
    assert str(constraints[0]) == "params <= 2e+06"


def test_no_number_is_infinitely_far():
    assert Constraint("energy_kwh", "<=", 1.0).violation(math.nan) == math.inf


@pytest.mark.parametrize("text", ["2e6", "== 3", "<= x", "<= nan", "<= inf", 3, None, "<= 1 2"])
def test_other_text_is_refused_with_an_example(text):
    with pytest.raises(SpaceError, match=r'`constraints\.params`.*write e\.g\. "<= 2e6"'):
        Constraint.parse("params", text)


def test_an_unknown_metric_offers_the_nearest():
    with pytest.raises(SpaceError, match="did you mean `params`"):
        parse_constraints({"parms": "<= 1"})
