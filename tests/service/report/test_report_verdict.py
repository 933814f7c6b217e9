"""The answer, its cost and what to trust, against numbers worked out apart."""

import itertools
import math
import statistics

import pytest
from fake_search import FakeSite, accounts_of
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from service.report import verdict_sentence
from service.report.cost import cost_lines, cost_of
from service.report.facts import collect
from service.report.next_step import gain_of_last_doubling, next_step
from service.report.trust import edges, final_verdicts, position, warnings
from service.report.verdict import (
    answer,
    gain_sentence,
    noise_sentence,
    sentence,
    test_metric,
    test_sentence,
)
from service.search.objectives import Objective

test_metric.__test__ = test_sentence.__test__ = False  # functions of the package, no tests


def with_energy(ledger, search_id, **site):
    return collect(
        ledger, search_id, accounts=accounts_of(ledger, search_id), site=FakeSite(**site)
    )


def test_the_winner_has_the_best_mean_over_seeds_and_students_interval(done, facts):
    groups = {}
    for trial in done.trials(facts.search.search_id, role="finalist"):
        groups.setdefault(trial.config_id, []).append(trial.metrics["val_error"])
    values = min(groups.values(), key=statistics.mean)
    found = answer(facts)
    assert sorted(found.best.values) == sorted(values)
    low, high = stats.t.interval(0.95, len(values) - 1, statistics.mean(values), stats.sem(values))
    assert found.interval.low == pytest.approx(low)
    assert found.interval.high == pytest.approx(high)
    assert found.retrained


def test_the_gain_over_the_baseline_has_welchs_interval(done, facts):
    baseline = [t.metrics["val_error"] for t in done.trials("demo-1", role="baseline")]
    found = answer(facts)
    welch = stats.ttest_ind(baseline, found.best.values, equal_var=False).confidence_interval(0.95)
    assert (found.gain.low, found.gain.high) == pytest.approx((welch.low, welch.high))
    share = (statistics.mean(baseline) - found.interval.mean) / statistics.mean(baseline)
    assert found.gain_share.mean == pytest.approx(share)


def test_the_sentence_reads_as_the_spec_has_it(done, facts):
    text = verdict_sentence(done, "demo-1")
    assert text == sentence(answer(facts))
    head, noise = text.split("; ")
    assert head.startswith("val_error 0.0")
    assert " ± " in head
    assert head.endswith("% below baseline")
    assert noise.endswith("within noise")


def test_the_other_sentences_carry_interval_size_and_looks(facts):
    found = answer(facts)
    assert "95 % interval: " in gain_sentence(found)
    assert "within noise" in noise_sentence(found)
    tests = [0.031, 0.033, 0.035]
    assert found.test_interval.mean == pytest.approx(statistics.mean(tests))
    assert test_sentence(found).endswith("the test set was looked at once.")
    assert test_metric("val_error") == "test_error"


def test_the_cheapest_within_noise_needs_fewest_flops(facts):
    found = answer(facts)
    shares = [r.cost_share for r in found.within_noise if r.cost_share < 1]
    if shares:
        assert found.cheapest.cost_share == min(shares)
    assert found.best.config_id not in {r.group.config_id for r in found.within_noise}


def test_before_any_trial_there_is_no_answer_but_a_sentence(ledger, fake):
    facts = with_energy(ledger, fake.id)
    assert answer(facts) is None
    assert sentence(None) == "no trial has finished yet"
    assert next_step(facts, None, None).command == f"isoflop resume {fake.id}"


def test_without_finalists_the_best_of_many_is_called_too_good(ledger, fake):
    fake.coarse()
    facts = with_energy(ledger, fake.id)
    found = answer(facts)
    values = [facts.value(t) for t in facts.candidates if t.state == "complete"]
    assert found.best.values == (min(values),)
    assert "one seed, so noise is unknown" in sentence(found)
    assert "No baseline was given" in gain_sentence(found)
    assert any("not re-trained" in text for text in warnings(facts, found))


def test_a_baseline_that_wins_is_the_answer_and_a_worse_winner_is_above(ledger, fake):
    fake.baseline()
    alone = answer(with_energy(ledger, fake.id))
    assert alone.best.first.role == "baseline"
    assert alone.gain is None
    fake.refined()
    fake.final()
    fake.ledger.update_trials(
        fake.id,
        [
            (t.trial_id, {"metrics": {"val_error": 0.001 * (1 + i)}})
            for i, t in enumerate(ledger.trials(fake.id, role="baseline"))
        ],
    )
    found = answer(with_energy(ledger, fake.id))
    assert found.gain.mean < 0
    assert "above baseline" in sentence(found)
    assert any("may be luck" in t for t in warnings(with_energy(ledger, fake.id), found))


