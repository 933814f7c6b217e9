"""Answers against closed forms of a law that is known exactly."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from known_law import GAMMA, TRUTH, K, best_loss, best_size, draws, exact_fit

from service.energy.site import Site
from service.scaling.answers.energy_axis import EnergyAxis
from service.scaling.answers.frontier import frontier
from service.scaling.answers.off_optimal import off_optimal
from service.scaling.answers.returns import knee, marginal
from service.scaling.points import Points
from trainers.errors import ConfigError, SiteError

FLOPS_ONLY = EnergyAxis()
FRANCE = Site(country="FRA", intensity_g_per_kwh=50.0, pue=1.2, price_per_kwh=0.25)
METERED = EnergyAxis(kwh_per_flop=2e-18, source="given", site=FRANCE)
BUDGETS = np.array([1e19, 1e21, 1e22])


def test_the_frontier_is_the_closed_form():
    found = frontier(exact_fit(), BUDGETS, METERED).frame
    assert found["params"].to_numpy() == pytest.approx(best_size(BUDGETS), rel=1e-9)
    assert found["tokens"].to_numpy() == pytest.approx(BUDGETS / (K * best_size(BUDGETS)), rel=1e-9)
    assert found["loss"].to_numpy() == pytest.approx(best_loss(BUDGETS), rel=1e-12)
    grows = np.log10(found["params"].iloc[2] / found["params"].iloc[1])
    assert grows == pytest.approx(TRUTH["beta"] / (TRUTH["alpha"] + TRUTH["beta"]))
    assert found["kwh"].to_numpy() == pytest.approx(BUDGETS * 2e-18 * 1.2)
    assert found["kgco2e"].to_numpy() == pytest.approx(BUDGETS * 2e-18 * 1.2 * 0.05)
    assert found["cost"].to_numpy() == pytest.approx(BUDGETS * 2e-18 * 1.2 * 0.25)


def test_a_far_budget_is_warned_about_and_a_near_one_is_not():
    fit = exact_fit()
    far = frontier(fit, np.array([1e21, 1.1e22]), FLOPS_ONLY).warnings
    assert any("11x the largest budget" in text for text in far)
    near = frontier(fit, np.array([1e22]), FLOPS_ONLY).warnings
    assert not any("largest budget" in text for text in near)
    assert any("no prediction interval" in text for text in near)


def test_sizes_have_the_bootstraps_percentiles():
    rows = draws()
    found = frontier(exact_fit(bootstrap=rows), np.array([1e21]), FLOPS_ONLY).frame.iloc[0]
    sizes = [best_size(1e21, row) for row in rows.to_dict("records")]
    assert found["params_low"] == pytest.approx(np.percentile(sizes, 5))
    assert found["params_high"] == pytest.approx(np.percentile(sizes, 95))


@settings(deadline=None, max_examples=15)
@given(exponent=st.floats(17, 24))
def test_a_doubling_gains_what_the_law_says(exponent):
    flops = np.array([10.0**exponent])
    found = marginal(exact_fit(), flops, FLOPS_ONLY, "flops").frame.iloc[0]
    reducible = best_loss(flops[0]) - TRUTH["E"]
    assert found["gain"] == pytest.approx(reducible * (1 - 2**-GAMMA), rel=1e-6)
    assert found["reducible_share"] == pytest.approx(1 - 2**-GAMMA, rel=1e-6)
    assert found["slope_per_unit"] == pytest.approx(GAMMA * reducible / flops[0], rel=1e-5)


def test_returns_are_the_same_money_in_every_unit():
    fit = exact_fit()
    per = {unit: marginal(fit, BUDGETS, METERED, unit).frame for unit in METERED.known_units()}
    assert set(per) == {"flops", "kwh", "kgco2e", "currency"}
    kwh = per["flops"]["gain_per_unit"] / (2e-18 * 1.2)
    assert per["kwh"]["gain_per_unit"].to_numpy() == pytest.approx(kwh.to_numpy())
    assert per["kgco2e"]["gain_per_unit"].to_numpy() == pytest.approx((kwh / 0.05).to_numpy())
    assert per["currency"]["gain_per_unit"].to_numpy() == pytest.approx((kwh / 0.25).to_numpy())


@settings(deadline=None, max_examples=15)
@given(threshold=st.floats(0.002, 0.05))
def test_the_knee_is_where_the_closed_form_says(threshold):
    scale = (best_loss(1e20) - TRUTH["E"]) * 1e20**GAMMA
    share = knee(exact_fit(), threshold)
    removed = 1 - 2**-GAMMA
    expected = (scale / TRUTH["E"] * (removed / threshold - 1)) ** (1 / GAMMA)
    assert share.flops == pytest.approx(expected, rel=1e-6)
    gain = knee(exact_fit(), threshold, relative=False)
    assert gain.flops == pytest.approx((scale * removed / threshold) ** (1 / GAMMA), rel=1e-6)


def test_a_knee_that_does_not_exist_is_said_to_be_none():
    floorless = exact_fit({**TRUTH, "E": 0.0})
    never = knee(floorless, 0.01)
    assert np.isinf(never.flops)
    assert "every doubling" in never.sentence
    assert knee(exact_fit(), 0.9).flops == 0.0


def test_the_knee_has_the_bootstraps_interval():
    found = knee(exact_fit(bootstrap=draws(spread=0.01)), 0.01)
    assert found.low < found.flops < found.high
    assert "90 %" in found.sentence


@settings(deadline=None, max_examples=10)
@given(k=st.floats(0.1, 10.0))
def test_a_wrong_size_costs_what_the_closed_form_says(k):
    """L - E = R (beta k^-alpha + alpha k^beta) / (alpha + beta), R being the best's L - E."""
    alpha, beta = TRUTH["alpha"], TRUTH["beta"]
    found = off_optimal(exact_fit(), k, 1e21).frame.iloc[0]
    factor = (beta * k**-alpha + alpha * k**beta) / (alpha + beta)
    reducible = best_loss(1e21) - TRUTH["E"]
    assert found["loss"] == pytest.approx(TRUTH["E"] + reducible * factor, rel=1e-9)
    assert found["compute_wasted"] == pytest.approx(1 - factor ** (-1 / GAMMA), abs=1e-6)


