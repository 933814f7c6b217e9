"""Optuna studies rebuilt in memory from told rows: parameters, values and system attributes.

Optuna sees each hyperparameter on its own scale: an interval as a position in [0, 1], a linear
grid as the index of its value, a choice as the index of its value. So narrowing, steps, logs
and values of any type are the space language's business alone.

What is told how
    complete     COMPLETE with its values.
    running      RUNNING: the sampler keeps away from it (constant liar).
    pruned       PRUNED with its intermediate values: TPE ranks it below every complete trial,
                 by how far it got; the other samplers learn from complete trials only.
    diverged     TPE: PRUNED without a value, which ranks last of all, so that the region is
                 avoided and no value is made up. GP, CMA-ES and NSGA-II ignore PRUNED: COMPLETE
                 with the worst finite value seen (no infinity, which would wreck a GP's scale).
    infeasible   COMPLETE with its constraints' excess; for CMA-ES, which knows no constraints,
                 with the worst value seen.
    failed       not told: a dead worker says nothing about the configuration.
NaN and infinity are never told, nor are values of another length than the round's, nor rows
outside the present space.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState

from search_spaces import Space
from search_spaces.distributions import Choice, Distribution
from service.search.objectives import Objective
from service.search.samplers.evidence import has_values
from service.search.samplers.told import Params, Told


def optuna_distribution(dimension: Distribution) -> BaseDistribution:
    """Return what Optuna sees of one hyperparameter."""
    if isinstance(dimension, Choice):
        return CategoricalDistribution(tuple(range(dimension.count)))
    if dimension.count is not None and not dimension.log:
        return IntDistribution(0, dimension.count - 1)
    return FloatDistribution(0.0, 1.0)


def to_internal(dimension: Distribution, value: Any) -> float | int:
    """Return what Optuna is told for `value`: an index or a position in [0, 1]."""
    unit = dimension.to_unit(value)
    if isinstance(optuna_distribution(dimension), FloatDistribution):
        return unit
    count = dimension.count or 1
    return min(int(unit * count), count - 1)


def from_internal(dimension: Distribution, internal: float | int) -> Any:
    """Return the value of the space for what Optuna said."""
    if isinstance(optuna_distribution(dimension), FloatDistribution):
        return dimension.from_unit(float(internal))
    return dimension.from_unit((internal + 0.5) / (dimension.count or 1))


def suggest(trial: optuna.Trial, space: Space) -> dict[str, Any]:
    """Let Optuna fill in the active hyperparameters, parents before those that wait for them."""
    params: dict[str, Any] = {}
    waiting = list(space)
    while ready := [path for path in waiting if space.is_active(path, params)]:
        for path in ready:
            distribution = optuna_distribution(space[path])
            if isinstance(distribution, CategoricalDistribution):
                internal = trial.suggest_categorical(path, distribution.choices)
            elif isinstance(distribution, IntDistribution):
                internal = trial.suggest_int(path, distribution.low, distribution.high)
            else:
                internal = trial.suggest_float(path, 0.0, 1.0)
            assert isinstance(internal, int | float)  # never None or text: we gave indices
            params[path] = from_internal(space[path], internal)
        waiting = [path for path in waiting if path not in params]
    return {path: params[path] for path in space if path in params}


def build_study(
    rows: Sequence[Told],
    space: Space,
    objectives: Sequence[Objective],
    sampler_name: str,
    sampler: optuna.samplers.BaseSampler,
    round_index: int,
) -> optuna.Study:
    """Build the in-memory study that `sampler` then asks from.

    Args:
        rows: evidence in order of trial id; the order is part of what a sampler knows.
        space: the present space; every row lies in it.
        objectives: directions in order.
        sampler_name: decides how diverged, pruned and infeasible rows are told.
        sampler: a fresh Optuna sampler.
        round_index: system attributes are restored for rows of this round only: a sampler's
            state belongs to the space it was made in.

    """
    study = optuna.create_study(
        directions=[objective.direction for objective in objectives], sampler=sampler
    )
    frozen = _Freezer(rows, space, objectives, sampler_name, round_index)
    study.add_trials([trial for row in rows if (trial := frozen(row)) is not None])
    return study


class _Freezer:
    """Turns told rows into Optuna's frozen trials."""

    def __init__(
        self,
        rows: Sequence[Told],
        space: Space,
        objectives: Sequence[Objective],
        sampler_name: str,
        round_index: int,
    ) -> None:
        self._space, self._name, self._round = space, sampler_name, round_index
        self._single = len(objectives) == 1
        self._distributions = {path: optuna_distribution(space[path]) for path in space}
        known = [row for row in rows if row.state in ("complete", "infeasible") and has_values(row)]
        columns = zip(*(row.values or () for row in known), strict=True)
        self._worst = [
            max(column, key=objective.cost)
            for objective, column in zip(objectives, columns, strict=False)
        ]
        # A GP needs every constraint on every row; what is unknown or NaN counts as the worst seen.
        pairs = [pair for row in rows for pair in row.constraints.items()]
        self._worst_excess = {
            name: max([0.0, *(e for other, e in pairs if other == name and math.isfinite(e))])
            for name in sorted({name for name, _ in pairs})
        }

    def __call__(self, row: Told) -> FrozenTrial | None:
        """Return the frozen trial, or None if the row holds nothing that can be told."""
        if row.state == "running":
            return self._freeze(row, TrialState.RUNNING)
        if row.state == "pruned":
            return self._freeze(row, TrialState.PRUNED, intermediate=self._intermediate(row))
        lost = row.state == "diverged" or not has_values(row)
        if lost and self._name == "tpe":
            return self._freeze(row, TrialState.PRUNED)
        if lost or (row.state == "infeasible" and self._name == "cmaes"):
            return (
                self._freeze(row, TrialState.COMPLETE, values=self._worst) if self._worst else None
            )
        return self._freeze(row, TrialState.COMPLETE, values=row.values)

    def _intermediate(self, row: Told) -> dict[int, float]:
        # Optuna ranks pruned trials by their last value only where there is one direction.
        finite = {e: v for e, v in row.intermediate.items() if math.isfinite(v)}
        return finite if self._single else {}

    def _freeze(
        self,
        row: Told,
        state: TrialState,
        values: Sequence[float] | None = None,
        intermediate: Mapping[int, float] | None = None,
    ) -> FrozenTrial:
        constraints = None
        if state == TrialState.COMPLETE and self._worst_excess and self._name != "cmaes":
            measured = {name: e for name, e in row.constraints.items() if math.isfinite(e)}
            constraints = {**self._worst_excess, **measured}
        return optuna.trial.create_trial(
            state=state,
            values=list(values) if values is not None else None,
            params=internal_params(self._space, row.params),
            distributions={path: self._distributions[path] for path in row.params},
            intermediate_values=dict(intermediate or {}),
            system_attrs=dict(row.attrs) if row.round == self._round else {},
            constraints=constraints,
        )


