import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.report.numbers import (
    duration,
    energy,
    interval_text,
    mass,
    percent,
    setting,
    short,
)
from service.search.objectives import Interval


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0213, "0.0213"), (1e-5, "1e-5"), (2.2e-5, "2.2e-5"), (128.0, "128"), (0, "0"),
     (1234567.0, "1.23e6"), (math.nan, "not finite"), (None, "–"), (-0.5, "-0.5")],
)  # fmt: skip
def test_numbers_are_short(value, text):
    assert short(value) == text


@given(st.floats(1e-12, 1e12))
def test_short_keeps_three_significant_digits(value):
    assert float(short(value)) == pytest.approx(value, rel=5.1e-3)


def interval(mean, half):
    return Interval(mean=mean, low=mean - half, high=mean + half, num_values=3, confidence=0.95)


@pytest.mark.parametrize(
    ("mean", "half", "text"),
    [(0.02134, 0.00312, "0.021 ± 0.003"), (0.0193, 0.0015, "0.0193 ± 0.0015"),
     (0.5, math.inf, "0.5"), (0.25, 0.0, "0.250 ± 0.000"), (12.3, 4.1, "12 ± 4")],
)  # fmt: skip
def test_intervals_show_what_their_width_supports(mean, half, text):
    assert interval_text(interval(mean, half)) == text


def test_units_read_well():
    assert energy(1.5) == "1.5 kWh"
    assert energy(0.0123) == "12.3 Wh"
    assert energy(2e-6) == "2 mWh"
    assert mass(0.003) == "3 g"
    assert duration(3.21) == "3.2 s"
    assert duration(200) == "3 min 20 s"
    assert duration(3 * 86400) == "3 d 0 h"
    assert percent(0.3) == "30 %"
    assert percent(0.0041) == "0.41 %"
    assert setting(True) == "true"
    assert setting(None) == "none"
