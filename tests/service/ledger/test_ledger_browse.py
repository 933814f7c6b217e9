"""Pages read by the database, against the same thing done in Python on all rows."""

import math
import random

import pytest

from service.ledger import Ledger
from service.ledger.browse import Condition
from service.ledger.testing_records import border, new_search, segment_record, trial_record
from trainers.errors import ConfigError

STATES = ("complete", "pruned", "diverged", "waiting")


def filled(ledger: Ledger, num_trials: int = 60) -> str:
    rng = random.Random(0)
    search_id = new_search(ledger)
    records = []
    for trial_id in range(num_trials):
        metrics = {"val_error": rng.choice([0.1, 0.2, 0.3, rng.random()])}
        if trial_id % 7 == 0:
            metrics = {"val_error": math.nan}
        if trial_id % 11 == 0:
            metrics = {}
        records.append(
            trial_record(
                trial_id,
                state=rng.choice(STATES),
                metrics=metrics,
                params={
                    "optimizer.lr": 10 ** rng.uniform(-4, 0),
                    "optimizer.kind": rng.choice(["adam", "sgd"]),
                    "model.width": rng.choice([16, 32]),
                },
                horizon_epochs=rng.choice([3, 9]),
            )
        )
    ledger.add_trials(search_id, records)
    return search_id


def all_pages(ledger, search_id, **options):
    found, after = [], None
    while True:
        page = ledger.page_trials(search_id, limit=7, after=after, **options)
        found += page.items
        if page.next is None:
            return found
        after = page.next


@pytest.fixture(params=["sqlite", "postgres"])
def ledger(request):
    with Ledger.open(request.getfixturevalue(f"{request.param}_url")) as opened:
        yield opened


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("sort", ["trial_id", "state", "metrics.val_error", "params.optimizer.lr"])
def test_pages_together_are_the_sorted_table(ledger, sort, descending):
    search_id = filled(ledger)
    trials = ledger.trials(search_id)

    def value(trial):
        place, _, name = sort.partition(".")
        if place == "metrics":
            found = trial.metrics.get(name)
            return None if found is None or math.isnan(found) else found
        return trial.params[name] if place == "params" else getattr(trial, sort)

    with_value = [trial for trial in trials if value(trial) is not None]
    expected = sorted(with_value, key=value, reverse=descending)
    expected += [trial for trial in trials if value(trial) is None]
    found = all_pages(ledger, search_id, sort=sort, descending=descending)
    assert [t.trial_id for t in found] == [t.trial_id for t in expected]
    assert found[0].config == expected[0].config


def test_conditions_select_what_python_would(ledger):
    search_id = filled(ledger)
    conditions = [
        Condition(field="params.optimizer.kind", operator="=", value="adam"),
        Condition(field="params.model.width", operator=">=", value="32"),
        Condition(field="metrics.val_error", operator="<", value=0.25),
        Condition(field="state", operator="!=", value="pruned"),
    ]
    expected = [
        trial.trial_id
        for trial in ledger.trials(search_id)
        if trial.params["optimizer.kind"] == "adam"
        and trial.params["model.width"] >= 32
        and trial.metrics.get("val_error", math.nan) < 0.25
        and trial.state != "pruned"
    ]
    assert expected
    assert ledger.matching_trials(search_id, conditions) == expected
    assert [t.trial_id for t in all_pages(ledger, search_id, conditions=conditions)] == expected


def test_best_value_compares_finished_trials_of_one_length(ledger):
    search_id = filled(ledger)
    values = [
        trial.metrics["val_error"]
        for trial in ledger.trials(search_id)
        if trial.state == "complete"
        and trial.horizon_epochs == 9
        and not math.isnan(trial.metrics.get("val_error", math.nan))
    ]
    assert ledger.best_value(search_id, "val_error") == min(values)
    assert ledger.best_value(search_id, "val_error", maximize=True) == max(values)
    assert ledger.best_value(search_id, "no_such_metric") is None


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"sort": "stat"}, "did you mean `state`"),
        ({"limit": 0}, "from 1 to 500"),
        ({"limit": 501}, "from 1 to 500"),
        (
            {"conditions": [Condition(field="metrics.val_error", operator="<", value="low")]},
            "give a number",
        ),
        (
            {"conditions": [Condition(field="params.optimizer.kind", operator="<", value="adam")]},
            "takes = and !=",
        ),
        (
            {"conditions": [Condition(field='x"; drop table trials', operator="=", value="1")]},
            "sorted and filtered by",
        ),
    ],
)
def test_bad_questions_are_refused(ledger, options, says):
    search_id = filled(ledger, num_trials=3)
    with pytest.raises(ConfigError, match=says):
        ledger.page_trials(search_id, **options)


def test_a_name_with_quotes_is_only_a_name(ledger):
    search_id = filled(ledger, num_trials=3)
    evil = Condition(field="params.a'\"; drop table trials; --", operator="=", value="1")
    assert ledger.matching_trials(search_id, [evil]) == []
    assert len(ledger.trials(search_id)) == 3


def test_searches_come_newest_first_page_by_page(ledger):
    ids = [new_search(ledger, f"s{i}") for i in range(12)]
    ledger.update_search(ids[3], state="finished", project="vision/plates")
    found, after = [], None
    while True:
        page = ledger.page_searches(limit=5, after=after)
        found += [record.search_id for record in page.items]
        if page.next is None:
            break
        after = page.next
    assert found == ids[::-1]
    assert [s.search_id for s in ledger.page_searches(states=["finished"]).items] == [ids[3]]
    assert [s.search_id for s in ledger.page_searches(text="PLATES").items] == [ids[3]]
    assert ledger.page_searches(text="100%_").items == []
    assert ledger.count_searches() == {"running": 11, "finished": 1}


def test_curves_are_thinned_but_keep_their_last_epoch(ledger):
    search_id = new_search(ledger)
    ledger.add_trials(search_id, [trial_record(0, horizon_epochs=1000), trial_record(1)])
    ledger.add_segments(search_id, [segment_record("r0b0s0", [0, 1], stop_epoch=1000)])
    attempt = ledger.begin_attempt(search_id, "r0b0s0")
    ledger.apply(border(search_id, attempt, range(1, 1000)))
    curves = ledger.curve_points(search_id, [0, 1], "val_loss", max_points=50)
    assert set(curves) == {0, 1}
    assert len(curves[0]) <= 52
    assert curves[0][-1][0] == 999
    full = dict(ledger.curve_points(search_id, [0], "val_loss", max_points=2000)[0])
    assert all(full[epoch] == value for epoch, value in curves[0])
    with pytest.raises(ConfigError, match="did you mean `val_loss`"):
        ledger.curve_points(search_id, [0], "val_los")
