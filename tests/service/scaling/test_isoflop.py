import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_surfaces import HOFFMANN, best_size, chinchilla_points, isoflop_frame, points_of

from service.scaling.fits import fit_isoflop
from service.scaling.minima import (
    INTERPOLANTS,
    Interpolant,
    interpolation_bias,
    minima,
    valley_exponents,
)
from trainers.errors import ScalingError

BUDGETS = np.geomspace(1e18, 1e21, 5)
PARABOLA = Interpolant("parabola", 0.3, 0.3)


@pytest.mark.parametrize(
    ("spread", "percent"), [(2, -0.3), (4, -1.3), (8, -2.9), (16, -5.1)], ids="{}x".format
)
def test_parabolas_are_biased_as_published(spread, percent):
    """Open-Athena 2026: 15 sizes on Chinchilla's surface, 2x to 16x either side."""
    log_sizes = np.linspace(-np.log(spread), np.log(spread), 15)
    assert 100 * interpolation_bias(log_sizes, PARABOLA) == pytest.approx(percent, abs=0.05)
    points = points_of(isoflop_frame(BUDGETS, spread, 15))
    table = fit_isoflop(points, "parabola").minima
    true_tokens = table["flops"] / (6 * best_size(table["flops"].to_numpy(), HOFFMANN))
    np.testing.assert_allclose(100 * (table["tokens"] / true_tokens - 1), percent, atol=0.05)


@settings(deadline=None, max_examples=15)
@given(
    alpha=st.floats(0.15, 0.9),
    beta=st.floats(0.15, 0.9),
    spread=st.floats(3, 16),
    shift=st.floats(0.5, 2.0),
    num_sizes=st.integers(5, 12),
)
def test_valleys_have_no_bias_on_any_surface(alpha, beta, spread, shift, num_sizes):
    law = {"E": 1.7, "A": 3e8**alpha, "B": 3e10**beta, "alpha": alpha, "beta": beta}
    fit = fit_isoflop(points_of(isoflop_frame(BUDGETS, spread, num_sizes, law, shift)))
    assert not fit.minima["at_edge"].any()
    truth = best_size(fit.minima["flops"].to_numpy(), law)
    np.testing.assert_allclose(fit.minima["params"], truth, rtol=5e-3)
    assert fit.params["a"] == pytest.approx(beta / (alpha + beta), abs=2e-3)
    assert fit.params["a"] + fit.params["b"] == pytest.approx(1.0)
    assert fit.r2 == pytest.approx(1.0, abs=1e-4)


def test_akima_follows_the_skew_better_than_a_parabola():
    log_sizes = np.linspace(-np.log(8), np.log(8), 11)
    akima = abs(interpolation_bias(log_sizes, Interpolant("akima", 0.3, 0.3)))
    assert akima < 0.2 * abs(interpolation_bias(log_sizes, PARABOLA))


def test_under_noise_valleys_are_as_steady_as_parabolas_and_unbiased():
    """Seven sizes, 8-fold either side, 0.2 % noise; exponents .5 and .2."""
    rng = np.random.default_rng(0)
    log_sizes = np.linspace(-np.log(8), np.log(8), 7)
    valley = np.exp(-0.5 * log_sizes) / 0.5 + np.exp(0.2 * log_sizes) / 0.2
    clean = 1.9 + 0.5 * valley / valley.min()
    noisy = clean * np.exp(0.002 * rng.standard_normal((200, 7)))
    exponents = valley_exponents([(log_sizes, row) for row in noisy[:10]])
    found = {
        name: minima(log_sizes, noisy, Interpolant(name, *exponents)).log_params
        for name in INTERPOLANTS
    }
    rms = {name: float(np.sqrt(np.mean(at**2))) for name, at in found.items()}
    assert rms["valley"] < 0.7 * rms["parabola"]
    assert rms["valley"] < 0.7 * rms["akima"]
    assert abs(found["valley"].mean()) < 0.2 * abs(found["parabola"].mean())


def test_the_loss_at_the_minima_follows_the_frontier():
    points = points_of(isoflop_frame(BUDGETS, 4, 9))
    fit = fit_isoflop(points)
    assert fit.params["E"] == pytest.approx(HOFFMANN["E"], abs=1e-3)
    gamma = HOFFMANN["alpha"] * HOFFMANN["beta"] / (HOFFMANN["alpha"] + HOFFMANN["beta"])
    assert fit.params["gamma"] == pytest.approx(gamma, abs=1e-3)
    best = fit.optimum([1e22])
    assert best["params"][0] == pytest.approx(best_size(1e22, HOFFMANN), rel=1e-3)
    assert best["params"][0] * best["tokens"][0] * 6 == pytest.approx(1e22)


def test_minima_at_an_edge_are_flagged_and_left_out():
    """The two largest budgets hold sizes below their best only."""
    frame = isoflop_frame(BUDGETS, 4, 9)
    largest = frame["N"] * frame["D"] * 6 > 0.9 * BUDGETS[3]
    too_small = frame["N"] < 0.9 * best_size(6 * frame["N"] * frame["D"], HOFFMANN)
    fit = fit_isoflop(points_of(frame[~largest | too_small]))
    assert fit.minima["at_edge"].tolist() == [False, False, False, True, True]
    assert fit.params["a"] == pytest.approx(0.28 / 0.62, abs=1e-3)
    assert any("edge of the sizes at 1.8e+20, 1e+21 FLOPs" in text for text in fit.warnings)


