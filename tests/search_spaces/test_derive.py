import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces.derive import Derived, derive
from trainers.errors import SpaceError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2 * model.width", 128),
        ("max(2, model.width // 48)", 2),
        ("min(model.width, 32, 100)", 32),
        ("floor(model.width / 3)", 21),
        ("-model.width + 2 * (3 - 1) % 3", -63),
        ("1e-3 * model.width", 0.064),
        ("7", 7),
    ],
)
def test_arithmetic_is_pythons(text, expected):
    result = Derived("t", text).evaluate({"model.width": 64})
    assert result == pytest.approx(expected)
    assert isinstance(result, type(expected))


@settings(deadline=None, max_examples=200)
@given(st.integers(-50, 50), st.integers(1, 50), st.sampled_from(["+", "-", "*", "/", "//", "%"]))
def test_each_operator_agrees_with_python(a, b, op):
    python = {
        "+": a + b,
        "-": a - b,
        "*": a * b,
        "/": a / b,
        "//": a // b,
        "%": a % b,
    }[op]
    assert Derived("t", f"a {op} b").evaluate({"a": a, "b": b}) == python


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "().__class__.__bases__",
        "model.width ** 2",
        "9**9**9",
        "[1, 2][0]",
        "'a' * 3",
        "lambda: 1",
        "(x := 3)",
        "x if y else z",
        "a and b",
        "a < b",
        "not a",
        "~a",
        "a @ b",
        "f'{a}'",
        "max(*a)",
        "max(a, key=b)",
        "abs(a)",
        "model.width.__class__()",
        "f(1).x",
        "True",
        "1j",
        "max()",
        "floor(1, 2)",
        "a b",
        "",
        "1 +",
        "(" * 300,
        "1+" * 400 + "1",
        "a; b",
        "await a",
    ],
)
def test_everything_but_arithmetic_is_refused_before_evaluation(text):
    with pytest.raises(SpaceError, match=r"`derive\.t`"):
        Derived("t", text)


def test_paths_are_listed_once():
    assert Derived("t", "a.b + max(a.b, c)").paths == ("a.b", "c")


@pytest.mark.parametrize(
    ("text", "values", "words"),
    [
        ("1 / a", {"a": 0}, "division by zero"),
        ("a * b", {"a": 1}, "reads `b`, which has no value"),
        ("a", {"a": "adam"}, "no number"),
        ("a", {"a": True}, "no number"),
        ("a * a", {"a": 1e200}, "gives inf"),
        ("floor(a)", {"a": math.inf}, "fails"),
    ],
)
def test_a_failing_evaluation_names_expression_and_values(text, values, words):
    with pytest.raises(SpaceError, match=words):
        Derived("t", text).evaluate(values)


def test_rules_may_build_on_each_other_in_any_order():
    rules = {"c": Derived("c", "2 * b"), "b": Derived("b", "a + 1")}
    assert derive(rules, {"a": 3}) == {"b": 4, "c": 8}


def test_rules_in_a_circle_are_refused():
    rules = {"a": Derived("a", "b"), "b": Derived("b", "a")}
    with pytest.raises(SpaceError, match="in a circle"):
        derive(rules, {})
    with pytest.raises(SpaceError, match="in a circle"):
        derive({"a": Derived("a", "a + 1")}, {"a": 1})
