"""Whole searches on the inline executor: what a user asks for is what the ledger then holds."""

from __future__ import annotations

import json
import sqlite3

import pandas as pd
import pytest
from small_search import small_spec, table

from service import extend, resume, run_search
from service.ledger import Ledger
from trainers.errors import ChangedError, ConfigError, LedgerError


@pytest.fixture
def run(tmp_path):
    def run(spec, name="a", **options):
        return run_search(
            spec, workers=1, ledger=tmp_path / "ledger.db", out=tmp_path / name, **options
        )

    return run


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    return run_search(
        small_spec(start_from={"baseline": {"optimizer.lr": 1e-4}}),
        workers=1,
        ledger=folder / "ledger.db",
        out=folder / "out",
    )


def test_every_trial_ends_in_a_state_that_says_what_became_of_it(finished):
    trials = finished.trials()
    assert set(trials["state"]) <= {"complete", "pruned", "diverged"}
    assert list(trials["trial_id"]) == list(range(len(trials)))
    searched = trials[trials["role"] == "search"]
    assert (searched.groupby("round").size() == [8, 16]).all()


def test_pruned_means_pruned(finished):
    trials = finished.trials()
    pruned = trials[trials["state"] == "pruned"]
    assert len(pruned) > 0
    assert (pruned["epochs_done"] < pruned["horizon_epochs"]).all()
    assert pruned["reason"].str.contains("place").all()
    complete = trials[trials["state"] == "complete"]
    assert (complete["epochs_done"] == complete["horizon_epochs"]).all()


def test_halving_keeps_the_share_it_names(finished):
    searched = finished.trials().query("role == 'search' and round == 1")
    for _, batch in searched.groupby("batch"):
        reached = [(batch["epochs_done"] >= epoch).sum() for epoch in (1, 2, 4)]
        assert (batch["state"] != "diverged").all()
        assert reached == [8, 4, 2]


def test_the_baseline_is_trial_0_at_full_length_with_the_finalists_seeds(finished):
    trials = finished.trials()
    baseline = trials[trials["role"] == "baseline"]
    assert list(baseline["trial_id"]) == [0, 1]
    assert set(baseline["horizon_epochs"]) == {4}
    finalists = trials[trials["role"] == "finalist"]
    assert set(baseline["seed"]) == set(finalists["seed"])


def test_the_test_rows_are_looked_at_once(finished):
    assert finished.record.test_looks == 1


def test_no_configuration_and_seed_twice(finished):
    trials = finished.trials()
    assert not trials.duplicated(["config_id", "seed"]).any()


def test_the_outputs_are_there_and_pandas_opens_them(finished):
    out = finished.out_dir
    trials = pd.read_parquet(out / "trials.parquet")
    assert len(trials) == len(finished.trials())
    assert len(pd.read_csv(out / "trials.csv")) == len(trials)
    curves = pd.read_parquet(out / "curves.parquet")
    assert len(curves) == trials["epochs_done"].sum()
    assert (out / "energy.parquet").exists()
    summary = json.loads((out / "summary.json").read_text())
    assert {"best", "trials", "recipe", "rounds", "energy_kwh", "energy_residual",
            "co2e_kg", "seconds", "versions"} <= set(summary)  # fmt: skip


def test_the_accounts_close(finished):
    accounts = finished.energy()
    parts = (
        accounts.trials_kwh + accounts.padding_kwh + accounts.overhead_kwh
        + accounts.idle_kwh + accounts.others_kwh + accounts.gap_kwh
    )  # fmt: skip
    assert parts == pytest.approx(accounts.node_kwh, rel=1e-9)


def test_the_best_model_predicts_raw_rows_better_than_chance(finished):
    from sklearn.datasets import load_digits

    model = finished.best.load()
    x, y = load_digits(return_X_y=True)
    assert (model.predict(x.reshape(-1, 8, 8)) == y).mean() > 0.5


def test_best_yaml_runs_again_as_it_is(finished, tmp_path):
    again = run_search(
        finished.out_dir / "best.yaml",
        workers=1, ledger=tmp_path / "again.db", out=tmp_path / "again",
    )  # fmt: skip
    assert again.record.state == "finished"
    assert (again.trials()["role"] == "search").sum() == 1


