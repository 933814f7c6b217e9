"""What a study would train and cost, before it is started.

FLOPs and trials are counted. Time and energy come from a short measurement on this machine of the
smallest, a middle and the largest model, and are estimates; sizes between them are interpolated,
because small models reach a fraction of a large one's FLOPs per second.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from service.report.numbers import duration, energy
from service.scaling.groups import Group, base_config, make_groups
from service.scaling.lengths import fork_epoch, updates_per_epoch
from service.scaling.running import prepare_study
from service.scaling.smoothing import smooths_points
from service.scaling.study_spec import StudySpec
from service.scaling.waves import StudyState
from service.search.estimate import ASSUMED_WATTS_PER_WORKER, measured_rate
from service.search.session import Workers

NUM_MEASURED = 3
NEAR_MINIMUM = 3
"""Sizes of a budget that get `seeds.near_minimum`: the best one and its neighbours."""


@dataclass(frozen=True)
class StudyPlan:
    """Every point and tuning of a study, with counts and estimates."""

    rows: pd.DataFrame
    """Per size, budget and purpose: `recipe`, `size`, `params` N as the fit counts it, `purpose`
    (tuning, points, more seeds), `budget_flops`, `epochs`, `updates`, `passes`, `trials`, `flops`
    of all of them, `hours` of one worker, `kwh`."""
    left_out: pd.DataFrame
    """`size`, `budget_flops`, `reason` of what the limits leave out."""
    workers: int
    trials: int
    flops: float
    hours: float
    """Of wall time, with all workers busy."""
    kwh: float

    @property
    def text(self) -> str:
        """The totals in one sentence."""
        return (
            f"{self.trials} trials, {self.flops:.3g} FLOP: about {duration(3600 * self.hours)} on "
            f"{self.workers} workers and {energy(self.kwh)} (estimated at "
            f"{ASSUMED_WATTS_PER_WORKER:g} W per worker); intervals that have to be widened add "
            "trials"
        )

    def to_mapping(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        return {
            "rows": self.rows.to_dict("records"),
            "left_out": self.left_out.to_dict("records"),
            "workers": self.workers,
            "trials": self.trials,
            "flops": self.flops,
            "hours": self.hours,
            "kwh": self.kwh,
        }


def plan_study(
    spec: StudySpec | Mapping[str, Any] | str | Path,
    *,
    workers: int | None = None,
    flops_per_s: float | None = None,
    folder: str | Path | None = None,
) -> StudyPlan:
    """Return what a study would train, and an estimate of what that costs.

    Args:
        spec: the study.
        workers: processes; None: one per core.
        flops_per_s: of one worker; None: measured here, in some seconds.
        folder: where the study's outputs would go, which must be writable; None: `runs`.

    Raises:
        ConfigError: the spec breaks a rule.

    """
    parsed = prepare_study(spec, folder)
    num_workers = Workers(num=workers).count(parsed.as_search)
    groups = make_groups(parsed)
    state = StudyState(parsed, groups, ())
    rates = _rates(parsed, groups, flops_per_s)
    rows = [
        {**row, "hours": row["flops"] / rate / 3600}
        for group, rate in zip(groups, rates, strict=True)
        for row in _rows(parsed, group, state.tuned_budgets(group))
    ]
    table = pd.DataFrame(rows)
    table["kwh"] = table["hours"] * ASSUMED_WATTS_PER_WORKER / 1000
    left_out = [
        {"size": group.name, "budget_flops": budget, "reason": reason}
        for group in groups
        for budget, reason in group.left_out.items()
    ]
    return StudyPlan(
        rows=table,
        left_out=pd.DataFrame(left_out, columns=["size", "budget_flops", "reason"]),
        workers=num_workers,
        trials=int(table["trials"].sum()),
        flops=float(table["flops"].sum()),
        hours=float(table["hours"].sum()) / num_workers,
        kwh=float(table["kwh"].sum()),
    )


def _rows(spec: StudySpec, group: Group, tuned_budgets: Sequence[float]) -> list[dict[str, Any]]:
    rows = []
    if spec.tune is not None:
        for budget in tuned_budgets:
            rows.append(_row(spec, group, budget, "tuning", spec.tune.trials))
    for budget in group.budgets:
        # The best of tuning is a point already, unless points use smoothed values.
        known = 1 if budget in tuned_budgets and not smooths_points(spec) else 0
        num = spec.seeds.default - known
        if num > 0:
            rows.append(_row(spec, group, budget, "points", num))
    more = (spec.seeds.near_minimum or spec.seeds.default) - spec.seeds.default
    if more > 0:
        # Which sizes are near a minimum is not known yet: their share is spread over all.
        for budget in group.budgets:
            share = min(1.0, NEAR_MINIMUM / len(spec.size_values))
            rows.append(_row(spec, group, budget, "more seeds", round(more * share, 2)))
    return rows


def _row(
    spec: StudySpec, group: Group, budget: float, purpose: str, trials: float
) -> dict[str, Any]:
    epochs = group.lengths.epochs(budget)
    updates = updates_per_epoch(group.lengths.rows_per_epoch, group.batch_size)
    own_epochs = epochs
    if spec.fork_budgets and purpose != "tuning" and budget != group.budgets[-1]:
        own_epochs -= fork_epoch(spec.schedule, epochs, updates)
    counted = spec.fit.count_params == "all"
    return {
        "recipe": ", ".join(str(value) for value in group.recipe.values()),
        "size": ", ".join(f"{path} {value}" for path, value in group.size.items()),
        "params": group.params_all if counted else group.params_non_embedding,
        "purpose": purpose,
        "budget_flops": budget,
        "epochs": epochs,
        "updates": epochs * updates,
        "passes": epochs * group.lengths.rows_per_epoch / group.num_train,
        "trials": trials,
        "flops": trials * group.lengths.flops(own_epochs),
    }


def _rates(spec: StudySpec, groups: Sequence[Group], flops_per_s: float | None) -> list[float]:
    """Return one worker's FLOPs per second for each group."""
    if flops_per_s is not None:
        return [flops_per_s] * len(groups)
    order = sorted(range(len(groups)), key=lambda i: groups[i].lengths.flops_per_row)
    places = np.unique(np.linspace(0, len(order) - 1, min(NUM_MEASURED, len(order))).round())
    log_cost, log_rate = [], []
    for place in places.astype(int):
        group = groups[order[place]]
        config = base_config(spec, group.values).with_values(
            {"train.rows_per_epoch": group.lengths.rows_per_epoch}
        )
        log_cost.append(np.log(group.lengths.flops_per_row))
        log_rate.append(np.log(measured_rate(config, spec.resources.device)))
    own = [np.log(group.lengths.flops_per_row) for group in groups]
    return [float(rate) for rate in np.exp(np.interp(own, log_cost, log_rate))]
