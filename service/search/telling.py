"""What a search tells its samplers: one row per configuration, as the ledger has it.

Rows of trials that have ended do not change, so each is read once. What a batch costs is then
the same for the ten-thousandth trial as for the first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from service.ledger.records import TrialRecord
from service.search.context import SearchContext
from service.search.measure import mean_values, values_of
from service.search.objectives import excess
from service.search.proposals import seeds_of
from service.search.samplers import Told

OPEN = {"waiting", "running"}


class Teller:
    """Reads the search's own trials; what has ended is kept."""

    def __init__(self, context: SearchContext) -> None:
        self._context = context
        self._settled: list[Told] = []
        self._from_id = 0
        """Every trial with a lower id has ended, and is among the settled ones."""

    def told(self) -> list[Told]:
        """Return all that is known: evidence from elsewhere, and this search's trials by id."""
        trials = self._context.ledger.trials(
            self._context.search_id, role="search", from_id=self._from_id
        )
        groups = list(seeds_of([trial for trial in trials if trial.params]).values())
        num_ended = 0
        while num_ended < len(groups) and not _is_open(groups[num_ended]):
            num_ended += 1
        self._settled += [self._row(group) for group in groups[:num_ended]]
        if num_ended:
            self._from_id = max(trial.trial_id for trial in groups[num_ended - 1]) + 1
        still_open = [self._row(group) for group in groups[num_ended:]]
        return [*self._context.evidence, *self._settled, *still_open]

    def _row(self, group: Sequence[TrialRecord]) -> Told:
        """Join the seeds of one configuration into what a sampler is told of it."""
        first = group[0]
        told = Told(
            number=first.trial_id,
            params=dict(first.params),
            state="running",
            attrs=dict(first.sampler_attrs),
            horizon_epochs=first.horizon_epochs,
            round=first.round,
            batch=first.batch,
        )
        if _is_open(group):
            return told
        states = {trial.state for trial in group}
        if states & {"failed", "stopped"}:
            return replace(told, state="failed")
        spec = self._context.spec
        values = mean_values([values_of(trial.metrics, spec.objective_list) for trial in group])
        if "diverged" in states or not all(math.isfinite(value) for value in values):
            return replace(told, state="diverged")
        if "pruned" in states:
            return replace(told, state="pruned", intermediate={first.epochs_done: values[0]})
        bounds = excess(first.metrics, spec.constraint_list)
        if "infeasible" in states:
            return replace(told, state="infeasible", values=values, constraints=bounds)
        return replace(told, state="complete", values=values, constraints=bounds)


def _is_open(group: Sequence[TrialRecord]) -> bool:
    return any(trial.state in OPEN for trial in group)
