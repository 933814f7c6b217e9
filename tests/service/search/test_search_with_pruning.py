"""Searches over pruning and over what stops a trial, end to end."""

from __future__ import annotations

import pytest
from small_search import small_spec

from service import run_search
from trainers.errors import ConfigError, SpaceError


@pytest.fixture
def run(tmp_path):
    def run(**changes):
        spec = small_spec(**{"finalists": {"trials": 1, "seeds": 2}, **changes})
        return run_search(spec, workers=1, ledger=tmp_path / "ledger.db", out=tmp_path / "out")

    return run


def test_sparsity_and_the_epoch_of_the_cut_are_dimensions(run):
    found = run(
        space={"pruning.sparsity": [0.3, 0.9], "pruning.after_epochs": [0, 2]},
        rounds=[{"sampler": "grid", "epochs": 4}],
    )
    searched = found.trials().query("role == 'search'")
    assert len(searched) == 4
    assert set(searched["state"]) == {"complete"}
    assert list(searched["sparsity"]) == pytest.approx(
        list(searched["param.pruning.sparsity"]), abs=1e-2
    )
    assert searched["val_loss"].nunique() == 4


def test_sparsity_is_an_objective_and_a_constraint(run):
    found = run(
        space={"pruning.sparsity": [0.3, 0.6, 0.9]},
        objectives={"sparsity": "maximize", "val_error": "minimize"},
        constraints={"sparsity": "<= 0.7"},
        rounds=[{"sampler": "grid", "epochs": 2}],
        finalists={"trials": 1, "seeds": 1},
    )
    searched = found.trials().query("role == 'search'")
    states = searched.set_index("param.pruning.sparsity")["state"].to_dict()
    assert states == {0.3: "complete", 0.6: "complete", 0.9: "infeasible"}
    assert found.best.config["pruning"]["sparsity"] == 0.6


@pytest.mark.parametrize("role", ["objectives", "constraints"])
def test_sparsity_of_nets_that_may_not_be_pruned_is_refused(role):
    wanted = {
        "objectives": {"objectives": {"val_error": "minimize", "sparsity": "maximize"}},
        "constraints": {"constraints": {"sparsity": ">= 0.5"}},
    }[role]
    for changes in ({}, {"space": {"pruning.sparsity": [0.5, 0.0]}}):
        with pytest.raises(ConfigError, match=r"`pruning\.sparsity` must be > 0 .* but got 0;"):
            small_spec(**wanted, **changes)
    small_spec(**wanted, space={"pruning.sparsity": {"uniform": [0.5, 0.9]}})


def test_a_threshold_of_convergence_is_a_dimension_and_its_reason_is_kept(run):
    found = run(
        space={"train.convergence_change": {"log_uniform": [10.0, 1000.0]}},
        rounds=[{"sampler": "random", "trials": 2, "epochs": 4}],
    )
    searched = found.trials().query("role == 'search'")
    assert (searched["epochs_done"] == 2).all()
    assert searched["reason"].str.contains("converged").all()


def test_a_cut_after_the_last_epoch_is_refused_before_anything_starts(run, tmp_path):
    with pytest.raises((ConfigError, SpaceError), match=r"pruning\.after_epochs"):
        run(
            space={"pruning.after_epochs": [1, 4]},
            pruning={"sparsity": 0.5},
            rounds=[{"sampler": "grid", "epochs": 4}],
        )
    assert not (tmp_path / "ledger.db").exists()
