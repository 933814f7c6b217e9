"""What earlier batches of a round reached at each rung: the bar that a later batch has to pass."""

from __future__ import annotations

import math
from collections.abc import Sequence

from service.ledger.records import TrialRecord
from service.search.conductor import TERMINAL
from service.search.context import SearchContext
from service.search.measure import mean_values, metrics_at, values_of

Values = dict[int, tuple[float, ...]]
"""Lowest trial id of a configuration -> the objectives' values, meaned over its seeds."""


class Bar:
    """The values at each rung of a round's other batches; those of ended batches are kept."""

    def __init__(self, context: SearchContext, round_: int) -> None:
        self._context = context
        self._round = round_
        self._kept: dict[tuple[int, int], Values] = {}

    def values(self, batch: int, epoch: int) -> Values:
        """Return what a batch is compared with at `epoch`, itself left out.

        A batch is opened when the one two before it has ended, so in the deterministic mode only
        those are looked at: whatever the timing they have passed the rung, and the bar does not
        depend on who was faster. The asynchronous mode takes all that have reached the rung.
        """
        context = self._context
        last = batch - context.batches_open if context.deterministic else None
        found: Values = {}
        number = 0
        while last is None or number <= last:
            if number != batch:
                values = self._values_of(number, epoch)
                if values is None:
                    break
                found |= values
            number += 1
        return found

    def _values_of(self, batch: int, epoch: int) -> Values | None:
        """Return one batch's values; None if there is no such batch yet."""
        if (batch, epoch) not in self._kept:
            trials = self._context.ledger.trials(
                self._context.search_id, round=self._round, batch=batch
            )
            if not trials:
                return None
            reached = [trial for trial in trials if trial.epochs_done >= epoch]
            values = group_values(self._context, reached, epoch)
            if any(trial.state not in TERMINAL for trial in trials):
                return values
            self._kept[batch, epoch] = values
        return self._kept[batch, epoch]


def leaders(trials: Sequence[TrialRecord]) -> dict[int, int]:
    """Map each trial to the lowest trial id of its configuration."""
    first: dict[str, int] = {}
    return {trial.trial_id: first.setdefault(trial.config_id, trial.trial_id) for trial in trials}


def group_values(context: SearchContext, trials: Sequence[TrialRecord], epoch: int) -> Values:
    """Return the objectives' values at `epoch` per configuration, under its leader's id.

    A configuration of which a seed diverged or failed counts as diverged: all NaN.
    """
    reached = [trial for trial in trials if trial.state != "infeasible"]
    metrics = metrics_at(context, reached, epoch)
    leader_of = leaders(reached)
    objectives = context.spec.objective_list
    rows: dict[int, list[tuple[float, ...]]] = {}
    for trial in reached:
        lost = trial.state in ("diverged", "failed") or trial.trial_id not in metrics
        values = (
            (math.nan,) * len(objectives)
            if lost
            else values_of(metrics[trial.trial_id], objectives)
        )
        rows.setdefault(leader_of[trial.trial_id], []).append(values)
    return {leader: mean_values(group) for leader, group in rows.items()}
