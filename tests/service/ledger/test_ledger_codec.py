import json
import math
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.ledger.codec import dumps, loads
from service.ledger.searches import file_name

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)


def same(a: Any, b: Any) -> bool:
    """Equal in value, type and order; NaN equals NaN."""
    if isinstance(a, float) and math.isnan(a):
        return isinstance(b, float) and math.isnan(b)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    return type(a) is type(b) and bool(a == b)


@settings(deadline=None, max_examples=200)
@given(plain)
def test_plain_values_come_back_and_the_text_is_strict_json(value: Any) -> None:
    text = dumps(value)
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert same(loads(text), value)


def test_values_of_numpy_and_odd_mappings_become_plain() -> None:
    value = {
        "a": np.float32("nan"),
        "b": np.array([1.0, np.inf]),
        "c": (np.int64(3), np.bool_(True)),
        "d": MappingProxyType({"path": Path("x") / "y"}),
        "e": {2, 1},
    }
    back = loads(dumps(value))
    assert math.isnan(back.pop("a"))
    assert back == {"b": [1.0, math.inf], "c": [3, True], "d": {"path": "x/y"}, "e": [1, 2]}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("plates-cnn", "plates-cnn"),
        ("Größe / breit", "Gr-e-breit"),
        ("../../etc/passwd", "etc-passwd"),
        ("...", "search"),
        ("", "search"),
        ("x" * 500, "x" * 60),
    ],
)
def test_names_become_fit_for_files(name: str, expected: str) -> None:
    assert file_name(name) == expected