def test_budgets_come_from_a_column_or_from_where_flops_crowd():
    frame = isoflop_frame(BUDGETS, 4, 9)
    exact = fit_isoflop(points_of(frame))
    assert any("points are grouped where FLOPs crowd" in note for note in exact.notes)
    rng = np.random.default_rng(0)
    flops = np.repeat(BUDGETS, 9)
    blurred = frame.assign(D=frame["D"] * np.exp(0.02 * rng.standard_normal(len(frame))))
    stray = pd.DataFrame({"N": [1e9], "D": [4e8], "L": [3.0]})
    grouped = fit_isoflop(points_of(pd.concat([blurred, stray])))
    assert len(grouped.minima) == 5
    np.testing.assert_allclose(grouped.minima["flops"], BUDGETS, rtol=0.05)
    assert any(note.startswith("1 budgets left out") for note in grouped.notes)
    named = fit_isoflop(points_of(blurred.assign(budget=flops)), budget="budget")
    np.testing.assert_allclose(named.minima["flops"], BUDGETS)
    usual = fit_isoflop(points_of(blurred.assign(budget_flops=flops)))
    pd.testing.assert_frame_equal(usual.minima, named.minima)


def noisy_frame(noise, seeds=1, seed=0):
    rng = np.random.default_rng(seed)
    frame = isoflop_frame(BUDGETS, 6, 7).assign(budget_flops=np.repeat(BUDGETS, 7))
    copies = pd.concat([frame.assign(seed=one) for one in range(seeds)], ignore_index=True)
    return copies.assign(L=copies["L"] * np.exp(noise * rng.standard_normal(len(copies))))


@pytest.mark.parametrize("seeds", [1, 3])
def test_noise_is_measured_between_seeds_or_about_valleys(seeds):
    fit = fit_isoflop(points_of(noisy_frame(0.004, seeds), seed="seed"))
    (note,) = [note for note in fit.notes if note.startswith("noise of one run")]
    assert float(note.split()[4]) == pytest.approx(0.4, rel=0.4)
    assert note.endswith("between seeds" if seeds > 1 else "what valleys leave of curves")
    assert (fit.minima["low"] < fit.minima["params"]).all()
    assert (fit.minima["params"] < fit.minima["high"]).all()


def test_intervals_of_the_exponent_cover_the_truth():
    hits = 0
    for seed in range(40):
        fit = fit_isoflop(points_of(noisy_frame(0.002, seed=seed), seed="seed"), bootstrap=100)
        low, high = fit.interval(0.9).loc["a", ["low", "high"]]
        hits += low <= 0.28 / 0.62 <= high
    assert 32 <= hits <= 40


def test_a_mapping_carries_the_intervals():
    fit = fit_isoflop(points_of(noisy_frame(0.002)), seed=1)
    content = fit.to_mapping(0.9)
    assert content["method"] == "isoflop"
    assert content["intervals"]["a"]["low"] < content["params"]["a"]
    assert set(fit.curves.columns) == {"flops", "params", "loss"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"interpolant": "akmia"}, "did you mean `akima`"),
        ({"budget": "flop"}, "did you mean `flops`"),
    ],
)
def test_what_is_unknown_is_refused_with_the_nearest(options, message):
    with pytest.raises(ScalingError, match=message):
        fit_isoflop(points_of(isoflop_frame(BUDGETS, 4, 9)), **options)


def test_points_that_are_no_isoflop_curves_are_refused():
    with pytest.raises(ScalingError, match="need two or more budgets of 4 or more sizes each"):
        fit_isoflop(chinchilla_points(num_sizes=3))


def test_one_minimum_is_no_exponent():
    frame = isoflop_frame(BUDGETS[:2], 4, 9)
    too_small = frame["N"] < 0.9 * best_size(6 * frame["N"] * frame["D"], HOFFMANN)
    second = frame["N"] * frame["D"] * 6 > 1.1 * BUDGETS[0]
    with pytest.raises(ScalingError, match="1 of 2 lie inside"):
        fit_isoflop(points_of(frame[~second | too_small]))


def test_several_recipes_are_refused():
    frame = isoflop_frame(BUDGETS, 4, 9).assign(by=["adamw", "muon", "adamw"] * 15)
    with pytest.raises(ScalingError, match="minima are of one recipe, but the points have 2"):
        fit_isoflop(points_of(frame, by="by"))


def test_scatter_beyond_the_noise_widens_the_interval_and_is_said():
    """Each budget's sizes are mislabelled by a factor of its own, up to 30 %."""
    frame = noisy_frame(0.001)
    factor = np.repeat([1.3, 0.8, 1.0, 0.8, 1.3], 7)
    scattered = frame.assign(N=frame["N"] * factor, D=frame["D"] / factor)
    straight, bent = fit_isoflop(points_of(frame)), fit_isoflop(points_of(scattered))
    assert any("times as much as the noise" in note for note in bent.notes)
    widths = [
        fit.interval().loc["a", "high"] - fit.interval().loc["a", "low"] for fit in (straight, bent)
    ]
    assert widths[1] > 1.5 * widths[0]
    low, high = bent.interval().loc["a", ["low", "high"]]
    assert low < 0.28 / 0.62 < high