def test_the_same_seed_gives_the_same_table_and_another_seed_another(run):
    first = run(small_spec(), "first").trials()
    second = run(small_spec(), "second").trials()
    other = run(small_spec(), "other", seed=7).trials()
    pd.testing.assert_frame_equal(table(first), table(second))
    assert not table(first)["param.optimizer.lr"].equals(table(other)["param.optimizer.lr"])


def test_a_grid_is_exact_and_says_when_it_is_exhausted(run):
    spec = small_spec(
        model={"depth": 1},
        space={"optimizer.lr": [1e-3, 1e-2, 1e-1], "model.width": [8, 16]},
        rounds=[{"sampler": "grid", "epochs": 1}],
        finalists={"trials": 0},
    )
    trials = run(spec).trials()
    assert len(trials) == 6
    assert len(trials[["param.optimizer.lr", "param.model.width"]].drop_duplicates()) == 6


def test_a_space_with_fewer_points_than_trials_ends_the_round_and_says_so(run):
    spec = small_spec(
        space={"optimizer.lr": [1e-3, 1e-2]},
        rounds=[{"sampler": "random", "trials": 9, "epochs": 1}],
        finalists={"trials": 0},
    )
    result = run(spec)
    assert len(result.trials()) == 2
    with Ledger.open(result.ledger_url) as ledger:
        warnings = [e.payload["text"] for e in ledger.events(result.search_id, "warning")]
    assert any("all 2 configurations of the space have been tried" in text for text in warnings)


def test_constraints_known_before_training_refuse_at_asking(run):
    spec = small_spec(
        model={"depth": 1},
        space={"model.width": {"int": [4, 64]}, "optimizer.lr": {"log_uniform": [1e-3, 1e-1]}},
        constraints={"params": "<= 1500"},
        rounds=[{"sampler": "random", "trials": 8, "epochs": 1}],
        finalists={"trials": 0},
    )
    trials = run(spec).trials()
    assert len(trials) == 8
    assert (trials["num_params"] <= 1500).all()


def test_constraints_known_after_training_make_a_trial_infeasible(run):
    spec = small_spec(
        constraints={"val_loss": "<= 0.0001"},
        rounds=[{"sampler": "random", "trials": 4, "epochs": 1}],
    )
    trials = run(spec).trials()
    assert set(trials["state"]) == {"infeasible"}
    assert trials["reason"].str.contains("val_loss <= 0.0001").all()


def test_two_objectives_are_halved_by_front_at_equal_length(run):
    spec = small_spec(
        model={"depth": 1},
        space={"model.width": {"int": [4, 64]}, "optimizer.lr": {"log_uniform": [1e-3, 1e-1]}},
        objectives={"val_error": "minimize", "params": "minimize"},
        rounds=[{"sampler": "random", "trials": 12, "epochs": 4,
                 "halving": {"eta": 2, "first_epoch": 1}}],
    )  # fmt: skip
    trials = run(spec).trials().query("role == 'search'")
    assert (trials["state"] == "pruned").any()
    assert trials.query("state == 'pruned'")["reason"].str.contains("front").all()


@pytest.mark.parametrize(("every", "epochs"), [(None, [4]), (3, [3, 4]), (1, [1, 2, 3, 4])])
def test_long_training_is_saved_inside_as_often_as_asked(run, every, epochs):
    result = run(
        small_spec(
            rounds=[{"sampler": "random", "trials": 2, "epochs": 4}],
            finalists={"trials": 0},
            resources={"save_every_epochs": every},
        )
    )
    with sqlite3.connect(result.ledger_url) as connection:
        saved = connection.execute("select epoch from checkpoints where trial_id = 0").fetchall()
    assert sorted(epoch for (epoch,) in saved) == epochs


def test_several_seeds_in_a_round_stand_or_fall_together(run):
    spec = small_spec(
        rounds=[{"sampler": "random", "trials": 6, "epochs": 4, "seeds": 2,
                 "halving": {"eta": 2, "first_epoch": 1}}],
        finalists={"trials": 0},
    )  # fmt: skip
    trials = run(spec).trials()
    assert len(trials) == 12
    assert (trials.groupby("config_id")["state"].nunique() == 1).all()


def test_extend_adds_a_round_on_the_same_evidence_and_counts_the_second_look(run):
    result = run(small_spec())
    before = len(result.trials())
    result = result.extend(trials=8, workers=1)
    trials = result.trials()
    assert (trials["role"] == "search").sum() == 8 + 16 + 8
    assert len(trials) > before
    assert result.record.test_looks == 2


