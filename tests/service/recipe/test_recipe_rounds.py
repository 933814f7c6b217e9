"""Steps 4-7: labelled synthetic curves, what follows from them, and when to stop."""

import math

import numpy as np
import pytest

from service.recipe import (
    Curve,
    RoundFacts,
    coarse_round,
    consequence_of,
    diagnose,
    diagnose_round,
    keep_going,
    refined_round,
)

LN_10 = math.log(10)
EPOCHS = np.arange(1, 31)


def labelled(kind: str, noise: np.random.Generator, trial_id: int = 0) -> Curve:
    decay = np.exp(-EPOCHS / 4)
    train, val = {
        "good": (0.10 + 2.2 * decay, 0.15 + 2.2 * decay),
        "underfit": (1.6 + 0.7 * decay, 1.65 + 0.7 * decay),
        "overfit": (0.01 + 2.2 * decay, 0.3 + 2.0 * decay + 0.02 * np.maximum(0, EPOCHS - 10)),
        "gap": (0.01 + 2.2 * decay, 0.6 + 1.7 * decay),
        "diverging": (2.3 * np.exp(EPOCHS / 10), 2.3 * np.exp(EPOCHS / 10)),
        "not_converged": (2.3 * np.exp(-EPOCHS / 25), 2.35 * np.exp(-EPOCHS / 26)),
    }[kind]
    wobble = 1 + 0.01 * noise.standard_normal((2, len(EPOCHS)))
    return Curve(trial_id=trial_id, train_losses=train * wobble[0], val_losses=val * wobble[1])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("label", "kind"),
    [
        ("good", "good"),
        ("underfit", "underfit"),
        ("overfit", "overfit"),
        ("gap", "overfit"),
        ("diverging", "diverging"),
        ("not_converged", "not_converged"),
    ],
)
def test_labelled_curves_get_their_label(label, kind, seed):
    curve = labelled(label, np.random.default_rng(seed))
    found = diagnose(curve, dummy_loss=LN_10)
    assert found.kind == kind, found.reason


def test_nan_or_a_diverged_trial_is_diverging_and_three_epochs_can_be_judged():
    assert diagnose(Curve(trial_id=0, train_losses=[1, math.nan], val_losses=[1, 1]),
                    dummy_loss=LN_10).kind == "diverging"  # fmt: skip
    assert diagnose(Curve(trial_id=0, train_losses=[], val_losses=[], diverged=True),
                    dummy_loss=LN_10).kind == "diverging"  # fmt: skip
    short = Curve(trial_id=0, train_losses=[2.0, 1.5, 1.1], val_losses=[1.9, 1.5, 1.2])
    assert diagnose(short, dummy_loss=LN_10).kind == "not_converged"


@pytest.mark.parametrize(
    ("kind", "searched", "path", "direction"),
    [
        ("overfit", {"model.dropout", "optimizer.lr"}, "model.dropout", "raise"),
        ("overfit", {"regularisation.l2", "model.dropout"}, "regularisation.l2", "raise"),
        ("overfit", {"optimizer.lr"}, "regularisation.l2", "none"),
        ("underfit", {"model.width", "model.dropout"}, "model.width", "raise"),
        ("underfit", {"model.dropout"}, "model.dropout", "lower"),
        ("diverging", {"optimizer.lr"}, "optimizer.lr", "lower"),
        ("not_converged", set(), "train.epochs", "raise"),
        ("good", {"optimizer.lr"}, None, "none"),
    ],
)
def test_each_kind_moves_the_interval_that_helps(kind, searched, path, direction):
    follows = consequence_of(kind, searched)
    assert (follows.path, follows.direction) == (path, direction)


def test_a_round_is_judged_by_its_best_trials():
    noise = np.random.default_rng(0)
    curves = [labelled("overfit", noise, i) for i in range(4)]
    curves += [labelled("underfit", noise, i) for i in range(4, 20)]
    verdict = diagnose_round(
        curves, dummy_loss=LN_10, searched={"model.dropout"}, ranking=range(20)
    )
    assert verdict.verdict == "overfit"
    assert verdict.passed is False
    assert verdict.data["path"] == "model.dropout"
    assert verdict.data["direction"] == "raise"
    assert verdict.data["counts"] == {"overfit": 4, "underfit": 16}
    assert diagnose_round([], dummy_loss=LN_10, searched=set()).passed is None


def facts(**changes):
    known = {
        "round": 0,
        "epochs": 3,
        "metric": "val_error",
        "counts": {"complete": 40, "diverged": 8},
        "best_value": 0.05,
        "best_trial": 17,
        "guess_value": 0.9,
    }
    return RoundFacts(**{**known, **changes})


def test_a_coarse_round_must_learn_something():
    good = coarse_round(facts())
    assert good.passed
    assert "48 trials of 3 epochs (40 complete, 8 diverged)" in good.reason
    assert coarse_round(facts(best_value=0.91)).verdict == "guessing"
    empty = coarse_round(facts(best_value=None, counts={"diverged": 48}))
    assert empty.passed is False
    assert "optimizer.lr" in empty.consequence


def test_a_refined_round_is_compared_with_those_before_it_and_names_their_length():
    better = refined_round(facts(round=1, epochs=12, previous_best=0.06, previous_epochs=3))
    assert better.verdict == "improved"
    assert "there with 3 epochs" in better.reason
    assert refined_round(facts(previous_best=0.04)).verdict == "flat"
    up = refined_round(
        facts(metric="val_r2", direction="maximize", previous_best=0.04, guess_value=0.0)
    )
    assert up.verdict == "improved"


@pytest.mark.parametrize(
    ("gains", "word"),
    [
        ([0.02, 0.021, 0.019], "continue"),  # clearly above the threshold
        ([0.001, 0.0012, 0.0011], "stop"),  # clearly below
        ([0.02, -0.01, 0.0], "stop"),  # mean below, and 0 within
        ([0.03, -0.002, 0.02], "continue"),  # mean above, uncertain: worth another look
        ([0.02], "continue"),
        ([0.001], "stop"),
    ],
)
def test_the_search_goes_on_while_the_gain_is_worth_it(gains, word):
    verdict = keep_going(gains, threshold=0.005, metric="val_error")
    assert verdict.verdict == word, verdict.reason
    assert "threshold 0.005" in verdict.reason


def test_the_budget_ends_it_whatever_the_gain():
    verdict = keep_going(
        [0.02, 0.021], threshold=0.005, metric="val_error", no_more="the budget has ended"
    )
    assert verdict.verdict == "stop"
    assert "budget has ended" in verdict.reason
    assert keep_going([], threshold=0.1, metric="val_error").passed is None
