"""The coarse-to-fine plan of a spec that lists no rounds."""

from __future__ import annotations

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
        return _filled(spec)
    epochs = spec.base.train.epochs
    if not spec.space:
        return [_round(sampler="grid", trials=1, epochs=epochs, reason="no space: one trial")]
    total = spec.budget.trials or DEFAULT_TRIALS
    said = f"{total} trials" + ("" if spec.budget.trials else " (by default)")
    size = spec.space.size
    if size is not None and size <= total and spec.sampler in ("auto", "grid"):
        reason = f"the space has {size} points, so all of {said} fit: each is tried once"
        return [_round(sampler="grid", trials=size, epochs=epochs, reason=reason)]
    if total < MIN_TRIALS_TO_REFINE or epochs == 1 or spec.sampler == "grid":
        reason = f"{said} of {epochs} epochs are too few to explore first and refine then"
        if spec.sampler == "grid":
            reason = "`sampler: grid` asks for the exact product, in one round"
        trials = None if spec.sampler == "grid" else total
        return [_round(sampler=spec.sampler, trials=trials, epochs=epochs, reason=reason)]
    return _coarse_to_fine(spec, total, said, epochs)


def _coarse_to_fine(spec: SearchSpec, total: int, said: str, epochs: int) -> list[RoundSpec]:
    """Half of the trials short and wide, the rest long and refined, with halving."""
    coarse_epochs = min(max(1, epochs // 5), 5)
    coarse = total // 2
    parts = [total - coarse]
    if total >= MIN_TRIALS_FOR_TWO_REFINEMENTS:
        parts = [parts[0] - parts[0] // 3, parts[0] // 3]
    first_epoch = max(1, epochs // ETA**2)
    halving = HalvingSpec(eta=ETA, first_epoch=first_epoch) if first_epoch < epochs else None
    rounds = [
        _round(
            sampler=spec.sampler if spec.sampler != "auto" else "sobol",
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


def _filled(spec: SearchSpec) -> list[RoundSpec]:
    """Fill in trials and epochs that the listed rounds left open."""
    open_rounds = [r for r in spec.rounds if r.trials is None and r.sampler != "grid"]
    given = sum(r.trials or 0 for r in spec.rounds)
    left = (spec.budget.trials or DEFAULT_TRIALS * len(spec.rounds)) - given
    share = max(1, left // max(1, len(open_rounds)))
    return [
        r.model_copy(
            update={
                "trials": r.trials if r.trials or r.sampler == "grid" else share,
                "epochs": r.epochs or spec.base.train.epochs,
                "sampler": spec.sampler if r.sampler == "auto" else r.sampler,
                "reason": r.reason or "listed in the spec",
            }
        )
        for r in spec.rounds
    ]


def _round(**values: object) -> RoundSpec:
    return RoundSpec.model_validate(values)
