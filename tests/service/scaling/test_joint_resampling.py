"""Bootstrap over runs, and fits of very many points."""

import numpy as np
import pandas as pd
import pytest
from loss_surfaces import HOFFMANN, chinchilla_loss, chinchilla_points, points_of

from service.scaling import resampling
from service.scaling.design import design_of
from service.scaling.fits import fit_joint
from service.scaling.resampling import draw_weights


def width(fit, name="alpha"):
    table = fit.interval(0.9)
    return table.loc[name, "high"] - table.loc[name, "low"]


def many_points(num, seed=0):
    rng = np.random.default_rng(seed)
    params, tokens = 10 ** rng.uniform(7, 10, num), 10 ** rng.uniform(9, 12, num)
    loss = chinchilla_loss(params, tokens, HOFFMANN) * np.exp(0.01 * rng.standard_normal(num))
    return points_of(pd.DataFrame({"N": params, "D": tokens, "L": loss}))


def test_runs_are_drawn_whole():
    points = chinchilla_points()
    points.frame["run"] = [f"run{i // 4}" for i in range(len(points))]
    weights = draw_weights(design_of(points, "chinchilla", None), 50, np.random.default_rng(0))
    by_run = weights.reshape(50, -1, 4)
    assert (by_run == by_run[:, :, :1]).all()
    assert (weights.sum(axis=1) == len(points)).all()


def test_rows_that_repeat_a_run_do_not_narrow_its_interval():
    """Nine near-copies of each row, one run each: as much was learned as from one row each."""
    rows = chinchilla_points(noise=0.02).frame[["params", "tokens", "loss", "run"]]
    nine = pd.concat([rows.assign(loss=rows["loss"] * (1 + 1e-9 * copy)) for copy in range(9)])
    columns = {"params": "params", "tokens": "tokens", "loss": "loss"}
    single = fit_joint(points_of(rows, **columns), bootstrap=300)
    clustered = fit_joint(points_of(nine, **columns, run="run"), bootstrap=300)
    naive = fit_joint(points_of(nine, **columns), bootstrap=300)
    assert width(clustered) == pytest.approx(width(single), rel=0.1)
    assert width(naive) < 0.6 * width(single)


def test_intervals_are_as_wide_as_estimates_scatter():
    """The bootstrap's spread of alpha against that over independent draws of the noise."""
    draws = [
        chinchilla_points(noise=0.01, seed=seed, num_sizes=8, num_tokens=8) for seed in range(40)
    ]
    estimates = [fit_joint(points, starts=4).params["alpha"] for points in draws]
    spreads = [
        fit_joint(each, starts=4, bootstrap=60).bootstrap["alpha"].std() for each in draws[:4]
    ]
    assert np.median(spreads) == pytest.approx(np.std(estimates), rel=0.35)


def test_one_newton_step_per_resample_is_the_same_as_refitting(monkeypatch):
    points = many_points(3000)
    refitted = fit_joint(points, bootstrap=60)
    monkeypatch.setattr(resampling, "ONE_STEP_POINTS", 1000)
    stepped = fit_joint(points, bootstrap=60)
    spread = refitted.bootstrap["alpha"].std()
    apart = stepped.bootstrap["alpha"] - refitted.bootstrap["alpha"]
    assert apart.std() < 0.35 * spread
    assert width(stepped) == pytest.approx(width(refitted), rel=0.25)


@pytest.mark.parametrize("method", ["log_huber_lbfgsb", "variable_projection"])
def test_many_points_are_fitted_from_a_subsample_and_said_so(method):
    fit = fit_joint(many_points(20_000), method=method)
    assert any("4,000 of 20,000 points" in note for note in fit.notes)
    assert fit.params["alpha"] == pytest.approx(HOFFMANN["alpha"], abs=0.005)
    assert fit.params["beta"] == pytest.approx(HOFFMANN["beta"], abs=0.005)
    assert fit.converged


def test_the_subsample_is_only_where_the_search_begins(monkeypatch):
    points = many_points(6_000)
    searched = fit_joint(points)
    monkeypatch.setattr("service.scaling.log_huber.SUBSAMPLE_POINTS", 10_000)
    full = fit_joint(points)
    assert searched.objective == pytest.approx(full.objective, rel=1e-9)


@pytest.mark.long
def test_a_hundred_thousand_points_with_400_resamples():
    fit = fit_joint(many_points(100_000), bootstrap=400)
    assert fit.interval(0.99).loc["alpha", "low"] < HOFFMANN["alpha"]
    assert fit.interval(0.99).loc["alpha", "high"] > HOFFMANN["alpha"]
    print(f"{fit.seconds:.1f} s")
