import numpy as np
import pandas as pd
import pytest
from loss_surfaces import HOFFMANN, chinchilla_loss, chinchilla_points, points_of

from service.scaling.fits import fit_envelope
from trainers.errors import ScalingError


def curves(num_runs=20, rows=80, noise=0.0, seed=0):
    """Training curves whose every row is on the surface, as with a constant learning rate."""
    rng = np.random.default_rng(seed)
    parts = []
    for run, size in enumerate(np.geomspace(1e7, 1e10, num_runs)):
        tokens = np.geomspace(2 * size, 300 * size, rows)
        loss = chinchilla_loss(size, tokens, HOFFMANN)
        loss = loss * np.exp(noise * rng.standard_normal(rows))
        parts.append(pd.DataFrame({"run": f"run{run}", "N": size, "D": tokens, "L": loss}))
    return pd.concat(parts, ignore_index=True)


def test_the_envelope_has_the_exponent_of_its_surface():
    fit = fit_envelope(points_of(curves(), run="run"))
    assert fit.params["a"] == pytest.approx(0.28 / 0.62, abs=0.01)
    assert fit.params["E"] == pytest.approx(HOFFMANN["E"], abs=0.02)
    low, high = fit.interval(0.9).loc["a", ["low", "high"]]
    assert low < fit.params["a"] < high
    assert high - low < 0.1


def test_the_best_size_lies_between_smaller_and_larger_ones():
    frame = curves()
    envelope = fit_envelope(points_of(frame, run="run")).envelope
    assert envelope["params"].min() > frame["N"].min()
    assert envelope["params"].max() < frame["N"].max()
    by_size = envelope.groupby("run")["params"].nunique()
    assert (by_size == 1).all()


def test_noise_pulls_the_envelope_down_and_every_fit_says_so():
    clean = fit_envelope(points_of(curves(), run="run"), bootstrap=0)
    noisy = fit_envelope(points_of(curves(noise=0.01), run="run"), bootstrap=0)
    at = np.array([1e19, 1e20])
    assert (noisy.optimum(at)["loss"] < clean.optimum(at)["loss"]).all()
    assert any("the lowest of noisy curves is too low" in text for text in clean.warnings)
    with pytest.raises(ScalingError, match="bootstrap"):
        clean.interval()


def test_runs_of_a_single_row_are_left_out_and_counted():
    frame = pd.concat([curves(), pd.DataFrame({"run": ["one"], "N": [1e9], "D": [1e10], "L": [2]})])
    fit = fit_envelope(points_of(frame, run="run"), bootstrap=0)
    assert "1 runs left out: a single row is no curve" in fit.notes


def test_points_without_curves_are_refused():
    with pytest.raises(ScalingError, match=r"needs 3 or more training curves.*got 0"):
        fit_envelope(chinchilla_points())


def test_curves_of_which_the_smallest_is_always_best_are_refused():
    frame = curves(num_runs=4)
    frame["L"] = 2 + frame["N"] / 1e10
    with pytest.raises(ScalingError, match="two or more sizes that are best somewhere between"):
        fit_envelope(points_of(frame, run="run"))
