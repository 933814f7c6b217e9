"""Fits of points whose law is known, and what is refused or warned about."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_surfaces import HOFFMANN, chinchilla_loss, chinchilla_points, grid, points_of
from scipy.optimize import minimize
from scipy.special import huber as scipy_huber

from service.scaling.fits import METHODS, fit_joint
from service.scaling.joint_laws import predict_loss
from trainers.errors import ScalingError


@settings(deadline=None, max_examples=10)
@given(
    floor=st.floats(0.1, 3.0),
    of_params=st.floats(0.05, 2.0),
    of_tokens=st.floats(0.05, 2.0),
    alpha=st.floats(0.15, 0.8),
    beta=st.floats(0.15, 0.8),
)
@pytest.mark.parametrize("method", METHODS)
def test_the_truth_is_recovered_without_noise(method, floor, of_params, of_tokens, alpha, beta):
    """Terms are drawn as their size at the centre of the points."""
    law = {
        "E": floor,
        "A": of_params * 3e8**alpha,
        "B": of_tokens * 3e10**beta,
        "alpha": alpha,
        "beta": beta,
    }
    fit = fit_joint(chinchilla_points(law), method=method)
    assert fit.params["alpha"] == pytest.approx(alpha, rel=2e-3)
    assert fit.params["beta"] == pytest.approx(beta, rel=2e-3)
    assert fit.params["E"] == pytest.approx(floor, rel=2e-3)
    assert fit.params["a"] == pytest.approx(beta / (alpha + beta), rel=2e-3)


@settings(deadline=None, max_examples=10)
@given(alpha=st.floats(0.05, 0.3), beta=st.floats(0.05, 0.3), share=st.floats(0.2, 0.8))
def test_kaplans_truth_is_recovered_without_noise(alpha, beta, share):
    """`share` is the part of the size's term at the centre of the points."""
    params, tokens = grid()
    law = {
        "Nc": 3e8 * (1e3 * share) ** (beta / alpha),
        "Dc": 3e10 * 1e3 * (1 - share),
        "alpha": alpha,
        "beta": beta,
    }
    loss = predict_loss("kaplan", law, params, tokens)
    fit = fit_joint(points_of(pd.DataFrame({"N": params, "D": tokens, "L": loss})), "kaplan")
    assert fit.params["alpha"] == pytest.approx(alpha, rel=1e-4)
    assert fit.params["beta"] == pytest.approx(beta, rel=1e-4)
    assert fit.params["a"] == pytest.approx(beta / (alpha + beta), rel=1e-4)


@settings(deadline=None, max_examples=5)
@given(decay=st.floats(2.0, 40.0))
def test_the_worth_of_repeats_is_recovered_without_noise(decay):
    params, tokens = grid()
    unique = np.minimum(tokens, 4e9)
    law = {**HOFFMANN, "repeats_decay": decay}
    loss = predict_loss("repeated_data", law, params, tokens, unique)
    frame = pd.DataFrame({"N": params, "D": tokens, "L": loss, "unique": unique})
    fit = fit_joint(points_of(frame), "repeated_data", unique_tokens="unique")
    assert fit.params["repeats_decay"] == pytest.approx(decay, rel=1e-3)
    assert fit.params["beta"] == pytest.approx(HOFFMANN["beta"], rel=1e-3)
    np.testing.assert_allclose(fit.predict(params, tokens, unique), loss, rtol=1e-6)


def test_the_optimum_is_no_worse_than_scipys_from_the_truth():
    """Huber losses and their sum by SciPy, with finite differences."""
    points = chinchilla_points(noise=0.02)
    log_loss = np.log(points.frame["loss"])

    def objective(theta):
        e, a, alpha, b, beta = theta
        law = {"E": np.exp(e), "A": np.exp(a), "B": np.exp(b), "alpha": alpha, "beta": beta}
        predicted = chinchilla_loss(points.frame["params"], points.frame["tokens"], law)
        return 1e6 * scipy_huber(1e-3, np.log(predicted) - log_loss).sum()

    truth = [*np.log([HOFFMANN["E"], HOFFMANN["A"]]), 0.34, np.log(HOFFMANN["B"]), 0.28]
    reference = minimize(objective, truth, method="Nelder-Mead", options={"maxiter": 4000})
    fit = fit_joint(points)
    assert fit.objective <= 1e-6 * reference.fun * (1 + 1e-9)
    values = fit.params
    found = [*np.log([values["E"], values["A"]]), values["alpha"]]
    assert objective([*found, np.log(values["B"]), values["beta"]]) == pytest.approx(
        1e6 * fit.objective
    )


