from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq, curve_fit

from service.scaling.conformal import Conformal
from service.scaling.curve_choice import choose_law, curve_cuts, rolling_origin_curve
from service.scaling.curves import CURVE_LAWS, fit_curve, gains_per_doubling
from trainers.errors import ScalingError

SHARED = Path(__file__).parents[3].parent / "shared" / "data"
X = np.geomspace(3, 3e5, 16)


@settings(deadline=None, max_examples=15)
@given(
    b=st.floats(0.5, 50.0),
    c=st.floats(0.05, 1.0),
    share=st.floats(0.05, 0.8),
    rising=st.booleans(),
)
def test_a_power_with_a_constant_is_recovered(b, c, share, rising):
    part = b * (X / X[0]) ** -c
    e = share * b
    y = 2 * b - part if rising else e + part
    fit = fit_curve(X, y, "power_constant", increasing=rising)
    np.testing.assert_allclose(fit.predict(X), y, rtol=1e-4)
    assert fit.params["e"] == pytest.approx(2 * b if rising else e, rel=0.02)
    assert fit.params["c"] == pytest.approx(c, rel=0.02)


@pytest.mark.parametrize("rising", [False, True])
def test_a_plain_power_is_recovered(rising):
    y = 3 * X ** (0.3 if rising else -0.3)
    fit = fit_curve(X, y, "power", increasing=rising)
    assert fit.params == pytest.approx({"b": 3.0, "c": 0.3}, rel=1e-4)


@pytest.mark.parametrize("rising", [False, True])
def test_a_shifted_power_is_recovered(rising):
    y = 2 * (1 / X + 0.001) ** (-0.3 if rising else 0.3)
    fit = fit_curve(X, y, "shifted_power", increasing=rising)
    np.testing.assert_allclose(fit.predict(X), y, rtol=1e-3)
    assert fit.params["g"] == pytest.approx(0.001, rel=0.05)


@pytest.mark.parametrize("rising", [False, True])
def test_a_saturating_law_is_recovered_and_solves_its_equation(rising):
    e, s, alpha, b, c = (0.9, 0.1, 0.7, 5.0, 0.4) if rising else (0.1, 0.9, 0.7, 5.0, 0.4)

    def miss(y, x):
        return np.log(abs(y - e)) - alpha * np.log(abs(s - y)) - np.log(b) + c * np.log(x)

    low, high = min(e, s) + 1e-12, max(e, s) - 1e-12
    y = np.array([brentq(miss, low, high, args=(x,)) for x in X])
    fit = fit_curve(X, y, "saturating", increasing=rising)
    np.testing.assert_allclose(fit.predict(X), y, rtol=2e-3)
    got, p = fit.predict(X), fit.params
    left = np.abs(got - p["e"]) / np.abs(p["s"] - got) ** p["alpha"]
    np.testing.assert_allclose(left, p["b"] * X ** -p["c"], rtol=1e-6)


def broken(x, a=0.2, b=3.0, c0=0.1, c1=0.5, d1=1e3, f1=0.3):
    return a + b * x**-c0 * (1 + (x / d1) ** (1 / f1)) ** (-c1 * f1)


def test_a_broken_law_is_recovered_and_chosen_by_what_was_held_out():
    x = np.geomspace(3, 3e5, 24)
    noise = 0.002 * np.random.default_rng(0).standard_normal(24)
    chosen, table = choose_law(
        x, broken(x) * np.exp(noise), laws=("power", "power_constant", "broken_power")
    )
    assert chosen.law == "broken_power"
    np.testing.assert_allclose(chosen.predict(x), broken(x), rtol=0.01)
    by_law = table.set_index(["law", "breaks"])["ratio"]
    assert by_law["broken_power", chosen.breaks] < by_law["power_constant", 0] < 1.5