def internal_params(space: Space, params: Params) -> dict[str, float | int]:
    """Return a configuration as Optuna is told it."""
    return {path: to_internal(space[path], value) for path, value in params.items()}


def move_cma_state(rows: Sequence[Told], round_index: int) -> list[Told]:
    """Put the newest CMA-ES optimizer on the last complete row of the round.

    Optuna stores the optimizer with the trial that was asked right after a generation ended,
    and finds it only once that very trial is complete. If that trial runs, diverges or is
    pruned, the generation is told again or lost. The state is the study's, so it is moved to
    where it is always found.
    """
    own = [i for i, row in enumerate(rows) if row.round == round_index]
    holders = [i for i in own if _optimizer_attrs(rows[i])]
    complete = [i for i in own if rows[i].state == "complete" and has_values(rows[i])]
    if not holders or not complete:
        return list(rows)
    newest = max(holders, key=lambda i: (rows[i].attrs.get("cma:generation", -1), rows[i].number))
    state = _optimizer_attrs(rows[newest])
    result = list(rows)
    for i in holders:
        kept = {k: v for k, v in rows[i].attrs.items() if k not in _optimizer_attrs(rows[i])}
        result[i] = replace(rows[i], attrs=kept)
    last = complete[-1]
    result[last] = replace(result[last], attrs={**result[last].attrs, **state})
    return result


def _optimizer_attrs(row: Told) -> dict[str, Any]:
    return {k: v for k, v in row.attrs.items() if k.startswith("cma:optimizer")}
