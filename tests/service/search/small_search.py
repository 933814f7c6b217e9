"""A search that ends in seconds, and what of its table must not depend on timing."""

from __future__ import annotations

import pandas as pd

from service import SearchSpec

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