def test_the_formula_of_a_broken_law_is_the_published_one():
    fit = fit_curve(X, broken(X), "broken_power", breaks=1)
    np.testing.assert_allclose(fit.predict(X), broken(X, **fit.params), rtol=1e-9)
    np.testing.assert_allclose(fit.predict(X), broken(X), rtol=2e-3)


def test_without_a_break_none_is_chosen_and_no_law_beats_carrying_noise_forward_by_much():
    noise = np.exp(0.003 * np.random.default_rng(1).standard_normal(16))
    plain, table = choose_law(X, 3 * X**-0.3 * noise)
    assert plain.law == "power"
    assert set(table["law"]) == set(CURVE_LAWS)
    assert table["ratio"].iloc[0] < 0.05
    assert table.set_index("law")["ratio"]["last_value"] == 1.0
    rising_then_flat = np.minimum(X, X[3])
    flat, _ = choose_law(X, rising_then_flat, increasing=True, laws=("power",))
    assert flat.law == "last_value"


def test_the_last_value_is_carried_forward():
    fit = fit_curve([4, 1, 2, 4], [1.0, 3.0, 2.0, 2.0], "last_value")
    assert fit.predict([8.0, 100.0]).tolist() == [1.5, 1.5]
    assert fit.gain_per_doubling(4.0) == 0


def test_a_clean_curve_agrees_with_scipy_and_a_spike_moves_it_less():
    rng = np.random.default_rng(2)
    y = (1.2 + 3 * X**-0.4) * np.exp(0.01 * rng.standard_normal(16))
    reference, _ = curve_fit(lambda x, e, b, c: np.log(e + b * x**-c), X, np.log(y), p0=(1, 3, 0.5))
    clean = fit_curve(X, y, "power_constant")
    assert clean.params["e"] == pytest.approx(reference[0], rel=0.02)
    spiked = np.where(np.arange(16) == 9, 2 * y, y)
    moved = fit_curve(X, spiked, "power_constant").params["e"]
    least_squares, _ = curve_fit(
        lambda x, e, b, c: np.log(e + b * x**-c), X, np.log(spiked), p0=(1, 3, 0.5)
    )
    assert abs(moved - 1.2) < 0.5 * abs(least_squares[0] - 1.2)


@settings(deadline=None, max_examples=10)
@given(st.sampled_from(["power", "power_constant", "shifted_power"]), st.floats(1e-6, 1e9),
       st.floats(1e-3, 1e3))  # fmt: skip
def test_units_of_x_and_y_do_not_matter(law, x_unit, y_unit):
    y = 1.2 + 3 * X**-0.4 + 0.01 * np.sin(np.arange(16))
    plain, other = fit_curve(X, y, law), fit_curve(x_unit * X, y_unit * y, law)
    np.testing.assert_allclose(other.predict(x_unit * X), y_unit * plain.predict(X), rtol=1e-3)


def test_weights_count_as_repeated_points():
    y = 1.2 + 3 * X**-0.4 + 0.01 * np.sin(np.arange(16))
    weights = np.where(np.arange(16) < 8, 3.0, 1.0)
    repeated = np.repeat(np.arange(16), weights.astype(int))
    weighed = fit_curve(X, y, "power", weights=weights)
    listed = fit_curve(X[repeated], y[repeated], "power")
    # The robust scale counts points, so only the optimum up to it is the same.
    assert weighed.params["c"] == pytest.approx(listed.params["c"], rel=0.05)


def test_gains_per_doubling_of_a_logarithm_are_constant():
    table = gains_per_doubling([8, 1, 2, 32, 2], 100 + 7 * np.log2([8, 1, 2, 32, 2]))
    assert table["x_to"].tolist() == [2, 8, 32]
    np.testing.assert_allclose(table["gain_per_doubling"], 7.0)


