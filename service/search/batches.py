"""One batch of trials through its rungs: train, compare, promote or prune, complete.

Seeds of one configuration stand or fall together: their mean is compared. A decision is written
to the ledger before it is acted on, so that a resumed search repeats it instead of deciding on
the survivors a second time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from service.ledger.records import TrialRecord
from service.search.bar import Bar, group_values, leaders
from service.search.conductor import TERMINAL, Advance, Flow
from service.search.context import SearchContext
from service.search.halving import decide, rungs
from service.search.measure import metrics_at
from service.search.objectives import is_feasible
from service.search.spec import HalvingSpec
from trainers.config import TrialConfig


@dataclass(frozen=True, kw_only=True)
class BatchPlan:
    """How the trials of a round are trained and compared."""

    round: int
    horizon_epochs: int
    halving: HalvingSpec | None = None
    bar: Bar | None = None
    """What other batches of the round reached; None where there is one batch alone."""

    @property
    def rung_epochs(self) -> tuple[int, ...]:
        """Epochs before the horizon at which trials are compared."""
        if self.halving is None:
            return ()
        return rungs(self.halving.first_epoch, self.halving.eta, self.horizon_epochs)


def batch_flow(context: SearchContext, plan: BatchPlan, batch: int) -> Flow:
    """Train one batch to its end, pruning at every rung."""
    for rung, epoch in enumerate((*plan.rung_epochs, plan.horizon_epochs)):
        trials = context.ledger.trials(context.search_id, round=plan.round, batch=batch)
        alive = [trial for trial in trials if trial.state not in TERMINAL]
        if not alive:
            return
        yield Advance(
            round=plan.round,
            batch=batch,
            rung=rung,
            trial_ids=tuple(trial.trial_id for trial in alive),
            to_epoch=epoch,
        )
        trials = context.ledger.trials(context.search_id, round=plan.round, batch=batch)
        if epoch < plan.horizon_epochs:
            _prune(context, plan, batch, rung, epoch, trials)
    complete(context, trials)


def _prune(
    context: SearchContext,
    plan: BatchPlan,
    batch: int,
    rung: int,
    epoch: int,
    trials: Sequence[TrialRecord],
) -> None:
    """Decide who goes on past a rung, once, and stop the others."""
    decision = context.rung_decision(plan.round, batch, rung)
    if decision is None:
        decided = _decide(context, plan, batch, epoch, trials)
        decision = {
            "round": plan.round,
            "batch": batch,
            "rung": rung,
            "epoch": epoch,
            "best_so_far": _restores_best(context, trials),
            **decided,
        }
        context.record_rung(decision)
    pruned: Mapping[str, str] = decision["pruned"]
    stopped = [trial for trial in trials if str(trial.trial_id) in pruned]
    metrics = metrics_at(context, stopped, epoch)
    context.ledger.update_trials(
        context.search_id,
        [
            (
                trial.trial_id,
                {
                    "state": "pruned",
                    "reason": pruned[str(trial.trial_id)],
                    "metrics": metrics.get(trial.trial_id, {}),
                },
            )
            for trial in stopped
            if trial.state not in TERMINAL
        ],
    )


def _decide(
    context: SearchContext,
    plan: BatchPlan,
    batch: int,
    epoch: int,
    trials: Sequence[TrialRecord],
) -> dict[str, dict[str, str]]:
    """Return {"pruned": trial id -> reason, "promoted": trial id -> reason}."""
    assert plan.halving is not None
    # Trials that were stopped at an earlier rung never reached this one: their values are of
    # another length, and counting them would let everybody who is left go on. So with those that
    # a user stopped.
    standing = [trial for trial in trials if trial.state not in ("pruned", "stopped")]
    values = group_values(context, standing, epoch)
    decisions = decide(
        values,
        context.spec.objective_list,
        eta=plan.halving.eta,
        epoch=epoch,
        pool=plan.bar.values(batch, epoch) if plan.bar else None,
        best_so_far=_restores_best(context, trials),
    )
    leader_of = leaders(standing)
    by_leader = {decision.trial_id: decision for decision in decisions}
    result: dict[str, dict[str, str]] = {"pruned": {}, "promoted": {}}
    for trial in trials:
        decision = by_leader.get(leader_of.get(trial.trial_id, -1))
        if decision is None or trial.state in TERMINAL:
            continue
        stops = not decision.promote and not trial.stopped_early
        result["pruned" if stops else "promoted"][str(trial.trial_id)] = decision.reason
    return result


def _restores_best(context: SearchContext, trials: Sequence[TrialRecord]) -> bool:
    """Say whether the value compared is the best so far, not that of the rung's epoch."""
    return any(context.restores_best(trial) for trial in trials)


def settle(context: SearchContext, reason: str) -> None:
    """Give every trial of a search that ends early its last state.

    Those that had reached their horizon are complete, though their batch had not ended; the
    others are stopped, with the reason that ended the search.
    """
    open_trials = context.ledger.trials(context.search_id, states=["waiting", "running"])
    complete(context, open_trials)
    left = context.ledger.trials(context.search_id, states=["waiting", "running"])
    context.ledger.update_trials(
        context.search_id,
        [(trial.trial_id, {"state": "stopped", "reason": reason}) for trial in left],
    )


def complete(context: SearchContext, trials: Sequence[TrialRecord]) -> None:
    """Mark what reached its horizon, stopped by its own rule, or broke a constraint."""
    ended = [
        trial
        for trial in trials
        if trial.state not in TERMINAL
        and (trial.stopped_early or trial.epochs_done >= trial.horizon_epochs)
    ]
    diverged = [trial for trial in trials if trial.state == "diverged" and not trial.metrics]
    metrics = metrics_at(context, [*ended, *diverged])
    updates: list[tuple[int, dict[str, object]]] = [
        (trial.trial_id, {"metrics": metrics.get(trial.trial_id, {})}) for trial in diverged
    ]
    for trial in ended:
        found = metrics.get(trial.trial_id, {})
        feasible = is_feasible(found, context.spec.constraint_list)
        state = "complete" if feasible else "infeasible"
        reason = _why_early(trial) if trial.stopped_early else ""
        if not feasible:
            broken = [str(c) for c in context.spec.constraint_list if not is_feasible(found, [c])]
            reason = f"breaks the constraint {', '.join(broken)}"
        else:
            context.note_best(
                found.get(context.spec.objective_list[0].metric, math.nan), trial.trial_id
            )
        updates.append((trial.trial_id, {"state": state, "reason": reason, "metrics": found}))
    context.ledger.update_trials(context.search_id, updates)


def _why_early(trial: TrialRecord) -> str:
    """Say which of a trial's own rules may have stopped it, and when."""
    config = TrialConfig.model_validate(dict(trial.config))
    rules = []
    if config.regularisation.early_stopping.patience_epochs:
        rules.append("its validation loss no longer fell")
    if config.train.convergence_change is not None:
        change = config.train.convergence_change
        rules.append(f"it converged: its training loss changed by less than {change:g}")
    return f"stopped early after epoch {trial.epochs_done}: {' or '.join(rules)}"
