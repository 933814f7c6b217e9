"""A search that ends in seconds, and what of its table must not depend on timing."""

from __future__ import annotations

import pandas as pd

from service import SearchResult, SearchSpec

SMALL = {
    "data": {"name": "digits", "num_train": 200},
    "model": {"kind": "mlp", "depth": 1, "width": 16},
    "train": {"epochs": 4, "batch_size": 50},
    "space": {
        "optimizer.lr": {"log_uniform": [1e-4, 1e-1]},
        "model.dropout": {"uniform": [0.0, 0.5]},
    },
    "rounds": [
        {"sampler": "sobol", "trials": 8, "epochs": 2},
        {"sampler": "tpe", "trials": 16, "epochs": 4,
         "halving": {"eta": 2, "first_epoch": 1}, "refine": {}},
    ],
    "finalists": {"trials": 2, "seeds": 2},
    "recipe": {"checks": False},
}  # fmt: skip


def small_spec(**changes: object) -> SearchSpec:
    """Return the small search with sections replaced."""
    return SearchSpec(**{**SMALL, **changes})


def table(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the columns that the same seed must reproduce: all but measured time and energy."""
    measured = [c for c in frame.columns if c in ("seconds", "energy_kwh", "busy_s")]
    return frame.drop(columns=measured).sort_values("trial_id").reset_index(drop=True)


def outcome(result: SearchResult) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the two tables that neither workers nor deaths may change: trials and curves."""
    return table(result.trials()), result.curves().drop(columns="busy_s")


def assert_same_outcome(result: SearchResult, expected: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    """Compare with the tables of another run of the same search, and check the accounts."""
    trials, curves = outcome(result)
    assert result.record.state == "finished"
    assert not trials.duplicated(["config_id", "seed"]).any()
    assert not curves.duplicated(["trial_id", "epoch"]).any()
    assert result.record.test_looks == 1
    pd.testing.assert_frame_equal(trials, expected[0])
    pd.testing.assert_frame_equal(curves, expected[1])
    assert abs(result.energy().residual) < 1e-9