@pytest.mark.skipif(not SHARED.exists(), reason="published points are not beside the project")
def test_elo_over_gpus_gains_what_was_published():
    """Silver et al. 2016, hardware table: +557, +112, +40 on one machine, then +176, +94, +42."""
    frame = pd.read_csv(SHARED / "alphago_hardware_elo.csv")
    alone = frame[frame["configuration"] == "Single"]
    many = frame[frame["configuration"] == "Distributed"]
    measured = gains_per_doubling(alone["gpus"], alone["elo"])["gain_per_doubling"]
    assert measured.tolist() == pytest.approx([557, 112, 40])
    spread_out = gains_per_doubling(many["gpus"], many["elo"])["gain_per_doubling"]
    assert spread_out.tolist() == pytest.approx([176, 94, 42], abs=1)
    fit = fit_curve(alone["gpus"], alone["elo"], "power_constant", increasing=True)
    gains = fit.gain_per_doubling([1.0, 2.0, 4.0])
    assert gains == pytest.approx([557, 112, 40], abs=15)


def test_prediction_intervals_of_a_curve_cover_what_comes():
    rng = np.random.default_rng(3)
    x, truth = np.geomspace(1, 1e4, 30), 1.2 + 3 * np.geomspace(1, 1e4, 30) ** -0.4
    heldout = rolling_origin_curve(
        x, truth * np.exp(0.01 * rng.standard_normal(30)), "power_constant"
    )
    assert heldout.rmse < 0.5 * heldout.naive_rmse
    conformal = Conformal.from_heldout(heldout, 0.9)
    assert conformal.by_spread
    assert 0.6 <= conformal.coverage <= 1.0
    naive = rolling_origin_curve(x, truth, "last_value")
    assert naive.rmse == naive.naive_rmse
    assert not Conformal.from_heldout(naive, 0.9).by_spread


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(1e-3, 1e9), min_size=1, max_size=40))
def test_curve_cuts_leave_points_on_both_sides(x):
    cuts = curve_cuts(np.array(x))
    assert len(cuts) <= 5
    for cut in cuts:
        assert len({value for value in x if value <= cut}) >= 3
        assert max(x) > cut


@pytest.mark.parametrize(
    ("x", "y", "law", "said"),
    [
        ([1, 2], [2, 1], "powr", "did you mean `power`"),
        ([1, 2], [2, 1], "power_constant", "3 parameters, but the points have 2"),
        ([1, 1, 1, 2], [2, 2, 2, 1], "power_constant", "3 parameters, but the points have 2"),
        ([0, 1, 2], [3, 2, 1], "power", r"x must be positive .*first: 0.0 at position 0"),
        ([1, 2, np.nan], [3, 2, 1], "power", "x must be positive"),
        ([1, 2, 3], [3, np.inf, 1], "power", r"y must be finite.* 1 of 3"),
        ([1, 2, 3], [3, 0, -1], "power", "positive everywhere, but the least y is -1"),
        ([1, 2, 3], [3, 2], "power", "one value per point"),
        ([], [], "power", "at least one point"),
        ([[1, 2]], [[1, 2]], "power", "one value per point"),
    ],
)
def test_bad_curves_are_refused(x, y, law, said):
    with pytest.raises(ScalingError, match=said):
        fit_curve(x, y, law)


def test_bad_weights_breaks_and_too_short_curves_are_refused():
    with pytest.raises(ScalingError, match="weights must be positive"):
        fit_curve([1, 2, 3], [3, 2, 1], "power", weights=[1, 0, 1])
    with pytest.raises(ScalingError, match="breaks must be 1 to 3, got 4"):
        fit_curve(X, X, "broken_power", breaks=4)
    with pytest.raises(ScalingError, match="did you mean `saturating`"):
        choose_law(X, X, laws=("saturate",))
    with pytest.raises(ScalingError, match="3 different x and a larger one"):
        choose_law([1, 2, 3], [3, 2, 1])
    with pytest.raises(ScalingError, match="2 cuts"):
        rolling_origin_curve([1, 2, 3, 4], [4, 3, 2, 1], "saturating")
    with pytest.raises(ScalingError, match="positive y"):
        rolling_origin_curve([1, 2, 3, 4], [4, 3, 2, -1], "power_constant")
