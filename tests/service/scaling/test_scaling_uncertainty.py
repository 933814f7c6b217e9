"""Held-out errors and the intervals made of them, against closed forms and known surfaces."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.scaling.conformal import Conformal, predict_with_interval
from service.scaling.heldout import Heldout, budget_cuts, rolling_origin
from service.scaling.points import Points
from service.scaling.spread import log_jacobian, spread_of
from trainers.errors import ScalingError

SHARED = Path(__file__).parents[3].parent / "shared" / "data"
TRUE = {"E": 1.8, "A": 480.0, "B": 2100.0, "alpha": 0.35, "beta": 0.37}


def true_loss(params, tokens):
    return TRUE["E"] + TRUE["A"] * params ** -TRUE["alpha"] + TRUE["B"] * tokens ** -TRUE["beta"]


def surface(rng, *, budgets=6, sizes=6, noise=0.01, low=18, high=21):
    """Return isoFLOP points around the best size of each budget, with noise in the loss."""
    flops = np.repeat(np.logspace(low, high, budgets), sizes)
    params = 0.1 * flops**0.51 * np.tile(np.logspace(-0.6, 0.6, sizes), budgets)
    tokens = flops / 6 / params
    loss = true_loss(params, tokens) * np.exp(noise * rng.standard_normal(len(flops)))
    frame = pd.DataFrame({"n": params, "d": tokens, "l": loss})
    return Points.from_frame(frame, params="n", tokens="d", loss="l")


class Truth:
    def predict(self, params, tokens):
        return true_loss(params, tokens)


def test_what_is_held_out_always_costs_more_than_what_was_fitted():
    points = surface(np.random.default_rng(0))
    seen = []

    def fit(below):
        seen.append(below.frame["flops"].max())
        return Truth()

    heldout = rolling_origin(points, fit)
    assert heldout.num_cuts == len(seen) == 4
    assert (heldout.errors["flops"] > heldout.errors["cut"]).all()
    assert sorted(heldout.errors["cut"].unique()) == pytest.approx(seen)
    distance = np.log10(heldout.errors["flops"] / heldout.errors["cut"])
    np.testing.assert_allclose(heldout.errors["distance"], distance)
    assert heldout.by_cut()["num_heldout"].tolist() == [24, 18, 12, 6]


def test_errors_of_the_truth_are_the_noise_and_the_naive_baseline_is_worse():
    heldout = rolling_origin(surface(np.random.default_rng(1), sizes=40), lambda below: Truth())
    assert heldout.rmse == pytest.approx(0.01, rel=0.2)
    assert heldout.naive_rmse > 3 * heldout.rmse
    assert np.isnan(heldout.errors["spread"]).all()


def test_the_naive_baseline_is_the_nearest_known_point():
    points = surface(np.random.default_rng(2), noise=0)
    errors = rolling_origin(points, lambda below: Truth()).errors
    row = errors.iloc[-1]
    known = points.frame[points.frame["flops"] <= row["cut"]]
    away = np.hypot(
        np.log(known["params"] / row["params"]), np.log(known["tokens"] / row["tokens"])
    )
    assert row["naive"] == known["loss"].loc[away.idxmin()]


def test_too_few_budgets_are_refused_with_the_reason():
    with pytest.raises(ScalingError, match=r"at least 2 cuts .* allow 0"):
        rolling_origin(surface(np.random.default_rng(0), budgets=1), lambda below: Truth())

    def never(below):
        raise ScalingError("no minimum")

    with pytest.raises(ScalingError, match=r"allow 0 \(not fitted below .* no minimum"):
        rolling_origin(surface(np.random.default_rng(0)), never)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(1e3, 1e24), min_size=1, max_size=60))
def test_cuts_leave_enough_below_and_something_above(flops):
    cuts = budget_cuts(np.array(flops))
    assert len(cuts) <= 8
    assert cuts == sorted(set(cuts))
    for cut in cuts:
        assert sum(value <= cut for value in flops) >= 8
        assert any(value > cut for value in flops)


def test_a_budget_is_never_cut_through_and_a_continuum_is_cut_evenly():
    rng = np.random.default_rng(0)
    budgets = np.repeat([1e18, 1e19, 1e20, 1e21], 8) * rng.uniform(1.0, 1.015, 32)
    assert [sum(budgets <= cut) for cut in budget_cuts(budgets)] == [8, 16, 24]
    cuts = budget_cuts(10 ** np.linspace(18, 22, 5000))
    assert len(cuts) == 8
    np.testing.assert_allclose(np.diff(np.log10(cuts)), np.diff(np.log10(cuts))[0], atol=0.02)


def heldout_of(errors_by_cut, spread=np.nan):
    """Return held-out errors with a unit naive error, the cuts one decade apart."""
    parts = [
        pd.DataFrame(
            {
                "cut": 10.0**cut,
                "flops": 10.0 ** (cut + 1),
                "log_error": errors,
                "naive_log_error": 1.0,
                "spread": spread,
            }
        )
        for cut, errors in enumerate(errors_by_cut)
    ]
    return Heldout(errors=pd.concat(parts, ignore_index=True))


def test_the_multiplier_lies_midway_between_pooled_and_worst_quantile():
    first, second = np.arange(1.0, 100.0), np.arange(100.0, 199.0)
    conformal = Conformal.from_heldout(heldout_of([first, -second]), 0.9)
    # pooled: the ceil(199 x 0.9) = 180th smallest of 1..198; worst: the 90th of 100..198
    assert conformal.multiplier == pytest.approx((180 + 189) / 2)
    assert (conformal.num, conformal.num_cuts) == (198, 2)
    low, high = conformal.interval(2.0)
    assert np.log([2.0 / low, high / 2.0]) == pytest.approx(184.5)


def test_scores_are_taken_in_units_of_the_spread_and_intervals_grow_with_it():
    plain = Conformal.from_heldout(heldout_of([[0.1, 0.2, 0.3], [0.2]]), 0.5)
    unit = Conformal.from_heldout(heldout_of([[0.1, 0.2, 0.3], [0.2]], spread=0.1), 0.5)
    assert unit.multiplier == pytest.approx(10 * plain.multiplier)
    low, high = unit.interval([2.0, 2.0], spread=[0.1, 0.3])
    assert np.log(high / low)[1] == pytest.approx(3 * np.log(high / low)[0])


def test_coverage_is_checked_only_on_budgets_above_those_of_the_calibration():
    # At cut 10 only the first cut's error at 10 FLOP is known; it covers what is not above 0.1.
    conformal = Conformal.from_heldout(heldout_of([[0.1], [0.05, 0.1, 0.2, 0.3]]), 0.9)
    assert conformal.checks["num_calibration"].tolist() == [1]
    assert conformal.coverage == pytest.approx(0.5)
    assert Conformal.from_heldout(heldout_of([[0.1], []]), 0.9).coverage is None


@pytest.mark.parametrize("confidence", [0.0, 1.0, -1.0, 90.0, float("nan")])
def test_a_confidence_outside_0_to_1_is_refused(confidence):
    with pytest.raises(ScalingError, match="between 0 and 1"):
        Conformal.from_heldout(heldout_of([[0.1], [0.2]]), confidence)


def test_the_jacobian_agrees_with_the_closed_form():
    params, tokens = np.logspace(6, 9, 5), np.logspace(8, 10, 5)
    loss = true_loss(params, tokens)
    made = log_jacobian(
        lambda p: np.log(p["E"] + p["A"] * params ** -p["alpha"] + p["B"] * tokens ** -p["beta"]),
        TRUE,
    )
    of_n, of_d = TRUE["A"] * params ** -TRUE["alpha"], TRUE["B"] * tokens ** -TRUE["beta"]
    expected = np.stack(
        [
            np.full(5, TRUE["E"]),
            of_n,
            of_d,
            -TRUE["alpha"] * np.log(params) * of_n,
            -TRUE["beta"] * np.log(tokens) * of_d,
        ],
        axis=1,
    )
    np.testing.assert_allclose(made, expected / loss[:, None], rtol=1e-6)


def test_the_spread_of_a_line_is_the_textbook_prediction_error():
    rng = np.random.default_rng(3)
    x = rng.uniform(0, 10, 30)
    jacobian = np.stack([np.ones_like(x), x], axis=1)
    y = jacobian @ [1.0, 2.0] + rng.standard_normal(30)
    solution, rest, *_ = np.linalg.lstsq(jacobian, y, rcond=None)
    spread = spread_of(jacobian, y - jacobian @ solution, np.full(30, 7.0))
    variance = rest[0] / 28
    expected = np.sqrt(variance * (1 + 1 / 30 + (20 - x.mean()) ** 2 / ((x - x.mean()) ** 2).sum()))
    assert spread.at(np.array([[1.0, 20.0]]))[0] == pytest.approx(expected, rel=1e-9)


def test_a_direction_that_no_point_sees_adds_nothing_and_an_exact_law_keeps_a_unit():
    jacobian = np.array([[1.0, 0.0], [2.0, 0.0], [3.0, 0.0]])
    spread = spread_of(jacobian, np.zeros(3), np.ones(3))
    assert spread.at(np.array([[1.0, 5.0]]))[0] > 0
    assert np.isfinite(spread.root).all()


def coverage_over_draws(draws, *, rng):
    """Return the share of new points that 90 % intervals cover, inside and up to 10x beyond."""
    from service.scaling.fits import fit_joint

    inside, beyond = [], []
    for _ in range(draws):
        points = surface(rng)
        heldout = rolling_origin(points, lambda below: fit_joint(below, starts=8))
        conformal = Conformal.from_heldout(heldout, 0.9)
        fit = fit_joint(points, starts=8)
        for low, high, into in ((18, 21, inside), (21, 22, beyond)):
            new = surface(rng, budgets=5, low=low, high=high).frame
            table = predict_with_interval(fit, points, conformal, new["params"], new["tokens"])
            into.append(new["loss"].between(table["low"], table["high"]).mean())
    return float(np.mean(inside)), float(np.mean(beyond))


def test_intervals_cover_on_a_few_known_surfaces():
    inside, beyond = coverage_over_draws(10, rng=np.random.default_rng(4))
    assert inside > 0.75
    assert beyond > 0.75


@pytest.mark.long
def test_nominal_90_percent_covers_85_to_95_over_200_surfaces():
    inside, beyond = coverage_over_draws(200, rng=np.random.default_rng(5))
    assert 0.85 <= inside <= 0.95
    assert 0.85 <= beyond <= 0.95


@pytest.mark.skipif(not SHARED.exists(), reason="published points are not beside the project")
def test_intervals_on_published_points_cover_far_more_than_the_bootstrap():
    """Fit C < 1e21, predict 23 points above: parameter bootstrap 13 %, pooled conformal 70 %."""
    from service.scaling.fits import fit_joint

    points = Points.from_csv(
        SHARED / "chinchilla_epoch_points.csv",
        params="params",
        flops="flops",
        loss="loss",
        where="epoch_outlier == 0",
    )
    flops = points.frame["flops"]
    below, above = points.where(flops < 1e21), points.where(flops >= 1e21).frame
    heldout = rolling_origin(below, lambda part: fit_joint(part, starts=8))
    conformal = Conformal.from_heldout(heldout, 0.9)
    table = predict_with_interval(
        fit_joint(below), below, conformal, above["params"], above["tokens"]
    )
    covered = above["loss"].between(table["low"], table["high"]).mean()
    assert len(above) == 23
    assert covered >= 0.75
    assert heldout.rmse < 0.5 * heldout.naive_rmse