def test_a_weight_of_two_is_a_point_twice():
    points = chinchilla_points(noise=0.02)
    double = np.arange(len(points)) % 3 == 0
    rows = points.frame[["params", "tokens", "loss"]]
    columns = {"params": "params", "tokens": "tokens", "loss": "loss"}
    weighted = points_of(rows.assign(w=np.where(double, 2.0, 1.0)), **columns, weight="w")
    # Seeds keep equal rows from being dropped as duplicates.
    twice = pd.concat([rows.assign(seed=0), rows[double].assign(seed=1)])
    repeated = points_of(twice, **columns, seed="seed")
    one, other = fit_joint(weighted), fit_joint(repeated)
    assert one.objective == pytest.approx(other.objective, rel=1e-9)
    assert one.params["alpha"] == pytest.approx(other.params["alpha"], rel=1e-6)


def test_the_unit_of_tokens_changes_its_scale_only():
    points = chinchilla_points(noise=0.02)
    frame = points.frame.assign(tokens=points.frame["tokens"] / 1e6)
    columns = {"params": "params", "tokens": "tokens", "loss": "loss"}
    one, other = fit_joint(points), fit_joint(points_of(frame, **columns))
    assert other.params["beta"] == pytest.approx(one.params["beta"], rel=1e-7)
    scale = 1e6 ** -one.params["beta"]
    assert other.params["B"] == pytest.approx(one.params["B"] * scale, rel=1e-5)


def test_same_seed_same_fit_and_optima_follow_the_closed_form():
    points = chinchilla_points(noise=0.01)
    one, other = fit_joint(points, bootstrap=20, seed=3), fit_joint(points, bootstrap=20, seed=3)
    assert one.params == other.params
    pd.testing.assert_frame_equal(one.bootstrap, other.bootstrap)
    best = one.optimum([1e19, 1e21])
    np.testing.assert_allclose(6 * best["params"] * best["tokens"], [1e19, 1e21])
    np.testing.assert_allclose(best["loss"], one.predict(best["params"], best["tokens"]))
    growth = np.log(best["params"][1] / best["params"][0]) / np.log(100)
    assert growth == pytest.approx(one.params["a"])


def test_a_minimum_that_one_start_found_is_flagged():
    fit = fit_joint(chinchilla_points(noise=0.02), starts=32)
    assert fit.converged
    assert fit.converged_share > 0.5
    assert fit.warnings == ()


def test_points_without_a_floor_are_said_to_have_none():
    points = chinchilla_points({**HOFFMANN, "E": 1e-9})
    fit = fit_joint(points)
    assert any("E went to zero" in warning for warning in fit.warnings)


def test_a_loss_that_rises_with_tokens_is_said_to():
    params, tokens = grid()
    loss = 2.0 + 400 * params**-0.34 + 1e-4 * tokens**0.3
    fit = fit_joint(points_of(pd.DataFrame({"N": params, "D": tokens, "L": loss})))
    assert any("beta" in warning and "not positive" in warning for warning in fit.warnings)


def test_a_scale_is_never_reported_without_its_correlation():
    fit = fit_joint(chinchilla_points(noise=0.01), bootstrap=50)
    bare = fit_joint(chinchilla_points(noise=0.01))
    for each in (fit, bare):
        content = json.loads(json.dumps(each.to_mapping()))
        assert content["correlations"]["alpha"]["log_A"] > 0.99
        assert content["correlations"]["beta"]["log_B"] > 0.99
        assert content["law"] == "chinchilla"
    assert set(content["params"]) == {"E", "A", "B", "alpha", "beta", "a", "b"}
    assert fit.to_mapping()["intervals"]["a"]["low"] < fit.params["a"]
    assert bare.to_mapping()["intervals"] is None


def test_a_row_of_the_bootstrap_is_a_fit_of_its_own():
    fit = fit_joint(chinchilla_points(noise=0.01), bootstrap=5)
    row = fit.bootstrap.iloc[2]
    other = fit.with_params(row)
    expected = predict_loss("chinchilla", row, 1e9, 1e11)
    assert float(other.predict(1e9, 1e11)) == pytest.approx(float(expected))
    assert other.params["a"] == pytest.approx(row["a"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"law": "chinchila"}, "did you mean `chinchilla`"),
        ({"method": "lbfgs"}, "method must be one of log_huber_lbfgsb"),
        ({"reduction": "median"}, "reduction must be one of sum, mean"),
        ({"tolerance": "loose"}, "tolerance must be one of tight, scipy"),
        ({"delta": 0.0}, "delta must be positive, got 0.0"),
        ({"delta": float("nan")}, "delta must be positive"),
        ({"starts": 0}, "starts must be a positive number"),
        ({"starts": True}, "starts must be a positive number"),
        ({"starts": "some"}, "starts must be a positive number or `grid`"),
        (
            {"law": "kaplan", "starts": "grid"},
            "published grid of starts is of the law `chinchilla`",
        ),
        ({"bootstrap": 1}, "bootstrap must be 0 or a number of resamples from 2 on"),
        ({"bootstrap": -5}, "bootstrap must be 0"),
        ({"method": "variable_projection", "law": "kaplan"}, "fits the law `chinchilla`"),
        ({"method": "variable_projection", "reduction": "mean"}, "reads neither starts"),
        ({"method": "variable_projection", "starts": 64}, "reads neither starts"),
        ({"method": "variable_projection", "delta": 0.1}, "reads neither starts"),
        ({"method": "variable_projection", "bootstrap": 10**6}, "refits at most"),
        ({"unique_tokens": "line"}, "does not read unique tokens"),
        ({"law": "repeated_data"}, "name the column by unique_tokens"),
        ({"law": "repeated_data", "unique_tokens": "token"}, "did you mean `tokens`"),
        ({"law": "repeated_data", "unique_tokens": "tokens"}, "none repeats its data"),
    ],
)
def test_options_that_cannot_be_are_refused(options, message):
    with pytest.raises(ScalingError, match=message):
        fit_joint(chinchilla_points(), **options)