def test_extend_by_epochs_goes_on_from_checkpoints_only_where_that_is_exact(run, tmp_path):
    result = run(small_spec())
    longer = result.extend(epochs=6, workers=1)
    children = longer.trials().query("horizon_epochs == 6 and role == 'search'")
    assert len(children) == 2
    curves = longer.curves()
    for child in children.itertuples():
        epochs = curves[curves["trial_id"] == child.trial_id]["epoch"]
        assert epochs.min() == 5  # a constant schedule: the first four are the parent's own
    stretched = run(small_spec(schedule={"kind": "cosine"}), "cosine").extend(epochs=6, workers=1)
    children = stretched.trials().query("horizon_epochs == 6 and role == 'search'")
    curves = stretched.curves()
    for child in children.itertuples():
        assert curves[curves["trial_id"] == child.trial_id]["epoch"].min() == 1


def test_extend_takes_another_space(run):
    result = run(small_spec()).extend(
        trials=4, space={"optimizer.lr": {"log_uniform": [1e-3, 2e-3]}}, workers=1
    )
    added = result.trials().query("role == 'search'").tail(4)
    assert added["param.optimizer.lr"].between(1e-3, 2e-3).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "needs `--trials N`"),
        ({"epochs": 2}, "must be more than the 4"),
        ({"epochs": 9, "space": {"optimizer.lr": [0.1]}}, "needs `--trials` as well"),
        ({"trials": 4, "space": {"optimizer.lrr": [0.1]}}, "did you mean"),
    ],
)
def test_extend_refuses_what_makes_no_sense(finished, options, message):
    with pytest.raises(ConfigError, match=message):
        extend(finished.search_id, ledger=finished.ledger_url, workers=1, **options)


def test_a_target_ends_the_search(run):
    result = run(small_spec(budget={"target": 0.99}))
    assert "reached the target" in result.record.reason
    assert result.record.state == "finished"


def test_a_spent_budget_ends_cleanly_with_a_report(run):
    result = run(small_spec(budget={"minutes": 1e-6}))
    assert result.record.state == "finished"
    assert "time budget is used up" in result.record.reason
    assert result.report_path is not None
    assert not result.has_finished_trial


def test_a_net_that_cannot_learn_stops_the_search_with_advice(run):
    result = run(small_spec(init={"kind": "zeros"}, recipe={"checks": True}))
    assert result.record.state == "recipe_stopped"
    assert "recipe.continue_on_failure" in result.record.reason
    assert not (result.trials()["role"] == "search").any()


def test_resume_refuses_changed_code_and_records_that_it_was_accepted(run):
    result = run(small_spec())
    with Ledger.open(result.ledger_url) as ledger:
        ledger.update_search(result.search_id, state="interrupted", code_fingerprint="older")
    with pytest.raises(ChangedError, match="older then"):
        resume(result.search_id, ledger=result.ledger_url, workers=1)
    resume(result.search_id, ledger=result.ledger_url, workers=1, accept_changes=True)
    with Ledger.open(result.ledger_url) as ledger:
        accepted = ledger.events(result.search_id, "changes_accepted")
    assert "isoflop's own code" in str(accepted[0].payload)


def test_an_unknown_search_is_refused_with_the_ones_there_are(finished):
    with pytest.raises(LedgerError, match=finished.search_id):
        resume("nothing-7", ledger=finished.ledger_url)


def test_a_budget_that_ends_mid_way_still_trains_the_finalists(run, monkeypatch):
    from service.search.budget import BudgetKeeper

    asked = iter(range(10**9))

    def spent_after_a_while(self: BudgetKeeper, own_kwh: float) -> str:
        return "the energy budget is used up" if self.reserve and next(asked) > 2 else ""

    monkeypatch.setattr(BudgetKeeper, "exhausted", spent_after_a_while)
    rounds = [{"sampler": "random", "trials": 40, "epochs": 4, "seeds": 1}]
    result = run(small_spec(rounds=rounds, budget={"kwh": 1.0}))
    trials = result.trials()
    assert "used up" in result.record.reason
    assert set(trials[trials["role"] == "finalist"]["state"]) == {"complete"}
    assert not (trials[trials["role"] == "search"]["state"] == "complete").all()
    assert result.record.test_looks == 1