def test_energy_is_taken_from_the_larger_runs():
    fit = exact_fit()
    frame = fit.points.frame.copy()
    frame["kwh"] = 3e-18 * frame["flops"] + 5.0  # 5 kWh to start, whatever the size
    assert EnergyAxis.from_points(fit.points, FRANCE).kwh_per_flop is None
    metered = Points.from_frame(frame, params="params", tokens="tokens", flops="flops",
                                loss="loss", kwh="kwh")  # fmt: skip
    axis = EnergyAxis.from_points(metered, FRANCE)
    large = frame[frame["flops"] >= frame["flops"].median()]
    assert axis.kwh_per_flop == pytest.approx(np.median(large["kwh"] / large["flops"]))


@pytest.mark.parametrize(
    ("ask", "error", "message"),
    [
        (lambda fit: marginal(fit, BUDGETS, FLOPS_ONLY, "kwh"), ConfigError, "kWh"),
        (lambda fit: marginal(fit, BUDGETS, METERED, "kgco2"), ConfigError, "mean `kgco2e`"),
        (lambda fit: marginal(fit, BUDGETS, EnergyAxis(kwh_per_flop=1e-18), "kgco2e"), SiteError,
         "ISOFLOP_COUNTRY"),
        (lambda fit: marginal(fit, BUDGETS, EnergyAxis(kwh_per_flop=1e-18), "currency"), SiteError,
         "ISOFLOP_PRICE_PER_KWH"),
        (lambda fit: knee(fit, 0.0), ConfigError, "between 0 and 1"),
        (lambda fit: knee(fit, 1.0), ConfigError, "between 0 and 1"),
        (lambda fit: knee(fit, -1.0, relative=False), ConfigError, "positive"),
        (lambda fit: off_optimal(fit, [], 1e21), ConfigError, "none"),
        (lambda fit: off_optimal(fit, -2.0, 1e21), ConfigError, "-2.0"),
        (lambda fit: off_optimal(fit, 2.0, float("nan")), ConfigError, "nan"),
        (lambda fit: EnergyAxis(kwh_per_flop=-1.0), ConfigError, "-1.0"),
    ],
)  # fmt: skip
def test_bad_questions_are_refused(ask, error, message):
    with pytest.raises(error, match=message):
        ask(exact_fit())