def test_fewer_points_than_parameters_are_refused():
    points = chinchilla_points()
    with pytest.raises(ScalingError, match="has 5 parameters, but there are 4 points"):
        fit_joint(points.where(np.arange(len(points)) < 4))


def test_few_points_are_fitted_with_a_warning():
    points = chinchilla_points(num_sizes=3, num_tokens=3)
    assert any("9 points for 5 parameters" in text for text in fit_joint(points).warnings)


@pytest.mark.parametrize(("num_runs", "has_interval"), [(5, False), (6, True)])
def test_intervals_need_more_runs_than_parameters(num_runs, has_interval):
    """Twelve points, of as many runs or one more; five points of five runs are the same case."""
    points = chinchilla_points(num_sizes=3, num_tokens=4)
    runs = [f"run {min(number, num_runs - 1)}" for number in range(len(points))]
    points = replace(points, frame=points.frame.assign(run=runs))
    fit = fit_joint(points, bootstrap=20)
    assert (fit.bootstrap is not None) == has_interval
    said = "5 runs for 5 parameters: intervals need more runs than parameters, so there are none"
    assert any(said in text for text in fit.warnings) != has_interval
    assert (fit.to_mapping()["intervals"] is not None) == has_interval


@pytest.mark.parametrize(("column", "other"), [("params", "tokens"), ("tokens", "params")])
def test_points_that_hardly_vary_are_refused(column, other):
    points = chinchilla_points()
    few = points.frame[column].isin(sorted(points.frame[column].unique())[:2])
    with pytest.raises(ScalingError, match=f"vary `{column}`"):
        fit_joint(points.where(few))


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0, -1.0])
@pytest.mark.parametrize("column", ["params", "tokens", "loss", "weight"])
def test_values_that_are_no_positive_numbers_are_refused_by_line(bad, column):
    points = chinchilla_points()
    points.frame.loc[7, column] = bad
    line = points.frame["source_line"][7]
    with pytest.raises(ScalingError, match=rf"`{column}` must be positive.*in line {line}"):
        fit_joint(points)


def test_several_recipes_are_refused():
    points = chinchilla_points()
    points.frame["by"] = ["adamw", "muon"] * (len(points) // 2)
    with pytest.raises(ScalingError, match="one recipe at a time, but the points have 2"):
        fit_joint(points)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 90])
def test_a_confidence_outside_its_range_is_refused(confidence):
    fit = fit_joint(chinchilla_points(noise=0.01), bootstrap=10)
    with pytest.raises(ScalingError, match="between 0 and 1"):
        fit.interval(confidence)


def test_an_interval_without_resamples_is_refused():
    with pytest.raises(ScalingError, match="fit with bootstrap=400"):
        fit_joint(chinchilla_points()).interval()


@settings(deadline=None, max_examples=4)
@given(seed=st.integers(0, 10**6), spread=st.sampled_from([0.01, 1.0, 8.0]))
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("law", "method"),
    [("chinchilla", METHODS[0]), ("chinchilla", METHODS[1]), ("kaplan", METHODS[0])],
)
def test_points_without_any_law_end_in_an_answer(law, method, seed, spread):
    rng = np.random.default_rng(seed)
    params, tokens = 10 ** (9 + spread * rng.standard_normal((2, 12)))
    frame = pd.DataFrame({"N": params, "D": tokens, "L": np.exp(rng.standard_normal(12))})
    fit = fit_joint(points_of(frame), law, method=method, bootstrap=3)
    assert np.isfinite(fit.objective)
    json.dumps(fit.to_mapping(), allow_nan=False)


def test_a_step_is_no_power_law():
    params, tokens = grid()
    loss = np.where(params < 2e7, 3.0, 1.0) + 400 * tokens**-0.28
    fit = fit_joint(points_of(pd.DataFrame({"N": params, "D": tokens, "L": loss})))
    assert any("show a step in parameters" in warning for warning in fit.warnings)
