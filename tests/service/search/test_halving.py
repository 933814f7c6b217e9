import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.search.halving import decide, num_promoted, rungs
from service.search.objectives import Objective, dominates
from trainers.errors import ConfigError

ERROR = [Objective(metric="val_error")]
BOTH = [*ERROR, Objective(metric="energy_kwh")]
ACCURACY = [Objective(metric="val_accuracy", direction="maximize")]

tables = st.integers(1, 3).flatmap(
    lambda k: st.dictionaries(
        st.integers(0, 99),
        st.tuples(*[st.sampled_from([0.0, 0.1, 0.2, 0.5, 1.0, math.nan, math.inf])] * k),
        min_size=1,
        max_size=20,
    )
)


def objectives_for(table):
    return [Objective(metric=f"m{i}") for i in range(len(next(iter(table.values()))))]


def promoted(decisions):
    return {d.trial_id for d in decisions if d.promote}


def test_rungs_grow_by_eta_and_stay_below_the_horizon():
    assert rungs(4, 3, 60) == (4, 12, 36)
    assert rungs(1, 2, 8) == (1, 2, 4)
    assert rungs(5, 3, 5) == ()
    with pytest.raises(ConfigError, match="eta"):
        rungs(1, 1, 10)
    with pytest.raises(ConfigError, match="first_epoch"):
        rungs(0, 3, 10)


def test_one_in_eta_goes_on_and_the_reason_has_the_numbers():
    values = {i: (i / 10,) for i in range(6)}
    decisions = decide(values, ERROR, eta=3, epoch=4)
    assert promoted(decisions) == {0, 1}
    assert decisions[2].reason == (
        "val_error 0.2 at epoch 4: place 3 of 6, the best 2 go on; stops"
    )
    assert promoted(decide(values, ACCURACY, eta=3, epoch=4)) == {4, 5}


def test_best_so_far_is_said_to_be_that():
    (decision,) = decide({7: (0.25,)}, ERROR, eta=3, epoch=4, best_so_far=True)
    assert decision.reason.startswith("best val_error 0.25 up to epoch 4")
    assert decision.promote


def test_ties_go_to_the_lower_trial_id():
    assert promoted(decide({9: (0.1,), 3: (0.1,), 5: (0.1,)}, ERROR, eta=3, epoch=1)) == {3}


def test_diverged_trials_never_go_on_and_are_not_counted():
    decisions = decide({0: (math.nan,), 1: (0.9,), 2: (math.inf,)}, ERROR, eta=3, epoch=1)
    assert promoted(decisions) == {1}
    assert "diverged" in decisions[0].reason
    assert promoted(decide({0: (math.nan,)}, ERROR, eta=3, epoch=1)) == set()


def test_the_pool_sets_the_bar():
    pool = {i: (0.01 * i,) for i in range(6)}
    batch = {10: (0.015,), 11: (0.5,), 12: (0.6,)}
    decisions = decide(batch, ERROR, eta=3, epoch=2, pool=pool)
    assert promoted(decisions) == {10}
    assert [d.trial_id for d in decisions] == [10, 11, 12]


def test_two_objectives_promote_the_front_and_its_lonely_points_first():
    # 0 and 3 are the ends of the front, 1 the lonelier of the middle, 4-5 are dominated.
    values = {0: (0.0, 9.0), 1: (4.0, 4.0), 2: (4.5, 3.9), 3: (9.0, 0.0), 4: (9.0, 9.0),
              5: (8.0, 8.0)}  # fmt: skip
    decisions = decide(values, BOTH, eta=2, epoch=4)
    assert promoted(decisions) == {0, 2, 3} or promoted(decisions) == {0, 1, 3}
    assert "front 0" in decisions[0].reason
    assert not {4, 5} & promoted(decisions)


@settings(deadline=None, max_examples=150)
@given(tables, st.integers(2, 5), st.randoms(use_true_random=False))
def test_decisions_do_not_depend_on_the_order_of_arrival(table, eta, random):
    objectives = objectives_for(table)
    shuffled = list(table.items())
    random.shuffle(shuffled)
    assert decide(table, objectives, eta=eta, epoch=1) == decide(
        dict(shuffled), objectives, eta=eta, epoch=1
    )


@settings(deadline=None, max_examples=150)
@given(tables, st.integers(2, 5))
def test_counts_hold_and_nothing_promoted_is_dominated_by_what_stops(table, eta):
    objectives = objectives_for(table)
    finite = {i: v for i, v in table.items() if all(map(math.isfinite, v))}
    going = promoted(decide(table, objectives, eta=eta, epoch=1))
    assert len(going) == num_promoted(len(finite), eta)
    assert not any(dominates(finite[s], finite[p]) for p in going for s in finite.keys() - going)
    if len(objectives) == 1 and finite:
        assert min(finite, key=lambda i: (finite[i], i)) in going
