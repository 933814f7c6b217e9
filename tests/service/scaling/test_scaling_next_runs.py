import numpy as np
import pandas as pd
import pytest

from service.scaling.conformal import Conformal
from service.scaling.fits import fit_joint
from service.scaling.heldout import rolling_origin
from service.scaling.next_runs import next_runs
from service.scaling.points import Points
from service.scaling.spread import joint_jacobian, joint_spread, spread_of
from trainers.errors import ConfigError


def points_at(params, tokens, rng, noise=0.01):
    loss = 1.8 + 480 * params**-0.35 + 2100 * tokens**-0.37
    frame = pd.DataFrame(
        {"n": params, "d": tokens, "l": loss * np.exp(noise * rng.standard_normal(len(params)))}
    )
    return Points.from_frame(frame, params="n", tokens="d", loss="l")


def surface(rng):
    flops = np.repeat(np.logspace(18, 20, 5), 5)
    params = 0.1 * flops**0.51 * np.tile(np.logspace(-0.5, 0.5, 5), 5)
    return points_at(params, flops / 6 / params, rng)


@pytest.fixture(scope="module")
def study():
    points = surface(np.random.default_rng(0))
    return points, fit_joint(points, starts=8)


def test_the_interval_after_is_that_of_a_fit_with_the_runs_added(study):
    """Against the information matrix with the new rows in it, inverted anew."""
    points, fit = study
    answer = next_runs(fit, points, target_flops=1e21)
    frame = points.frame
    jacobian = joint_jacobian(fit, frame["params"], frame["tokens"])
    target = fit.optimum([1e21])
    place = joint_jacobian(fit, target["params"], target["tokens"])
    for row in answer.frame.iloc[[0, 7, -1]].to_dict("records"):
        new = joint_jacobian(fit, [row["params"]] * row["runs"], [row["tokens"]] * row["runs"])
        grown = np.concatenate([jacobian, new])
        variance = place @ np.linalg.inv(grown.T @ grown) @ place.T
        variance_before = place @ np.linalg.inv(jacobian.T @ jacobian) @ place.T
        expected = np.sqrt((1 + variance[0, 0]) / (1 + variance_before[0, 0]))
        assert 1 - row["shrinkage"] == pytest.approx(expected, rel=1e-4)


def test_candidates_are_affordable_and_the_best_comes_first(study):
    points, fit = study
    frame = next_runs(fit, points, spend_flops=3e19).frame
    assert (frame["spent_flops"] <= 3e19 * (1 + 1e-6)).all()
    assert frame["runs"].between(1, 5).all()
    np.testing.assert_allclose(frame["flops"], 6 * frame["params"] * frame["tokens"])
    assert frame["shrinkage"].is_monotonic_decreasing
    assert (frame["shrinkage"] >= 0).all()
    assert (frame["half_width_after"] <= frame["half_width_before"]).all()


def test_more_compute_never_widens_the_interval(study):
    points, fit = study
    once, more = (
        next_runs(fit, points, spend_flops=spend).frame["shrinkage"].max() for spend in (1e20, 5e20)
    )
    assert more > once


def test_the_interval_has_the_multiplier_of_the_conformal(study):
    points, fit = study
    conformal = Conformal.from_heldout(
        rolling_origin(points, lambda below: fit_joint(below, starts=4))
    )
    row = next_runs(fit, points, conformal=conformal, target_flops=1e21).frame.iloc[0]
    best = fit.optimum([1e21])
    spread = joint_spread(fit, points).at(joint_jacobian(fit, best["params"], best["tokens"]))
    assert row["half_width_before"] == pytest.approx(conformal.multiplier * spread[0])


def test_the_advice_holds_when_the_runs_are_made(study):
    """The real spread of predictions falls more by the first candidate than by the last."""
    points, fit = study
    frame = next_runs(fit, points, target_flops=1e21, spend_flops=1e20).frame
    target = fit.optimum([1e21])
    place = joint_jacobian(fit, target["params"], target["tokens"])
    widths = []
    for row in (frame.iloc[0], frame.iloc[-1]):
        new = joint_jacobian(
            fit, [row["params"]] * int(row["runs"]), [row["tokens"]] * int(row["runs"])
        )
        old = joint_jacobian(fit, points.frame["params"], points.frame["tokens"])
        grown = np.concatenate([old, new])
        spread = spread_of(grown, np.full(len(grown), 0.01), np.ones(len(grown)))
        widths.append(spread.at(place)[0] / spread.noise)
    assert widths[0] < widths[1]


@pytest.mark.parametrize("budget", [0.0, -1.0, np.inf, np.nan])
def test_budgets_that_are_none_are_refused(study, budget):
    points, fit = study
    with pytest.raises(ConfigError, match="positive, finite"):
        next_runs(fit, points, target_flops=budget)
    with pytest.raises(ConfigError, match="what to spend"):
        next_runs(fit, points, spend_flops=budget)


def test_a_far_target_is_warned_about(study):
    points, fit = study
    assert not next_runs(fit, points).warnings
    assert "beyond 10x" in next_runs(fit, points, target_flops=1e23).warnings[0]
