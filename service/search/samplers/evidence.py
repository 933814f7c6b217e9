"""Which rows a sampler may learn from, and how many."""

from __future__ import annotations

import math
from collections.abc import Sequence

from search_spaces import Space
from service.search.objectives import Objective
from service.search.samplers.told import Told

TOLD_LIMITS = {"tpe": 500, "gp": 200}
"""An ask at 1,000 told trials takes TPE 40-65 ms and GP 1.8 s: as long as training a small
trial. CMA-ES and NSGA-II need every row of their own round, and are quick."""

STARTUP_TRIALS = 10
"""TPE and GP learn from so many ended trials on; until then a Sobol sequence spreads them."""


def evidence(told: Sequence[Told], space: Space, horizon_epochs: int | None) -> list[Told]:
    """Select the rows a sampler may learn from, in order of trial id.

    They are of the round's own length, lie in the present space, and did not die of a worker.
    """
    return [
        row
        for row in sorted(told, key=lambda row: row.number)
        if row.state != "failed"
        and (horizon_epochs is None or row.horizon_epochs in (None, horizon_epochs))
        and space.contains(row.params)
    ]


def within_limit(rows: Sequence[Told], objectives: Sequence[Objective], limit: int) -> list[Told]:
    """Keep at most `limit` rows: all that run, a quarter the best, the rest the latest."""
    if len(rows) <= limit:
        return list(rows)
    running = [row for row in rows if row.state == "running"][-limit:]
    ended = [row for row in rows if row.state != "running"]
    room = limit - len(running)

    def primary_cost(row: Told) -> tuple[float, int]:
        known = row.state == "complete" and has_values(row)
        return objectives[0].cost(row.values[0]) if known and row.values else math.inf, row.number

    best = sorted(ended, key=primary_cost)[: room // 4]
    chosen = {row.number for row in best}
    latest = [row for row in reversed(ended) if row.number not in chosen][: room - len(best)]
    return sorted([*running, *best, *latest], key=lambda row: row.number)


def num_ended(rows: Sequence[Told]) -> int:
    """Count the rows that say something about their configuration."""
    return sum(row.state != "running" for row in rows)


def has_values(row: Told) -> bool:
    """Say whether every objective has a finite value."""
    return row.values is not None and all(math.isfinite(value) for value in row.values)
