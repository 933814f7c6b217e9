"""Successive halving: which trials go on at a rung, and why.

Only values of one rung are ever compared: the value at that epoch, or the best value up to it
where restore-best is on. Each decision says which. Ties go to the lower trial id, so the same
values give the same decisions in whatever order they arrive.

Sources: Jamieson & Talwalkar 2016 (successive halving), Li et al. 2020 (ASHA), Deb et al. 2002
(non-dominated rank and crowding, for several objectives).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from service.search.objectives import (
    Objective,
    costs_of,
    crowding_distances,
    non_dominated_ranks,
)
from trainers.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Whether one trial goes on past a rung."""

    trial_id: int
    promote: bool
    place: int
    """1 for the best of all that were compared; diverged trials share the last place."""
    reason: str


def rungs(first_epoch: int, eta: int, horizon_epochs: int) -> tuple[int, ...]:
    """Return the epochs at which trials are compared: first, first·eta, ... below the horizon.

    Raises:
        ConfigError: if `first_epoch` < 1 or `eta` < 2.

    """
    _check_eta(eta)
    if first_epoch < 1:
        raise ConfigError(f"`halving.first_epoch` must be >= 1, but got {first_epoch}; try 1")
    epochs = []
    epoch = first_epoch
    while epoch < horizon_epochs:
        epochs.append(epoch)
        epoch *= eta
    return tuple(epochs)


def num_promoted(num_compared: int, eta: int) -> int:
    """Return how many of `num_compared` go on: one in eta, rounded down, but at least one."""
    return max(1, num_compared // eta) if num_compared else 0


def decide(
    values: Mapping[int, Sequence[float]],
    objectives: Sequence[Objective],
    *,
    eta: int,
    epoch: int,
    pool: Mapping[int, Sequence[float]] | None = None,
    best_so_far: bool = False,
) -> list[Decision]:
    """Decide for every trial of a complete rung, in order of trial id.

    Args:
        values: trial id -> its objectives' values at this rung, in the order of `objectives`.
            A trial with NaN or inf has diverged: it never goes on and is not counted.
        objectives: the first is primary; with several, the non-dominated rank decides and
            within the front that does not fit whole, the lonelier point (crowding) goes on.
        eta: one trial in eta goes on.
        epoch: the rung, for the reason.
        pool: values of other trials that passed the same rung earlier (other batches). They
            set the bar but are not decided again.
        best_so_far: the values are the best up to this epoch (restore-best), not those of it.

    Raises:
        ConfigError: if `eta` < 2.

    """
    _check_eta(eta)
    compared = {**(pool or {}), **values}
    ranking = _rank(compared, objectives)
    keep = num_promoted(len(ranking.order), eta)
    places = {trial_id: place for place, trial_id in enumerate(ranking.order, start=1)}
    last = len(ranking.order) + 1
    decisions = []
    for trial_id in sorted(values):
        place = places.get(trial_id, last)
        promote = place <= keep
        told = _describe(values[trial_id], objectives, epoch, best_so_far)
        if place == last:
            reason = f"{told}: diverged, cannot go on"
        else:
            front = f" (front {ranking.front[trial_id]})" if len(objectives) > 1 else ""
            verdict = "goes on" if promote else "stops"
            reason = f"{told}: place {place} of {last - 1}{front}, the best {keep} go on; {verdict}"
        decisions.append(Decision(trial_id=trial_id, promote=promote, place=place, reason=reason))
    return decisions


@dataclass(frozen=True)
class _Ranking:
    order: list[int]
    """Ids of trials with finite values, best first."""
    front: dict[int, int]
    """Non-dominated rank of each, from 0."""


def _rank(values: Mapping[int, Sequence[float]], objectives: Sequence[Objective]) -> _Ranking:
    """Order trials by front, then loneliness within the front, then id."""
    costs = {
        trial_id: costs_of(row, objectives)
        for trial_id, row in sorted(values.items())
        if all(math.isfinite(value) for value in row)
    }
    ids = list(costs)
    front = dict(zip(ids, non_dominated_ranks([costs[i] for i in ids]), strict=True))
    lonely = dict.fromkeys(ids, 0.0)
    if len(objectives) > 1:
        members: dict[int, list[int]] = {}
        for trial_id in ids:
            members.setdefault(front[trial_id], []).append(trial_id)
        for front_ids in members.values():
            distances = crowding_distances([costs[i] for i in front_ids])
            lonely.update(zip(front_ids, distances, strict=True))
    order = sorted(ids, key=lambda i: (front[i], -lonely[i], i))
    return _Ranking(order=order, front=front)


def _describe(
    row: Sequence[float], objectives: Sequence[Objective], epoch: int, best_so_far: bool
) -> str:
    numbers = ", ".join(f"{o.metric} {v:.4g}" for o, v in zip(objectives, row, strict=True))
    return f"best {numbers} up to epoch {epoch}" if best_so_far else f"{numbers} at epoch {epoch}"


def _check_eta(eta: int) -> None:
    if eta < 2:
        raise ConfigError(f"`halving.eta` must be >= 2 (one trial in eta goes on), but got {eta}")
