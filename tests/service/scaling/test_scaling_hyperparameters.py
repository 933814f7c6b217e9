import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.scaling.hyperparameters import fit_hyperparameter
from service.scaling.tuned_optima import tuned_optima
from trainers.errors import ScalingError

LR = "optimizer.lr"


def best_lr(params, flops, p=-0.3, q=-0.1):
    return 2e-2 * (params / 1e5) ** p * (flops / 1e13) ** q


def tuning(
    sizes=(1e4, 1e5, 1e6), budgets=(1e12, 1e13, 1e14), *, noise=0.0, lrs=None, seed=0, **law
):
    """Return tuning trials whose ln loss is a parabola in ln lr with a known optimum."""
    rng = np.random.default_rng(seed)
    lrs = np.geomspace(1e-3, 1, 10) if lrs is None else lrs
    rows = [
        {
            "params": size,
            "budget_flops": flops,
            LR: lr,
            "loss": 2.0
            * np.exp(
                0.03 * np.log(lr / best_lr(size, flops, **law)) ** 2 + noise * rng.standard_normal()
            ),
        }
        for size in sizes
        for flops in budgets
        for lr in lrs
    ]
    return pd.DataFrame(rows)


@settings(deadline=None, max_examples=10)
@given(p=st.floats(-0.6, 0.3), q=st.floats(-0.25, 0.2))
def test_the_exponents_of_a_known_law_are_recovered(p, q):
    law = fit_hyperparameter(tuning(p=p, q=q), bootstrap=20)
    assert law.exponents == pytest.approx({"params": p, "flops": q}, abs=1e-6)
    assert law.noise < 1e-6
    table = law.predict([3e5], [1e15])
    assert table["value"].iloc[0] == pytest.approx(best_lr(3e5, 1e15, p, q), rel=1e-4)


def test_the_vertex_of_a_parabola_is_found_between_the_values_tried():
    trials = tuning(sizes=(1e5,), budgets=(1e13,))
    optimum = tuned_optima(trials, LR).iloc[0]
    assert optimum["value"] == pytest.approx(2e-2, rel=1e-6)
    assert optimum["curvature"] == pytest.approx(0.06, rel=1e-6)
    assert optimum["best_tried"] == pytest.approx(trials[LR].iloc[4])
    assert optimum["at_edge"] == ""


@pytest.mark.parametrize(("lrs", "edge"), [((1e-4, 1e-3, 1e-2), "high"), ((0.03, 0.1, 0.3), "low")])
def test_an_optimum_at_the_end_of_what_was_tried_is_flagged(lrs, edge):
    optimum = tuned_optima(tuning(sizes=(1e5,), budgets=(1e13,), lrs=lrs), LR).iloc[0]
    assert optimum["at_edge"] == edge
    assert optimum["value"] == pytest.approx(lrs[-1] if edge == "high" else lrs[0])


def test_values_that_diverged_count_as_tried():
    trials = tuning(sizes=(1e5,), budgets=(1e13,), lrs=(1e-4, 1e-3, 1e-2, 1e-1))
    trials.loc[trials[LR] == 1e-1, "loss"] = np.inf
    optimum = tuned_optima(trials, LR).iloc[0]
    assert optimum["at_edge"] == ""
    assert optimum["num_diverged"] == 1


def test_edges_are_left_out_of_the_law_and_said():
    trials = tuning(noise=0.001)
    cut = (trials["params"] == 1e4) & (trials["budget_flops"] == 1e12) & (trials[LR] > 1e-2)
    law = fit_hyperparameter(trials[~cut])
    assert law.optima["used"].tolist() == [False] + [True] * 8
    assert any("1 of 9 optima lie at an edge" in note for note in law.notes)
    assert law.to_mapping()["num_at_edge"] == 1
    assert law.exponents["params"] == pytest.approx(-0.3, abs=0.1)


def test_larger_optima_are_predicted_better_than_carried_forward():
    law = fit_hyperparameter(tuning(noise=0.002))
    assert law.num_heldout > 0
    assert law.heldout_rmse < 0.5 * law.naive_rmse
    assert "carried forward" in law.sentence


def test_nominal_intervals_hold_the_true_exponent_about_as_often_as_they_say():
    held = []
    for seed in range(20):
        law = fit_hyperparameter(tuning(noise=0.004, seed=seed), bootstrap=100)
        row = law.interval(0.9).loc["params"]
        held.append(row["low"] <= -0.3 <= row["high"])
    assert 0.6 <= np.mean(held) <= 1.0


def test_one_budget_gives_a_law_over_size_only_and_says_so():
    law = fit_hyperparameter(tuning(budgets=(1e13,), sizes=(1e4, 1e5, 1e6, 1e7)))
    assert set(law.exponents) == {"params"}
    assert any("same flops" in note for note in law.notes)


def test_budgets_tied_to_sizes_give_one_axis():
    parts = [tuning(sizes=(n,), budgets=(1e8 * n,)) for n in (1e4, 1e5, 1e6, 1e7)]
    law = fit_hyperparameter(pd.concat(parts))
    assert set(law.exponents) == {"params"}
    assert any("budgets grow with sizes" in note for note in law.notes)


def test_of_two_tuned_settings_the_best_ones_partners_are_compared():
    good = tuning().assign(batch=32)
    worse = tuning().assign(batch=256, loss=lambda f: 1.5 * f["loss"])
    law = fit_hyperparameter(pd.concat([good, worse]), others=["batch"], bootstrap=20)
    assert law.exponents["params"] == pytest.approx(-0.3, abs=1e-6)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda f: f.drop(columns=LR), "no column `optimizer.lr`"),
        (lambda f: f.assign(**{LR: -1.0}), "needs positive numbers"),
        (lambda f: f.assign(**{LR: "adamw"}), "needs positive numbers"),
        (lambda f: f[f["params"] == 1e4][f["budget_flops"] == 1e12], "needs 3 optima .* are 1"),
        (lambda f: f.assign(loss=np.inf), "needs 3 optima .* are 0"),
        (lambda f: f.iloc[:0], "needs 3 optima .* are 0"),
    ],
)
@pytest.mark.filterwarnings("ignore:Boolean Series key")
def test_tuning_that_carries_no_law_is_refused(change, said):
    with pytest.raises(ScalingError, match=said):
        fit_hyperparameter(change(tuning()))
