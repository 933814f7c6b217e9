import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.search.spec import SearchSpec

LR = {"optimizer.lr": {"log_uniform": [1e-5, 1e-1]}}


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 1000), st.integers(1, 200))
def test_planned_trials_add_up_to_the_budget_and_every_round_says_why(trials, epochs):
    plan = SearchSpec(space=LR, train={"epochs": epochs}, budget={"trials": trials}).plan()
    assert sum(round_.trials for round_ in plan) == trials
    assert plan[-1].epochs == epochs
    assert all(round_.reason for round_ in plan)
    assert plan[0].refine is None
    assert all(round_.refine is not None for round_ in plan[1:])
    assert all(r.halving is None or r.halving.first_epoch < r.epochs for r in plan)


def test_enough_trials_are_spent_coarse_first_and_refined_then():
    coarse, fine = SearchSpec(space=LR, budget={"trials": 64}).plan()
    assert (coarse.trials, coarse.epochs, coarse.halving) == (32, 4, None)
    assert (fine.trials, fine.epochs, fine.halving.first_epoch) == (32, 20, 2)
    assert len(SearchSpec(space=LR, budget={"trials": 120}).plan()) == 3


@pytest.mark.parametrize("epochs", [2, 20, 300])
def test_the_coarse_round_takes_one_to_five_epochs(epochs):
    plan = SearchSpec(space=LR, train={"epochs": epochs}, budget={"trials": 64}).plan()
    assert 1 <= plan[0].epochs <= 5


def test_few_trials_are_spent_in_one_round():
    (only,) = SearchSpec(space=LR, budget={"trials": 10}).plan()
    assert (only.trials, only.epochs) == (10, 20)
    assert "too few" in only.reason


def test_a_space_smaller_than_the_budget_is_tried_whole():
    (only,) = SearchSpec(space={"model.width": [32, 64, 128]}, budget={"trials": 64}).plan()
    assert (only.sampler, only.trials) == ("grid", 3)


def test_a_grid_by_name_is_one_round():
    space = {"optimizer.lr": {"log_uniform": [1e-4, 1e-1], "grid": 4}, "model.width": [32, 64]}
    (only,) = SearchSpec(space=space, sampler="grid", budget={"trials": 100}).plan()
    assert (only.sampler, only.trials) == ("grid", 8)


def test_no_space_is_one_trial():
    spec = SearchSpec(data="digits")
    (only,) = spec.plan()
    assert (only.trials, only.epochs) == (1, 20)
    assert spec.max_rounds == 1


def test_a_budget_of_time_alone_still_gives_a_plan():
    plan = SearchSpec(space=LR, budget={"minutes": 5}).plan()
    assert len(plan) == 2
    assert "by default" in plan[0].reason


def test_listed_rounds_are_completed_and_kept():
    spec = SearchSpec(
        space={**LR, "model.width": [32, 64]},
        train={"epochs": 30},
        sampler="random",
        budget={"trials": 50},
        rounds=[
            {"sampler": "sobol", "trials": 20, "epochs": 2},
            {},
            {"sampler": "grid", "space": {"model.depth": [1, 2, 3]}},
        ],
    )
    plan = spec.plan()
    assert [(r.sampler, r.trials, r.epochs) for r in plan] == [
        ("sobol", 20, 2),
        ("random", 27, 30),
        ("grid", 3, 30),
    ]
    assert spec.max_rounds == 3


def test_the_nearer_limit_of_time_counts():
    assert SearchSpec(budget={"minutes": 90, "hours": 1}).budget.seconds == 3600
    assert SearchSpec().budget.seconds is None
