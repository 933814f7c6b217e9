import pytest

from service.search.budget import BudgetKeeper
from service.search.reserve import MOST, reserved_share
from service.search.spec import SearchSpec


class Clock:
    def __init__(self):
        self.now_s = 100.0

    def __call__(self):
        return self.now_s


def test_time_counts_over_sessions():
    clock = Clock()
    budget = BudgetKeeper(seconds=60, spent_s=50, clock=clock)
    assert budget.exhausted(0.0) == ""
    clock.now_s += 11
    assert "time budget is used up: 61 of 60 s" in budget.exhausted(0.0)


def test_energy_is_compared_with_pue_as_the_report_shows_it():
    budget = BudgetKeeper(kwh=1.0, pue=1.5)
    assert budget.exhausted(0.6) == ""
    assert "energy budget is used up: 1.05 of 1 kWh" in budget.exhausted(0.7)


def test_co2_uses_the_sites_intensity():
    budget = BudgetKeeper(kgco2e=0.1, co2e_kg=lambda kwh: kwh * 0.5)
    assert budget.exhausted(0.1) == ""
    assert "CO2 budget" in budget.exhausted(0.2)


def test_the_reserve_is_held_back_and_can_be_released():
    budget = BudgetKeeper(kwh=1.0, reserve=0.25)
    assert "25% held back" in budget.exhausted(0.8)
    budget.reserve = 0.0
    assert budget.exhausted(0.8) == ""


def test_no_limit_is_never_exhausted():
    assert BudgetKeeper().exhausted(1e9) == ""


def test_reserved_share_follows_the_finalists_work():
    spec = {"space": {"optimizer.lr": {"log_uniform": [1e-4, 1e-1]}}, "train": {"epochs": 10}}
    rounds = [{"sampler": "random", "trials": 90, "epochs": 10}]
    few = SearchSpec(**spec, rounds=rounds, finalists={"trials": 2, "seeds": 5})
    none = SearchSpec(**spec, rounds=rounds, finalists={"trials": 0})
    many = SearchSpec(**spec, rounds=rounds, finalists={"trials": 50, "seeds": 5})
    assert reserved_share(few) == pytest.approx(10 / 100)
    assert reserved_share(none) == 0.0
    assert reserved_share(many) == MOST