def test_cost_is_own_energy_times_pue_and_saving_is_by_the_trials_own_rate(done, facts):
    accounts, found = facts.accounts, answer(facts)
    cost = cost_of(facts, found)
    assert cost.own_kwh == pytest.approx(accounts.own_kwh * 1.2)
    assert cost.co2e_kg == pytest.approx(accounts.own_kwh * 1.2 * 0.056)
    active = dict(zip(accounts.per_trial.trial_id, accounts.per_trial.active_kwh, strict=True))
    saved, cut = 0.0, 0
    for t in done.trials(facts.search.search_id, role="search"):
        if t.state == "pruned":
            saved += active[t.trial_id] * (12 - 4) / 4
            cut += 1
    assert cost.num_cut == cut == 16
    assert cost.saved_kwh == pytest.approx(saved * cost.own_kwh / accounts.trials_kwh)
    assert cost.closes
    lines = {label: value for label, value, _ in cost_lines(facts, cost)}
    assert lines["Accounts close"] == "yes"
    assert lines["Energy"].endswith("Wh")


def test_without_a_country_carbon_is_not_computed_and_says_what_to_set(done):
    facts = with_energy(done, "demo-1", country=None)
    rows = {row[0]: row for row in cost_lines(facts, cost_of(facts, answer(facts)))}
    assert rows["CO₂e"][1] == "not computed"
    assert "ISOFLOP_COUNTRY" in rows["CO₂e"][2]


def test_an_unmetered_search_says_so(done):
    facts = collect(done, "demo-1", with_energy=False)
    assert cost_of(facts, answer(facts)) is None
    assert cost_lines(facts, None)[0][1] == "not metered"


def test_trust_shows_the_last_verdict_of_each_step_and_warnings_once(ledger, fake, facts):
    assert [v.step for v in final_verdicts(facts)] == [1, 2, 3, 4, 5, 6, 7]
    for _ in range(2):
        ledger.add_event(fake.id, "warning", {"text": "worker 3 died and was replaced"})
    again = with_energy(ledger, fake.id)
    texts = warnings(again, answer(again))
    assert texts.count("worker 3 died and was replaced") == 1


def test_a_winner_at_the_edge_of_its_interval_is_told(facts):
    found = answer(facts)
    for path in edges(facts, found):
        low, high, *_ = facts.search_rounds[-1].space[path].get("uniform", (None, None))
        value = found.best.first.params[path]
        assert not 0.05 <= (value - low) / (high - low) <= 0.95
    assert position(1e-2, 1e-4, 1.0, log=True) == pytest.approx(0.5)


def test_the_next_step_of_a_finished_search_has_gain_and_cost(facts):
    found = answer(facts)
    step = next_step(facts, found, cost_of(facts, found))
    assert step.command == "isoflop extend demo-1 --trials 24"
    assert "val_error" in step.expected_gain
    assert "Wh" in step.expected_cost


def test_curves_that_still_fell_ask_for_longer_training(done, facts):
    last = facts.recipe.of_step(6)[-1].to_mapping()
    done.add_event("demo-1", "verdict", {**last, "verdict": "not_converged", "passed": False})
    again = with_energy(done, "demo-1")
    step = next_step(again, answer(again), cost_of(again, answer(again)))
    assert step.command == "isoflop extend demo-1 --epochs 24"


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(0.001, 1.0), min_size=2, max_size=9))
def test_the_gain_of_the_last_doubling_is_the_mean_over_all_halves(values):
    found = gain_of_last_doubling(values, Objective(metric="val_error"))
    halves = [min(half) for half in itertools.combinations(values, len(values) // 2)]
    assert found == pytest.approx(statistics.mean(halves) - min(values), abs=1e-12)


def test_metrics_to_maximise_are_compared_the_other_way():
    up = Objective(metric="val_r2", direction="maximize")
    assert gain_of_last_doubling([0.1, 0.9], up) == pytest.approx(0.4)
    assert math.isclose(gain_of_last_doubling([0.5], up), 0.0)


def test_the_gain_of_the_last_doubling_of_ten_thousand_values_is_finite():
    values = [i / 10_000 for i in range(10_000)]
    # The best of half of them is the first or, in half of all draws, a later one.
    assert 0 < gain_of_last_doubling(values, Objective(metric="val_error")) < 2e-4
