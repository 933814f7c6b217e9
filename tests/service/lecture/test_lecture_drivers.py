"""Page 6: what more model, data and computation bring."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.lecture.figures.drivers import _fit, _gain, saturating
from service.lecture.pages import page_of
from service.lecture.running import run_page


@settings(deadline=None, max_examples=20)
@given(st.floats(0.05, 0.3), st.floats(0.2, 0.6), st.floats(0.3, 1.2))
def test_a_planted_law_is_found_again(floor, scale, exponent):
    x = 100 * 2.0 ** np.arange(8)
    found = _fit(x, saturating(x, floor, scale, exponent))
    assert found == pytest.approx((floor, scale, exponent), rel=0.02)
    falls = [_gain(at, x[0], *found) for at in x]
    assert all(later < earlier for earlier, later in pairwise(falls))
    assert falls[0] == pytest.approx(scale * (1 - 2**-exponent), rel=0.05)


@pytest.mark.long
def test_more_of_each_driver_helps_and_the_model_saturates(tmp_path):
    measures = run_page(page_of("p6"), tmp_path).default.findings.measures
    for name in ("parameters", "training rows", "FLOPs"):
        assert float(measures[f"error at the most {name}"]) < 0.8 * float(
            measures[f"error at the fewest {name}"]
        )
    first, last = (
        float(measures[f"what the {which} doubling of parameters brings"])
        for which in ("first", "last")
    )
    assert last < first / 4
