"""Reasons to end a search that lie in its results: a target reached, or too little for the energy.

A target is looked for batch by batch. Whether the next batch is opened depends only on batches
that have surely ended by then, so the same seed ends at the same trial whatever the timing.
"""

from __future__ import annotations

import math
from dataclasses import replace

from service.ledger.records import TrialRecord
from service.search.context import SearchContext, Stopped
from service.search.measure import mean_values, values_of
from service.search.proposals import seeds_of


def has_ended(context: SearchContext, round_: int, batch: int) -> bool:
    """Say whether no trial of a batch is waiting or running; true at once without a target."""
    if context.spec.budget.target is None:
        return True
    trials = context.ledger.trials(context.search_id, round=round_, batch=batch)
    return all(trial.state not in ("waiting", "running") for trial in trials)


def target_reached(context: SearchContext, round_: int, batch: int | None = None) -> str:
    """Return which configuration of a round, or of one batch, reached the target, or nothing."""
    target = context.spec.budget.target
    if target is None:
        return ""
    objective = context.spec.objective_list[0]
    trials = context.ledger.trials(
        context.search_id, round=round_, batch=batch, role="search", states=["complete"]
    )
    for group in seeds_of(trials).values():
        value = _value(context, group)
        if objective.cost(value) <= objective.cost(target):
            return (
                f"trial {group[0].trial_id} reached the target: {objective.metric} "
                f"{value:.4g}, target {target:.4g}"
            )
    return ""


def check_goals(context: SearchContext, round_: int) -> None:
    """End the search after a round that reached the target or gained too little per kWh.

    Raises:
        Stopped: with the numbers.

    """
    reached = target_reached(context, round_)
    if reached:
        raise Stopped("target", reached)
    least = context.spec.budget.min_gain_per_kwh
    if least is None:
        return
    rate = gain_per_kwh(context, round_)
    if rate is not None and rate < least:
        raise Stopped(
            "budget",
            f"round {round_} gained {rate:.3g} per kWh, less than `min_gain_per_kwh` {least:.3g}",
        )


def note_energy(context: SearchContext, round_: int) -> None:
    """Write down how much energy the search had caused when a round ended."""
    for record in context.ledger.rounds(context.search_id):
        if record.round == round_ and "own_kwh_at_end" not in record.outcome:
            context.energy.flush()
            outcome = {**record.outcome, "own_kwh_at_end": context.energy.own_kwh()}
            context.ledger.put_round(context.search_id, replace(record, outcome=outcome))


def gain_per_kwh(context: SearchContext, round_: int) -> float | None:
    """Return the round's gain in the first objective per kWh; None for the first round."""
    rounds = {
        record.round: record
        for record in context.ledger.rounds(context.search_id)
        if record.kind == "search" and record.round <= round_
    }
    earlier = [number for number in rounds if number < round_]
    if not earlier or "own_kwh_at_end" not in rounds[round_].outcome:
        return None
    before, after = _best(context, max(earlier)), _best(context, round_)
    spent = float(rounds[round_].outcome["own_kwh_at_end"]) - float(
        rounds[max(earlier)].outcome.get("own_kwh_at_end", 0.0)
    )
    if not math.isfinite(before) or spent <= 0:
        return None
    return (before - after) / spent


def _best(context: SearchContext, round_: int) -> float:
    """Return the lowest cost of a round's finished configurations."""
    objective = context.spec.objective_list[0]
    trials = context.ledger.trials(
        context.search_id, round=round_, role="search", states=["complete"]
    )
    costs = [objective.cost(_value(context, group)) for group in seeds_of(trials).values()]
    return min((cost for cost in costs if math.isfinite(cost)), default=math.inf)


def _value(context: SearchContext, group: list[TrialRecord]) -> float:
    objectives = [context.spec.objective_list[0]]
    return mean_values([values_of(trial.metrics, objectives) for trial in group])[0]
