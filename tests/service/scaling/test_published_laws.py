"""The published points, where they are at hand: Hoffmann et al. 2022 and Porian et al. 2024."""

import numpy as np
import pytest
from loss_surfaces import OPTIMUM, hoffmann_points, published

from service.scaling.fits import fit_joint, leverage
from service.scaling.size_fit import fit_power

EPOCH_95 = {"E": (1.769, 1.871), "alpha": (0.317, 0.373), "beta": (0.331, 0.415)}
"""Besiroglu et al. 2024, 4,000 bootstraps."""
EPOCH_95_SCALES = {"A": (285.2, 743.6), "B": (1042.0, 5810.0)}


def test_240_points_give_the_optimum_of_the_replication():
    fit = fit_joint(hoffmann_points())
    assert fit.num_points == 240
    assert fit.objective <= 0.0010183
    assert fit.params["alpha"] == pytest.approx(0.3473, abs=0.002)
    assert fit.params["beta"] == pytest.approx(0.3672, abs=0.003)
    assert fit.params["E"] == pytest.approx(1.817, abs=0.003)
    assert fit.params["a"] == pytest.approx(0.5139, abs=0.001)
    assert fit.converged_share > 0.9
    assert fit.converged
    assert fit.warnings == ()


def test_intervals_over_runs_are_the_published_ones():
    """Within 10 % of the published widths; 2,000 resamples, so that chance is well below that."""
    table = fit_joint(hoffmann_points(), bootstrap=2000).interval(0.95)
    for name, (low, high) in (EPOCH_95 | EPOCH_95_SCALES).items():
        width = table.loc[name, "high"] - table.loc[name, "low"]
        assert width == pytest.approx(high - low, rel=0.1), name
        assert table.loc[name, "low"] == pytest.approx(low, abs=0.1 * (high - low)), name


def test_a_few_resamples_correlate_exponents_and_scales_as_published():
    correlations = fit_joint(hoffmann_points(), bootstrap=200).correlations
    assert correlations.loc["alpha", "log_A"] == pytest.approx(0.9993, abs=5e-4)
    assert correlations.loc["beta", "log_B"] == pytest.approx(0.9996, abs=5e-4)


def test_a_mean_scaled_fit_at_loose_tolerances_is_flagged_with_its_gap():
    fit = fit_joint(hoffmann_points(), reduction="mean", tolerance="scipy")
    assert not fit.converged
    assert fit.converged_share == 0.0
    assert fit.objective > 1.05 * OPTIMUM
    (warning,) = fit.warnings
    assert warning.startswith("NOT CONVERGED: the mean of Huber losses at scipy tolerances")
    gap = 100 * (fit.objective / OPTIMUM - 1)
    assert f"{gap:.2g} % above the optimum 0.00101827" in warning
    assert "alpha 0.3473" in warning


def test_a_mean_scaled_fit_at_tight_tolerances_reaches_the_optimum():
    fit = fit_joint(hoffmann_points(), reduction="mean", starts=6)
    assert fit.objective == pytest.approx(OPTIMUM, rel=1e-5)
    assert fit.converged


def test_variable_projection_shows_what_squares_make_of_outliers():
    """Reference values of another implementation: grid, non-negative least squares, search."""
    without = fit_joint(hoffmann_points(), method="variable_projection")
    with_all = fit_joint(hoffmann_points(outliers=True), method="variable_projection")
    assert without.params["a"] == pytest.approx(0.545, abs=0.002)
    assert with_all.params["a"] == pytest.approx(0.642, abs=0.002)


def test_the_outliers_carry_the_exponents():
    points = hoffmann_points(outliers=True)
    fit = fit_joint(points)
    assert fit.params["a"] == pytest.approx(0.5646, abs=0.001)
    assert fit.params["beta"] == pytest.approx(0.4530, abs=0.002)
    table = leverage(points, fit)
    assert len(table) == 245
    assert int(table["dbeta"].abs().idxmax()) in range(5)


def test_one_size_law_has_the_published_frontier():
    """Reference frontier of the optimum; k = 6."""
    best = fit_joint(hoffmann_points()).optimum([1e20, 1e22, 5.76e23, 1e25])
    np.testing.assert_allclose(best["params"], [8.6e8, 9.1e9, 7.3e10, 3.2e11], rtol=0.01)
    np.testing.assert_allclose(best["loss"], [2.552, 2.140, 1.974, 1.911], atol=6e-4)


@pytest.mark.parametrize(
    ("experiment", "exponent"),
    [
        ("kaplan_reproduced", 0.835),
        ("plus_last_layer_flops", 0.706),
        ("plus_short_warmup", 0.602),
        ("plus_chinchilla_decay", 0.571),
        ("tuned_hparams_const_lr", 0.497),
    ],
)
def test_the_59_pairs_have_their_published_exponents(experiment, exponent):
    table = published("porian_optimal_pairs_refinedweb.csv")
    own = table[table["experiment"] == experiment]
    fit = fit_power(own["flops"], own["n_opt"], own["n_opt_log_std"])
    assert fit.exponent == pytest.approx(exponent, abs=0.001)
    results = published("porian_fit_results_refinedweb.csv").set_index("experiment")
    assert fit.coefficient == pytest.approx(results.loc[experiment, "n_coef"], rel=1e-3)


@pytest.mark.long
def test_the_published_grid_of_4500_starts_finds_nothing_better():
    fit = fit_joint(hoffmann_points(), starts="grid")
    print(f"{fit.seconds:.1f} s, {100 * fit.converged_share:.0f} % of 4,500 at the optimum")
    assert fit.num_starts == 4500
    assert fit.objective == pytest.approx(OPTIMUM, rel=1e-6)
    assert fit.converged_share > 0.5


@pytest.mark.long
def test_the_published_mistake_gives_the_published_exponent():
    """Mean, SciPy's tolerances, 4,500 starts: none converges, and a is Hoffmann's .45."""
    fit = fit_joint(hoffmann_points(), starts="grid", reduction="mean", tolerance="scipy")
    print(f"{fit.seconds:.1f} s, objective {fit.objective:.7f}, a {fit.params['a']:.4f}")
    assert fit.converged_share == 0.0
    assert fit.params["a"] == pytest.approx(0.4497, abs=0.01)
