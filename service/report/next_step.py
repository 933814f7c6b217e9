"""The next command, with what it is expected to gain and to cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from service.report.cost import Cost
from service.report.facts import Facts
from service.report.numbers import duration, energy, short
from service.report.verdict import Answer
from service.search.objectives import Objective

MIN_TRIALS = 4
"""Fewer finished trials say nothing about what more of them would bring."""


@dataclass(frozen=True, kw_only=True)
class NextStep:
    """A command and the reasons to run it, or not."""

    command: str
    why: str
    expected_gain: str
    expected_cost: str


def next_step(facts: Facts, found: Answer | None, cost: Cost | None) -> NextStep:
    """Choose the command that follows from how the search ended."""
    search_id = facts.search.search_id
    if facts.search.state in ("interrupted", "stopped", "running"):
        return NextStep(
            command=f"isoflop resume {search_id}",
            why="the search has not come to its end",
            expected_gain="what the remaining trials bring",
            expected_cost="what is left of the budget",
        )
    if found is None or facts.search.state == "recipe_stopped":
        return NextStep(
            command=f"isoflop show {search_id}",
            why="no trial has finished, so look at why first",
            expected_gain="none yet",
            expected_cost="none",
        )
    curves = facts.recipe.of_step(6)
    if curves and curves[-1].verdict == "not_converged" and facts.longest_epochs:
        epochs = 2 * facts.longest_epochs
        return NextStep(
            command=f"isoflop extend {search_id} --epochs {epochs}",
            why="the best curves still fell when training ended",
            expected_gain=_gain_of_longer(facts, found),
            expected_cost=_cost_text(facts, cost, found, factor=2.0),
        )
    count = _last_round_size(facts)
    return NextStep(
        command=f"isoflop extend {search_id} --trials {max(count, 8)}",
        why="one more round on the evidence so far",
        expected_gain=_gain_of_more(facts),
        expected_cost=_cost_text(facts, cost, None, factor=1.0),
    )


def gain_of_last_doubling(values: Sequence[float], objective: Objective) -> float:
    """Return by how much the best of all n values beats the best of n // 2 of them, on average.

    The mean over all orders, in closed form: the k-th best of n is the best of m drawn without
    replacement with probability C(n - k, m - 1) / C(n, m), which is m / n for k = 1 and
    shrinks by (n - k - m + 1) / (n - k) from one k to the next.
    """
    costs = sorted(objective.cost(value) for value in values)
    n, m = len(costs), len(costs) // 2
    if m < 1:
        return 0.0
    half, probability = 0.0, m / n
    for k, cost in enumerate(costs[: n - m + 1], start=1):
        half += cost * probability
        probability *= (n - k - m + 1) / max(n - k, 1)
    return half - costs[0]


def _gain_of_more(facts: Facts) -> str:
    values = _last_round_values(facts)
    if len(values) < MIN_TRIALS:
        return "unknown: too few trials have finished"
    gain = gain_of_last_doubling(values, facts.objective)
    return (
        f"at most about {short(gain, 2)} in {facts.objective.metric}: what the last doubling "
        "of trials brought, before noise"
    )


def _gain_of_longer(facts: Facts, found: Answer) -> str:
    """Extrapolate the winner's curve: as much again as its last half brought, at most."""
    metric = facts.objective.metric
    if metric not in facts.curves:
        return "unknown: the metric has no curve"
    gains = []
    for trial in found.best.trials:
        curve = facts.curves.loc[facts.curves["trial_id"] == trial.trial_id, metric].tolist()
        if len(curve) >= 2:
            gains.append(
                facts.objective.cost(curve[len(curve) // 2 - 1]) - facts.objective.cost(curve[-1])
            )
    if not gains:
        return "unknown: the winner has no curve"
    gain = max(0.0, math.fsum(gains) / len(gains))
    return f"at most about {short(gain, 2)} in {metric}: what the last doubling of epochs brought"


def _cost_text(facts: Facts, cost: Cost | None, found: Answer | None, *, factor: float) -> str:
    """Price a repetition: of the last round, or of the winner alone."""
    if cost is None or facts.accounts is None or facts.accounts.trials_kwh <= 0:
        return "unknown: the search was not metered"
    if found is not None:
        trials = list(found.best.trials)
    else:
        last = facts.search_rounds[-1].round if facts.search_rounds else 0
        trials = [trial for trial in facts.candidates if trial.round == last]
    active = math.fsum(facts.trial_kwh.get(trial.trial_id, 0.0) for trial in trials)
    share = factor * active / facts.accounts.trials_kwh
    return f"about {energy(cost.own_kwh * share)} and {duration(cost.seconds * share)}"


def _last_round_size(facts: Facts) -> int:
    return facts.search_rounds[-1].planned_trials if facts.search_rounds else 0


def _last_round_values(facts: Facts) -> list[float]:
    epochs = facts.longest_epochs
    values = [
        facts.value(trial)
        for trial in facts.candidates
        if trial.state == "complete" and trial.horizon_epochs == epochs
    ]
    return [value for value in values if math.isfinite(value)]
