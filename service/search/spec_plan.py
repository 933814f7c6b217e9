"""The rounds of a spec: those it lists, those derived from its budget, those step 7 adds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from service.search.spec_sections import HalvingSpec, RefineSpec, RoundSpec

if TYPE_CHECKING:
    from service.search.spec import SearchSpec

DEFAULT_TRIALS = 64
MIN_TRIALS_TO_REFINE = 24
"""Fewer trials cannot both explore and refine: the best fifth would be a handful."""
MIN_TRIALS_FOR_TWO_REFINEMENTS = 96
ETA = 3


def plan_rounds(spec: SearchSpec) -> list[RoundSpec]:
    """Return the spec's rounds with every number filled in, or derive them from the budget.

    Each round says why it is there. Trials of the rounds add up to `budget.trials`.
    """
    if spec.rounds:
        return _filled(spec)[: spec.max_rounds]
    epochs = spec.base.train.epochs
    if not spec.space:
        return [_round(sampler="grid", trials=1, epochs=epochs, reason="no space: one trial")]
    total = spec.budget.trials or DEFAULT_TRIALS
    said = f"{total} trials" + ("" if spec.budget.trials else " (by default)")
    size = spec.space.size
    if size is not None and size <= total and spec.sampler in ("auto", "grid"):
        reason = f"the space has {size} points, so all of {said} fit: each is tried once"
        return [_round(sampler="grid", trials=size, epochs=epochs, reason=reason)]
    if spec.sampler == "grid":
        points = len(spec.space.grid())
        reason = f"`sampler: grid` asks for the exact product of {points} points, in one round"
        return [_round(sampler="grid", trials=min(points, total), epochs=epochs, reason=reason)]
    if total < MIN_TRIALS_TO_REFINE or epochs == 1 or spec.max_rounds == 1:
        reason = f"{said} of {epochs} epochs are too few to explore first and refine then"
        if spec.max_rounds == 1:
            reason = f"`recipe.max_rounds: 1` asks for one round, which gets all of {said}"
        return [_round(sampler=spec.sampler, trials=total, epochs=epochs, reason=reason)]
    return _coarse_to_fine(spec, total, said, epochs)


def _coarse_to_fine(spec: SearchSpec, total: int, said: str, epochs: int) -> list[RoundSpec]:
    """Half of the trials short and wide, the rest long and refined, with halving."""
    coarse_epochs = min(max(1, epochs // 5), 5)
    coarse = total // 2
    parts = [total - coarse]
    if total >= MIN_TRIALS_FOR_TWO_REFINEMENTS and spec.max_rounds > 2:
        parts = [parts[0] - parts[0] // 3, parts[0] // 3]
    first_epoch = max(1, epochs // ETA**2)
    halving = HalvingSpec(eta=ETA, first_epoch=first_epoch) if first_epoch < epochs else None
    rounds = [
        _round(
            sampler=spec.sampler,
            trials=coarse,
            epochs=coarse_epochs,
            reason=f"coarse: half of {said}, {coarse_epochs} of {epochs} epochs each",
        )
    ]
    for number, trials in enumerate(parts, start=1):
        rounds.append(
            _round(
                sampler=spec.sampler,
                trials=trials,
                epochs=epochs,
                halving=halving,
                refine=RefineSpec(),
                reason=f"refinement {number}: {trials} trials of up to {epochs} epochs in the "
                "space that the round before leaves",
            )
        )
    return rounds


def further_round(spec: SearchSpec, done: Sequence[int]) -> tuple[RoundSpec | None, str]:
    """Return the refined round that step 7 may still add, and why there is one or none.

    It is like the last planned one, in the space that the round before it leaves.

    Args:
        spec: the search.
        done: number of trials that each round so far was planned with, the planned rounds first.

    """
    last = spec.plan()[-1]
    most = spec.max_rounds
    if not spec.recipe.checks or not spec.space:
        return None, "rounds are added by the recipe's step 7 alone"
    if len(done) == 1 and spec.recipe.max_rounds is None:
        return None, "the plan has one round, which step 7 has nothing to compare with"
    if len(done) >= most:
        return None, f"{most} rounds are the most that are allowed (`recipe.max_rounds`)"
    configs = last.trials or DEFAULT_TRIALS
    if spec.budget.trials is not None:
        configs = min(configs, (spec.budget.trials - sum(done)) // last.seeds)
    if configs < 1:
        return None, f"the budget of {spec.budget.trials} trials is used up"
    reason = f"added by step 7: the gain of round {len(done) - 1} is worth another round"
    return last.model_copy(
        update={
            "sampler": "auto" if last.sampler == "grid" else last.sampler,
            "trials": configs,
            "refine": last.refine or RefineSpec(),
            "space": None,
            "reason": reason,
        }
    ), reason


def _filled(spec: SearchSpec) -> list[RoundSpec]:
    """Fill in sampler, trials and epochs that the listed rounds left open."""
    named = [
        r.model_copy(update={"sampler": spec.sampler if r.sampler == "auto" else r.sampler})
        for r in spec.rounds
    ]
    num_open = sum(r.trials is None and r.sampler != "grid" for r in named)
    given = sum(r.trials or _grid_size(r, spec) or 0 for r in named)
    left = (spec.budget.trials or DEFAULT_TRIALS * len(named)) - given
    share = max(1, left // max(1, num_open))
    filled = [
        r.model_copy(
            update={
                "trials": r.trials or _grid_size(r, spec) or share,
                "epochs": r.epochs or spec.base.train.epochs,
                "reason": "listed in the spec",
            }
        )
        for r in named
    ]
    return _within(filled, spec.budget.trials)


def _within(rounds: list[RoundSpec], budget_trials: int | None) -> list[RoundSpec]:
    """Cut the listed rounds, the last ones first, to what `budget.trials` allows."""
    if budget_trials is None:
        return rounds
    left, kept = budget_trials, []
    for round_ in rounds:
        configs = min(round_.trials or left, left // round_.seeds)
        if configs == 0:
            break
        if configs < (round_.trials or configs):
            reason = f"{round_.reason}, cut to what `budget.trials: {budget_trials}` leaves"
            round_ = round_.model_copy(update={"trials": configs, "reason": reason})
        kept.append(round_)
        left -= configs * round_.seeds
    return kept


def _grid_size(round_: RoundSpec, spec: SearchSpec) -> int | None:
    """Count the points of a grid round's space, as written in the spec."""
    if round_.sampler != "grid":
        return None
    return len((spec.space if round_.space is None else round_.space).grid())


def _round(**values: object) -> RoundSpec:
    return RoundSpec.model_validate(values)
