"""Stopping single trials of a running search; the others go on."""

from __future__ import annotations

from collections.abc import Collection

from service.search.context import SearchContext
from service.search.measure import metrics_at


class TrialStops:
    """Requests to stop single trials, and what has come of them."""

    def __init__(self, context: SearchContext) -> None:
        self._context = context
        self._settled: set[int] = set()

    def mark(self, in_training: Collection[int]) -> bool:
        """Give every requested trial that is not being trained its last state.

        Args:
            in_training: trials of segments that run now.

        Returns:
            Whether there are others, which must be taken out of their segments first.

        """
        context = self._context
        asked = {
            stop.trial_id: stop
            for stop in context.ledger.trial_stops(context.search_id)
            if stop.trial_id not in self._settled
        }
        if not asked:
            return False
        live = context.ledger.trials(
            context.search_id, trial_ids=asked, states=["waiting", "running"]
        )
        idle = [trial for trial in live if trial.trial_id not in in_training]
        metrics = metrics_at(context, idle)
        context.ledger.update_trials(
            context.search_id,
            [
                (
                    trial.trial_id,
                    {
                        "state": "stopped",
                        "reason": f"stopped by {asked[trial.trial_id].requested_by} "
                        f"after epoch {trial.epochs_done}",
                        "metrics": metrics.get(trial.trial_id, {}),
                    },
                )
                for trial in idle
            ],
        )
        self._settled |= set(asked) - {trial.trial_id for trial in live if trial not in idle}
        return len(idle) < len(live)
