"""A scaling study in a ledger whose losses follow a law that is known exactly."""

from __future__ import annotations

import math
from typing import Any

from service.ledger import Ledger
from service.ledger.records import TrialRecord
from service.ledger.testing_records import round_record, trial_record

TRUTH = {"E": 0.5, "A": 6.0, "B": 60.0, "alpha": 0.35, "beta": 0.35}
"""L(N, D) = E + A N^-alpha + B D^-beta."""
K = 6.0
SPEC: dict[str, Any] = {
    "kind": "study",
    "name": "law",
    "project": "vision/plates",
    "data": {"name": "digits"},
    "model": {"kind": "mlp", "depth": 1},
    "sizes": {"model.width": [4, 8, 16, 32, 64]},
    "budgets_flops": [1e9, 3e9, 1e10, 3e10, 1e11],
    "objectives": {"val_loss": "minimize"},
    "fit": {"laws": ["chinchilla"], "count_params": "all"},
}
BUDGETS = tuple(SPEC["budgets_flops"])
TIMES = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Sizes at each budget, in units of the best one."""


def best(flops: float) -> tuple[float, float, float]:
    """Return N, D and L of the best model at a budget (Hoffmann et al. 2022, eq. 4)."""
    alpha, beta = TRUTH["alpha"], TRUTH["beta"]
    scale = (alpha * TRUTH["A"] / (beta * TRUTH["B"])) ** (1 / (alpha + beta))
    params = scale * (flops / K) ** (beta / (alpha + beta))
    return params, flops / (K * params), loss(params, flops / (K * params))


def loss(params: float, tokens: float) -> float:
    return (
        TRUTH["E"] + TRUTH["A"] * params ** -TRUTH["alpha"] + TRUTH["B"] * tokens ** -TRUTH["beta"]
    )


def add_study(ledger: Ledger, owner: str | None = "ada", **fields: Any) -> str:
    """Add a study without points; return its id."""
    record = ledger.create_search(
        name="law", kind="study", project="vision/plates", owner=owner, spec=SPEC, seed=0, **fields
    )
    ledger.put_round(record.search_id, round_record(0, planned_trials=25))
    return record.search_id


def add_points(
    ledger: Ledger, study_id: str, budgets: tuple[float, ...] = BUDGETS, num_sizes: int = 5
) -> None:
    """Train sizes around the best one of each budget: 1/4 to 4 times."""
    first = len(ledger.trials(study_id))
    places = [(c, place) for c in budgets for place in range(num_sizes)]
    records = [_trial(first + i, c, place) for i, (c, place) in enumerate(places)]
    ledger.add_trials(study_id, records)
    for record in records:
        done = {"metrics": {"val_loss": record.sampler_attrs["loss"]}}
        done |= {"state": "complete", "epochs_done": record.horizon_epochs}
        ledger.update_trials(study_id, [(record.trial_id, done)])


def finished_study(ledger: Ledger, **fields: Any) -> str:
    """Add a study with all its points that has ended; return its id."""
    study_id = add_study(ledger, **fields)
    add_points(ledger, study_id)
    ledger.update_search(study_id, state="finished", finished_unix_s=1e9)
    return study_id


def _trial(trial_id: int, budget: float, place: int) -> TrialRecord:
    params = round(best(budget)[0] * TIMES[place])
    rows = max(1, round(budget / (K * params)))
    epochs = max(1, math.floor(rows / 1000))
    per_epoch = rows / epochs
    facts = {
        "recipe": {}, "size": {"model.width": 4 * 2**place}, "data_size": None, "purpose": "point",
        "budget_flops": budget, "params_all": params, "params_non_embedding": params,
        "rows_per_epoch": per_epoch, "tokens_per_row": 1, "flops_per_row": K * params,
        "num_train": 100_000, "planned": True,
    }  # fmt: skip
    return trial_record(
        trial_id,
        params={"optimizer.lr": 0.01},
        horizon_epochs=epochs,
        seed=0,
        num_params=params,
        sampler_attrs={"study": facts, "loss": loss(params, float(round(rows)))},
    )
