"""Waves of a study whose losses are a known surface: nothing is trained, every rule is seen."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from small_study import SMALL

from service.ledger.records import TrialRecord
from service.scaling.facts import facts_of
from service.scaling.groups import make_groups
from service.scaling.procedure import trial_record
from service.scaling.spec import StudySpec
from service.scaling.waves import StudyState

Loss = Callable[[dict[str, Any], float, float], float]
"""(size's values, budget in FLOPs, learning rate) -> loss."""


def valley(size: dict[str, Any], budget: float, lr: float) -> float:
    """Best width 4 at 5e5 FLOP, 8 at 2e6 and 16 at 8e6; best rate 0.1 / sqrt(width)."""
    best_width = 4 * (budget / 5e5) ** 0.5
    width = size["model.width"]
    off = math.log2(width / best_width) ** 2 + math.log10(lr * width**0.5 / 0.1) ** 2
    return (1 + off) * (budget / 5e5) ** -0.1


def play(
    spec: StudySpec,
    loss: Loss,
    known: list[TrialRecord] | None = None,
    predictions: Sequence[dict[str, Any]] = (),
) -> list[TrialRecord]:
    """Run a study whose trials end at once with the loss of the surface."""
    trials = list(known or [])
    for _ in range(20):
        wave = StudyState(spec, make_groups(spec, trials, predictions), trials).next_wave()
        if wave is None:
            return trials
        for new in wave.trials:
            record = trial_record(new, len(trials), 0, 0)
            value = loss(facts_of(record)["size"], new.budget_flops, new.params["optimizer.lr"])
            state = "complete" if math.isfinite(value) else "diverged"
            metrics = {"val_loss": value}
            trials.append(
                replace(record, state=state, metrics=metrics, epochs_done=record.horizon_epochs)
            )
    raise AssertionError("a study must come to an end")


def wide(**changes: Any) -> StudySpec:
    """Return a study of five sizes and three budgets, all of which are allowed."""
    return StudySpec.from_mapping(
        {
            **SMALL,
            "sizes": {"model.width": [2, 4, 8, 16, 32]},
            "budgets_flops": [5e5, 2e6, 8e6],
            "limits": {"min_updates": 1, "max_passes": 1000},
            "objectives": {"val_loss": "minimize"},
            **changes,
        }
    )


def seeds_of(trials: list[TrialRecord]) -> Counter[tuple[int, float]]:
    """Count the seeds of each size and budget at the values that tuning found."""
    used: dict[int, float] = {}
    for trial in trials:
        if facts_of(trial)["purpose"] == "point":
            used[facts_of(trial)["size"]["model.width"]] = trial.params["optimizer.lr"]
    return Counter(
        (facts_of(trial)["size"]["model.width"], facts_of(trial)["budget_flops"])
        for trial in trials
        if trial.params["optimizer.lr"] == used[facts_of(trial)["size"]["model.width"]]
    )


def test_the_best_size_of_each_budget_and_its_neighbours_get_more_seeds() -> None:
    trials = play(wide(seeds={"default": 1, "near_minimum": 3}), valley)
    best = {5e5: (2, 4, 8), 2e6: (4, 8, 16), 8e6: (8, 16, 32)}
    expected = {
        (width, budget): 3 if width in near else 1
        for budget, near in best.items()
        for width in (2, 4, 8, 16, 32)
    }
    assert seeds_of(trials) == expected
    places = Counter((trial.config_id, trial.seed) for trial in trials)
    assert set(places.values()) == {1}


def test_tuned_rates_follow_the_size() -> None:
    trials = play(wide(tune={**SMALL["tune"], "trials": 8}), valley)
    for trial in trials:
        facts = facts_of(trial)
        if facts["purpose"] == "point":
            optimum = 0.1 / facts["size"]["model.width"] ** 0.5
            assert abs(math.log10(trial.params["optimizer.lr"] / optimum)) < 0.2
            assert facts["tuned_at_flops"] == 5e5


def test_per_point_tunes_everywhere_and_several_budgets_spread() -> None:
    budgets = {
        per: {
            facts_of(t)["budget_flops"]
            for t in play(wide(tune={**SMALL["tune"], **given}), valley)
            if facts_of(t)["purpose"] == "tuning"
        }
        for per, given in {
            "size": {"budgets": 1},
            "two": {"budgets": 2},
            "point": {"per": "point"},
        }.items()
    }
    assert budgets == {"size": {5e5}, "two": {5e5, 2e6}, "point": {5e5, 2e6, 8e6}}


def rates_off(use: str, seed: int) -> list[float]:
    """Return |log10| of each size's rate over the optimum, tuned by trials with 1 % of noise.

    A rate ten times off costs 16 % of the loss, about as much as in byte-level transformers.
    """
    rng = np.random.default_rng(seed)

    def loss(size: dict[str, Any], budget: float, lr: float) -> float:
        decades = math.log10(lr * size["model.width"] ** 0.5 / 0.1)
        return math.exp(0.15 * decades**2 + 0.01 * rng.normal())

    space = {"optimizer.lr": {"log_uniform": [0.01, 0.3], "limits": [1e-4, 1.0]}}
    trials = play(wide(tune={"trials": 5, "use": use, "space": space}), loss)
    return [
        abs(math.log10(trial.params["optimizer.lr"] * width**0.5 / 0.1))
        for trial in trials
        for width in [facts_of(trial)["size"]["model.width"]]
        if facts_of(trial)["purpose"] == "point" and facts_of(trial)["budget_flops"] == 8e6
    ]


def test_smoothed_rates_are_nearer_to_the_optimum_than_the_best_of_noisy_trials() -> None:
    off = {use: [rates_off(use, seed) for seed in range(6)] for use in ("best", "smooth")}
    assert np.median(off["smooth"]) < 0.6 * np.median(off["best"])
    assert np.median(np.max(off["smooth"], axis=1)) < 0.6 * np.median(np.max(off["best"], axis=1))


def test_a_size_whose_every_rate_diverges_has_no_points_and_stops_nobody() -> None:
    def loss(size: dict[str, Any], budget: float, lr: float) -> float:
        return math.inf if size["model.width"] == 32 else valley(size, budget, lr)

    trials = play(wide(), loss)
    of_lost = [t for t in trials if facts_of(t)["size"]["model.width"] == 32]
    assert {facts_of(t)["purpose"] for t in of_lost} == {"tuning"}
    assert {w for w, _ in seeds_of([t for t in trials if t not in of_lost])} == {2, 4, 8, 16}


@pytest.mark.parametrize("use", ["best", "smooth"])
@pytest.mark.parametrize(
    ("changes", "num_points"),
    [
        ({"budgets_flops": [5e5, 2e6, 8e6, 3.2e7]}, 5),
        ({"sizes": {"model.width": [2, 4, 8, 16, 32, 3]}}, 2),
        ({"seeds": {"default": 2}}, 15),
    ],
)
def test_what_is_added_is_all_that_is_trained(
    changes: dict[str, Any], num_points: int, use: str
) -> None:
    tune = {**SMALL["tune"], "trials": 4, "use": use}
    known = play(wide(tune=tune), valley)
    trials = play(wide(tune=tune, **changes), valley, known)
    if use == "smooth" and "sizes" in changes:
        num_points += 1  # the best of tuning is no point of its own
    assert trials[: len(known)] == known
    added = [t for t in trials[len(known) :] if facts_of(t)["purpose"] == "point"]
    assert len(added) == num_points


@pytest.mark.parametrize("first_lost", [1, 3, 30])
def test_what_was_cut_off_is_trained_again(first_lost: int) -> None:
    spec = wide(tune={**SMALL["tune"], "budgets": 2})
    known = play(spec, valley)
    cut = [
        replace(t, state="stopped", metrics={}) if t.trial_id >= first_lost else t for t in known
    ]
    trials = play(spec, valley, cut)
    again = {(t.config_id, t.seed) for t in trials[len(known) :]}
    if first_lost == 30:  # all of the tuning is there, so what follows is the same
        assert again == {(t.config_id, t.seed) for t in known[30:]}
    tuned = {
        (facts_of(t)["size"]["model.width"], facts_of(t)["budget_flops"])
        for t in trials
        if facts_of(t)["purpose"] == "tuning" and t.state == "complete"
    }
    assert tuned == {(w, c) for w in (2, 4, 8, 16, 32) for c in (5e5, 2e6)}


@pytest.mark.parametrize("num_points", [0, 4])
def test_smoothed_rates_are_the_same_after_a_stop(num_points: int) -> None:
    """With all of the tuning there, and none or some of the points."""
    spec = wide(tune={**SMALL["tune"], "trials": 4, "budgets": 2, "use": "smooth"})
    known = play(spec, valley)
    first_point = next(t.trial_id for t in known if facts_of(t)["purpose"] == "point")
    cut = [
        t if t.trial_id < first_point + num_points else replace(t, state="stopped", metrics={})
        for t in known
    ]
    again = play(spec, valley, cut)[len(known) :]
    lost = known[first_point + num_points :]
    assert {(t.config_id, t.seed) for t in again} == {(t.config_id, t.seed) for t in lost}
    # The law is over N and C here: a size's rate falls with its budget where the minima do.
    assert len({t.params["optimizer.lr"] for t in lost}) > 5


@pytest.mark.parametrize(("per", "use"), [("size", "best"), ("point", "best"), ("size", "smooth")])
@pytest.mark.parametrize("width", [16, 24, 4000])
def test_a_prediction_asks_for_one_point_beside_the_studys_own(
    per: str, use: str, width: int
) -> None:
    """At a size of the study, at one between, and at one too large for all of its budgets."""
    spec = wide(tune={**SMALL["tune"], "trials": 4, "per": per, "use": use})
    known = play(spec, valley)
    flops = 2e9 if width == 4000 else 3.2e7
    prediction = {"recipe": {}, "size": {"model.width": width}, "data_size": None, "flops": flops}
    trials = play(spec, valley, known, [prediction])
    assert trials[: len(known)] == known
    added = [facts_of(trial) for trial in trials[len(known) :]]
    [point] = [facts for facts in added if facts["purpose"] == "verification"]
    assert (point["size"]["model.width"], point["budget_flops"]) == (width, flops)
    assert {facts["purpose"] for facts in added} <= {"tuning", "verification"}
    # Smoothed values come from the law of the study's own sizes, and cost no tuning.
    tunes = width != 16 and use == "best"
    assert any(facts["purpose"] == "tuning" for facts in added) == tunes
    assert not any(facts["planned"] for facts in added if facts["size"]["model.width"] != 16)
