"""Ends that lie in the results: a target reached, or too little gained for the energy."""

from __future__ import annotations

import pytest
from bare_context import bare_context, put_round, put_trial
from small_search import small_spec

from service import run_search
from service.search.context import Stopped
from service.search.goals import check_goals, gain_per_kwh, note_energy, target_reached


def two_rounds(context, *, best=(0.30, 0.20), kwh=(0.5, 0.7)):
    """Record two rounds that ended with these best values, at these meter readings."""
    for number, (value, read) in enumerate(zip(best, kwh, strict=True)):
        put_round(context, number)
        put_trial(context, 2 * number, 0.01 + number / 100, round=number, error=value)
        put_trial(context, 2 * number + 1, 0.02 + number / 100, round=number, error=value + 0.1)
        context.energy.kwh = read
        note_energy(context, number)


def test_the_gain_per_kwh_is_the_improvement_over_the_energy_of_the_round(tmp_path):
    context = bare_context(tmp_path)
    two_rounds(context)
    assert gain_per_kwh(context, 0) is None
    assert gain_per_kwh(context, 1) == pytest.approx((0.30 - 0.20) / (0.7 - 0.5))


def test_accuracy_gains_when_it_rises(tmp_path):
    context = bare_context(tmp_path, objectives={"val_error": "maximize"})
    two_rounds(context, best=(0.6, 0.8))
    # The best of a round is then its larger value, 0.1 more than the first.
    assert gain_per_kwh(context, 1) == pytest.approx((0.9 - 0.7) / 0.2)


@pytest.mark.parametrize(("least", "stops"), [(0.4, False), (0.6, True)])
def test_a_search_ends_when_a_round_gains_too_little_per_kwh(tmp_path, least, stops):
    context = bare_context(tmp_path, budget={"min_gain_per_kwh": least})
    two_rounds(context)
    check_goals(context, 0)
    if not stops:
        check_goals(context, 1)
        return
    with pytest.raises(Stopped, match=r"gained 0\.5 per kWh, less than `min_gain_per_kwh` 0\.6"):
        check_goals(context, 1)


def test_a_rounds_energy_is_noted_once(tmp_path):
    context = bare_context(tmp_path)
    two_rounds(context)
    context.energy.kwh = 9.0
    note_energy(context, 1)
    assert gain_per_kwh(context, 1) == pytest.approx(0.5)


def test_a_round_in_which_nothing_finished_has_no_gain(tmp_path):
    context = bare_context(tmp_path)
    put_round(context, 0)
    note_energy(context, 0)
    put_round(context, 1)
    put_trial(context, 0, 0.01, round=1, error=0.1)
    context.energy.kwh = 1.0
    note_energy(context, 1)
    assert gain_per_kwh(context, 1) is None


def test_a_target_is_reached_by_a_finished_trial_and_looked_for_batch_by_batch(tmp_path):
    context = bare_context(tmp_path, budget={"target": 0.15})
    put_trial(context, 0, 0.01, error=0.3)
    put_trial(context, 1, 0.02, error=0.1, state="pruned")
    put_trial(context, 2, 0.03, error=0.12, batch=1)
    assert target_reached(context, 0, 0) == ""
    assert "trial 2 reached the target: val_error 0.12" in target_reached(context, 0, 1)
    with pytest.raises(Stopped, match="trial 2 reached the target"):
        check_goals(context, 0)


def test_the_mean_over_seeds_must_reach_the_target(tmp_path):
    context = bare_context(tmp_path, budget={"target": 0.15})
    put_trial(context, 0, 0.01, error=0.10, seed=1)
    put_trial(context, 1, 0.01, error=0.30, seed=2)
    assert target_reached(context, 0) == ""


def test_a_whole_search_ends_at_its_target_with_finalists_and_a_report(tmp_path):
    rounds = [{"sampler": "random", "trials": 512, "epochs": 2}]
    spec = small_spec(rounds=rounds, budget={"target": 0.9}, finalists={"trials": 1, "seeds": 2})
    result = run_search(spec, workers=1, ledger=tmp_path / "l.db", out=tmp_path / "out")
    assert "reached the target" in result.record.reason
    assert result.record.state == "finished"
    assert (result.trials()["role"] == "finalist").sum() == 2
