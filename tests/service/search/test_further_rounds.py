"""Step 7: back to step 5 until a round gains too little, or nothing is left to spend."""

from __future__ import annotations

import pandas as pd
import pytest
from small_search import small_spec, table

from service import extend, resume, run_search
from service.ledger import Ledger
from service.search.display import Silent
from service.search.spec import SearchSpec
from service.search.spec_plan import further_round

LR = {"optimizer.lr": {"log_uniform": [1e-4, 1e-1]}}
QUICK = {
    "rounds": [
        {"sampler": "sobol", "trials": 8, "epochs": 1},
        {"sampler": "random", "trials": 8, "epochs": 2, "refine": {}},
    ],
    "finalists": {"trials": 1, "seeds": 2},
}


def recipe(**values):
    return {"checks": True, "continue_on_failure": True, **values}


def searched(result):
    frame = result.rounds()
    return frame[(frame["kind"] == "search")].sort_values("round")


def verdicts(result, step):
    with Ledger.open(result.ledger_url) as ledger:
        events = ledger.events(result.search_id, "verdict")
    return [e.payload for e in events if e.payload["step"] == step]


def run(spec, folder, **options):
    return run_search(spec, workers=1, ledger=folder / "ledger.db", out=folder / "out", **options)


@pytest.fixture(scope="module")
def gaining(tmp_path_factory):
    """A search whose rounds always gain enough (the threshold is 0), four rounds at most."""
    spec = small_spec(**QUICK, recipe=recipe(stop_gain=0.0, max_rounds=4))
    return run(spec, tmp_path_factory.mktemp("gaining"))


def test_rounds_are_added_while_they_gain(gaining):
    found = verdicts(gaining, 7)
    went_on = [payload["verdict"] == "continue" for payload in found]
    rounds = list(searched(gaining)["round"])
    assert len(rounds) == 2 + sum(went_on)
    assert rounds == list(range(len(rounds)))
    assert [payload["round"] for payload in found] == rounds[1:]
    if len(rounds) == 4:
        assert "most that are allowed" in found[-1]["reason"]
    finalists = gaining.rounds().query("kind == 'finalists'")
    assert list(finalists["round"]) == [len(rounds)]


def test_an_added_round_is_refined_from_the_one_before_and_says_why_it_is_there(gaining):
    with Ledger.open(gaining.ledger_url) as ledger:
        rounds = {r.round: r for r in ledger.rounds(gaining.search_id) if r.kind == "search"}
    assert len(rounds) > 2
    added = rounds[2]
    assert "step 7" in added.reasons[0]["text"]
    assert "round 1" in added.reasons[0]["text"]
    assert added.planned_trials == rounds[1].planned_trials
    assert added.epochs == rounds[1].epochs
    assert added.space != rounds[1].space


def test_a_gain_below_the_threshold_ends_the_rounds(tmp_path):
    result = run(small_spec(**QUICK, recipe=recipe(stop_gain=50.0, max_rounds=4)), tmp_path)
    assert list(searched(result)["round"]) == [0, 1]
    (verdict,) = verdicts(result, 7)
    assert verdict["verdict"] == "stop"
    assert "threshold" in verdict["reason"]


def test_a_killed_search_adds_the_same_rounds(gaining, tmp_path):
    class Stops(Silent):
        def note(self, text):
            if text.startswith("round 2: 8 trials"):
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(
            small_spec(**QUICK, recipe=recipe(stop_gain=0.0, max_rounds=4)),
            tmp_path,
            display=Stops(),
        )
    (search_id,) = [r.search_id for r in _searches(tmp_path)]
    again = resume(search_id, ledger=tmp_path / "ledger.db", workers=1)
    pd.testing.assert_frame_equal(table(again.trials()), table(gaining.trials()))


def _searches(folder):
    with Ledger.open(str(folder / "ledger.db")) as ledger:
        return ledger.searches()


def test_extending_neither_adds_rounds_nor_trains_the_finalists_again(tmp_path):
    spec = small_spec(
        rounds=[], budget={"trials": 8}, train={"epochs": 2, "batch_size": 50},
        finalists={"trials": 1, "seeds": 2},
    )  # fmt: skip
    before = run(spec, tmp_path)
    assert list(searched(before)["round"]) == [0]
    after = extend(before.search_id, trials=4, ledger=tmp_path / "ledger.db", workers=1)
    rounds = after.rounds().sort_values("round")
    assert list(zip(rounds["round"], rounds["kind"], strict=True)) == [
        (0, "search"), (1, "finalists"), (2, "search"), (3, "finalists"),
    ]  # fmt: skip
    assert after.record.test_looks == 2


def spec_of(**values):
    return SearchSpec(space=LR, **values)


def test_a_derived_plan_under_a_time_budget_may_add_rounds():
    spec = spec_of(budget={"minutes": 5})
    done = [round_.trials for round_ in spec.plan()]
    added, reason = further_round(spec, done)
    assert added is not None
    assert added.trials == done[-1]
    assert added.refine is not None
    assert "round 1" in reason
    assert further_round(spec, [32, 32, 32, 32, 32, 32])[0] is None


@pytest.mark.parametrize(
    ("values", "done", "words"),
    [
        ({"budget": {"trials": 64}}, [32, 32], "64 trials is used up"),
        ({"recipe": {"max_rounds": 2}}, [32, 32], "2 rounds are the most"),
        ({"recipe": {"checks": False}}, [32, 32], "step 7 alone"),
        ({"budget": {"trials": 10}}, [10], "nothing to compare"),
    ],
)
def test_why_no_round_is_added(values, done, words):
    added, reason = further_round(spec_of(**values), done)
    assert added is None
    assert words in reason


def test_what_is_left_of_the_trials_bounds_an_added_round():
    spec = spec_of(
        rounds=[{"trials": 8, "epochs": 2}, {"trials": 8, "epochs": 4, "refine": {}}],
        recipe={"max_rounds": 5},
        budget={"trials": 20},
    )
    added, _ = further_round(spec, [8, 8])
    assert added is not None
    assert added.trials == 4


def test_the_most_rounds_bound_the_plan_itself():
    assert len(spec_of(recipe={"max_rounds": 1}).plan()) == 1
    assert len(spec_of(budget={"trials": 200}).plan()) == 3
    assert len(spec_of(budget={"trials": 200}, recipe={"max_rounds": 2}).plan()) == 2
    listed = [{"trials": 8, "epochs": 2}, {"trials": 8, "epochs": 4, "refine": {}}]
    assert len(spec_of(rounds=listed, recipe={"max_rounds": 1}).plan()) == 1
