"""Steps 4, 5 and 7: what a round brought, and whether another one is worth its cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from service.recipe.record import Verdict, short, verdict_of
from service.search.objectives import t_interval


@dataclass(frozen=True, kw_only=True)
class RoundFacts:
    """What one round did, at its own fidelity."""

    round: int
    epochs: int
    metric: str
    direction: Literal["minimize", "maximize"] = "minimize"
    counts: Mapping[str, int]
    """Trials by state: complete, pruned, diverged, failed, infeasible."""
    best_value: float | None
    best_params: Mapping[str, Any] = field(default_factory=dict)
    best_trial: int | None = None
    previous_best: float | None = None
    """The best value of the rounds before, at whatever length they trained."""
    previous_epochs: int | None = None
    guess_value: float | None = None
    """The metric of knowing nothing, e.g. the error of always naming the commonest class."""


def coarse_round(facts: RoundFacts) -> Verdict:
    """Sum up step 4: a coarse round passes when some trial learnt something."""
    return _summary(4, facts, "the best fifth of its trials shapes the next, narrower space")


def refined_round(facts: RoundFacts) -> Verdict:
    """Sum up step 5: a refined round passes when it beats the rounds before it."""
    return _summary(5, facts, "its curves are diagnosed next")


def _summary(step: int, facts: RoundFacts, consequence: str) -> Verdict:
    total = sum(facts.counts.values())
    states = ", ".join(f"{count} {state}" for state, count in facts.counts.items() if count)
    data = {
        "round": facts.round,
        "epochs": facts.epochs,
        "counts": dict(facts.counts),
        "best_value": facts.best_value,
        "best_params": dict(facts.best_params),
        "best_trial": facts.best_trial,
        "previous_best": facts.previous_best,
    }

    def judged(passed: bool, word: str, reason: str, follows: str = consequence) -> Verdict:
        return verdict_of(
            step, passed=passed, verdict=word, reason=reason, consequence=follows, data=data
        )

    if facts.best_value is None:
        diverged = facts.counts.get("diverged", 0)
        return judged(
            False,
            "empty",
            f"none of {total} trials finished ({states or 'none started'})",
            "Lower the upper end of `optimizer.lr`"
            if diverged * 2 >= max(1, total)
            else "Look at the first failed trial with `isoflop show`",
        )
    noun = "trial" if total == 1 else "trials"
    found = (
        f"{total} {noun} of {facts.epochs} epochs ({states}), best {facts.metric} "
        f"{short(facts.best_value)} in trial {facts.best_trial}"
    )
    guess = facts.guess_value
    if guess is not None and _gain(guess, facts.best_value, facts.direction) <= 0:
        return judged(
            False,
            "guessing",
            f"{found}, no better than guessing ({short(guess)})",
            "Train longer, or widen the space: nothing in it has learnt anything yet",
        )
    if facts.previous_best is None:
        return judged(True, "good", found)
    gain = _gain(facts.previous_best, facts.best_value, facts.direction)
    before = f"{short(facts.previous_best)} before"
    if facts.previous_epochs is not None and facts.previous_epochs != facts.epochs:
        before += f", there with {facts.previous_epochs} epochs"
    return judged(gain > 0, "improved" if gain > 0 else "flat", f"{found} ({before})")


def keep_going(
    gains: Sequence[float],
    *,
    threshold: float,
    metric: str,
    no_more: str = "",
    confidence: float = 0.9,
) -> Verdict:
    """Decide step 7: another round, or stop.

    Stops when the gain's whole interval over seeds lies under the threshold, or when its mean
    does and the interval holds 0 (such a gain may be luck), or when there can be no other round.
    One seed gives no interval; then the gain itself is compared, and the reason says so.

    Args:
        gains: improvement of the round's best configuration over the best before it, one per
            seed, positive where better.
        threshold: smallest gain worth another round, in the metric's own units.
        metric: the metric's name, for the reason.
        no_more: why there can be no other round at all (the budget has ended), or empty.
        confidence: of the two-sided t-interval over seeds.

    """
    if not gains:
        return verdict_of(
            7,
            passed=None,
            verdict="stop" if no_more else "continue",
            reason="there is no gain to judge yet" + (f"; {no_more}" if no_more else ""),
            consequence="the finalists are trained next" if no_more else "another round",
        )
    gain = t_interval(gains, confidence)
    has_ends = math.isfinite(gain.low) and math.isfinite(gain.high)
    spread = f" ± {gain.half_width:.2g}" if has_ends else ""
    seeds = f"{len(gains)} seeds" if len(gains) > 1 else "one seed, so without an interval"
    found = (
        f"{metric} improved by {gain.mean:.2g}{spread} over {seeds}; threshold {short(threshold)}"
    )
    if has_ends:
        enough = not (gain.high < threshold or (gain.mean < threshold and gain.low <= 0))
    else:
        enough = gain.mean >= threshold
    go_on = enough and not no_more
    if enough and no_more:
        found += f"; {no_more}"
    return verdict_of(
        7,
        passed=None,
        verdict="continue" if go_on else "stop",
        reason=found,
        consequence="back to step 5: another refined round"
        if go_on
        else "the finalists are trained next",
        data={
            "gains": list(gains),
            "mean": gain.mean,
            "low": gain.low,
            "high": gain.high,
            "threshold": threshold,
            "no_more": no_more,
        },
    )


def _gain(before: float, after: float, direction: str) -> float:
    return before - after if direction == "minimize" else after - before
