"""What `--dry-run` says: the numbers of the plan, and their sum."""

from __future__ import annotations

import pytest
from rich.console import Console
from small_search import small_spec

from service import run_search
from service.search.estimate import ASSUMED_WATTS_PER_WORKER, estimate

SPEC = small_spec(
    rounds=[
        {"sampler": "random", "trials": 8, "epochs": 2, "seeds": 2},
        {"sampler": "tpe", "trials": 16, "epochs": 4},
    ],
    start_from={"baseline": {"optimizer.lr": 1e-4}},
    recipe={"checks": True, "stop_gain": 1e-9},
)


def text(plan):
    console = Console(width=160)
    with console.capture() as capture:
        console.print(plan.render())
    return capture.get()


def test_the_plan_counts_what_a_search_then_trains(tmp_path):
    rows = {row.name: row for row in estimate(SPEC, workers=1).rounds}
    trials = run_search(SPEC, workers=1, ledger=tmp_path / "a.db", out=tmp_path / "a").trials()
    for role, name in (("overfit", "step 2"), ("sweep", "step 3"), ("baseline", "baseline"),
                       ("finalist", "finalists")):  # fmt: skip
        found = trials[trials["role"] == role]
        assert len(found) == rows[name].trials, role
        assert set(found["horizon_epochs"]) == {rows[name].epochs}, role
    for number in (0, 1):
        found = trials.query(f"role == 'search' and round == {number}")
        assert len(found) == rows[str(number)].trials
        assert found["flops_per_epoch"].iloc[0] * found["epochs_done"].sum() == pytest.approx(
            rows[str(number)].flops
        )


def test_time_and_energy_are_sums_and_scale_with_the_work():
    plan = estimate(SPEC, workers=1)
    assert plan.seconds == pytest.approx(sum(row.seconds for row in plan.rounds))
    assert plan.kwh == pytest.approx(plan.seconds * ASSUMED_WATTS_PER_WORKER / 3.6e6)
    for row in plan.rounds:
        assert row.seconds == pytest.approx(row.flops / plan.flops_per_s)
        assert row.packs >= 1
    assert estimate(SPEC, workers=2).workers == 2


def test_people_see_trials_epochs_flop_time_and_energy_but_no_inside_words():
    shown = text(estimate(SPEC, workers=1))
    for word in ("trials", "epochs", "FLOP", "time", "Wh", "estimated at", "sampler"):
        assert word in shown
    assert "CO2 not computed: set ISOFLOP_COUNTRY" in shown
    assert "CO2 CO2" not in shown
    assert not any(word in shown for word in ("pack", "lane", "segment"))


def test_with_a_country_the_plan_says_its_co2(monkeypatch):
    monkeypatch.setenv("ISOFLOP_COUNTRY", "FRA")
    assert "g CO2e" in text(estimate(SPEC, workers=1))
