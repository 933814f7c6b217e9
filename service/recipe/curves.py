"""Step 6: what a pair of learning curves says, and what it asks of the next space.

The kinds are the lecture's (p. 62): training and validation both stay high (underfit), the
validation loss turns upwards or stays far above the training loss (overfit), the loss grows
(diverging), it still falls when training ends (not converged), or none of these (good).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from service.recipe.record import Verdict, short, verdict_of

CurveKind = Literal["good", "underfit", "overfit", "diverging", "not_converged"]
Direction = Literal["raise", "lower", "none"]

STILL_FALLING = 0.05
"""Relative fall over the last quarter of training that means: not converged."""
TURNED_UP = 0.10
"""Relative rise of the validation loss above its minimum that means: overfit."""
WIDE_GAP = 3.0
"""A converged validation loss this many times the training loss means: overfit."""
HIGH = 0.5
"""A converged training loss above this share of knowing nothing means: underfit."""

_REGULARISERS = (
    "regularisation.l2",
    "model.dropout",
    "optimizer.weight_decay",
    "regularisation.decoupled_decay",
    "regularisation.l1",
    "regularisation.label_smoothing",
)
_CAPACITY = ("model.width", "model.depth")


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Losses of one trial, one value per epoch, both lists of equal length."""

    trial_id: int
    train_losses: Sequence[float]
    val_losses: Sequence[float]
    diverged: bool = False


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """The kind of one trial's curves, with the numbers that decided it."""

    trial_id: int
    kind: CurveKind
    reason: str


@dataclass(frozen=True, kw_only=True)
class Consequence:
    """What the next space should change: an interval raised or lowered, or nothing."""

    path: str | None
    direction: Direction
    reason: str


def diagnose(curve: Curve, *, dummy_loss: float) -> Diagnosis:
    """Name what one trial's curves show.

    Args:
        curve: training and validation losses per epoch.
        dummy_loss: the loss of knowing nothing (ln C, or half the target variance).

    """
    kind, reason = _kind(curve, dummy_loss)
    return Diagnosis(trial_id=curve.trial_id, kind=kind, reason=reason)


def _kind(curve: Curve, dummy_loss: float) -> tuple[CurveKind, str]:
    train, val = list(curve.train_losses), list(curve.val_losses)
    if curve.diverged or not train or not all(map(math.isfinite, (*train, *val))):
        return "diverging", "a loss became infinite or no number"
    train_end, val_end = _end(train), _end(val)
    if train_end > 1.5 * min(train) and train_end > 0.1 * dummy_loss:
        return "diverging", (
            f"the training loss rose from {short(min(train))} to {short(train_end)}"
        )
    lowest = _smooth_minimum(val)
    if val_end > (1 + TURNED_UP) * lowest and train_end <= train[0]:
        return "overfit", (
            f"the validation loss rose from {short(lowest)} (epoch {_argmin(val) + 1}) to "
            f"{short(val_end)} while the training loss fell to {short(train_end)}"
        )
    fall = _fall_in_last_quarter(val)
    if fall > STILL_FALLING:
        return "not_converged", (
            f"the validation loss still fell by {fall:.0%} in the last quarter of "
            f"{len(val)} epochs, to {short(val_end)}"
        )
    if train_end > HIGH * dummy_loss:
        return "underfit", (
            f"the training loss stays at {short(train_end)}, {train_end / dummy_loss:.0%} of "
            f"knowing nothing, and the validation loss at {short(val_end)}"
        )
    # Under a hundredth of knowing nothing the ratio of two tiny losses says nothing.
    if val_end > WIDE_GAP * train_end and val_end - train_end > 0.01 * dummy_loss:
        return "overfit", (
            f"the validation loss ended at {short(val_end)}, "
            f"{val_end / max(train_end, 1e-12):.3g} times the training loss of {short(train_end)}"
        )
    return "good", (
        f"both losses have settled, training at {short(train_end)}, validation at {short(val_end)}"
    )


def diagnose_round(
    curves: Sequence[Curve],
    *,
    dummy_loss: float,
    searched: Collection[str],
    ranking: Sequence[int] = (),
) -> Verdict:
    """Diagnose the best trials' curves and say what follows for the next space.

    Args:
        curves: the round's curves, at one fidelity.
        dummy_loss: the loss of knowing nothing.
        searched: dotted paths of the space, to say which interval to move.
        ranking: trial ids from best to worst; the best fifth (at least 3) decides. Without it
            all curves count alike.

    """
    if not curves:
        return verdict_of(
            6,
            passed=None,
            verdict="none",
            reason="no trial of this round has a curve",
            consequence="the next space stays as refined",
        )
    diagnoses = {curve.trial_id: diagnose(curve, dummy_loss=dummy_loss) for curve in curves}
    counts = Counter(diagnosis.kind for diagnosis in diagnoses.values())
    best = [trial_id for trial_id in ranking if trial_id in diagnoses] or list(diagnoses)
    if ranking:
        best = best[: max(3, math.ceil(len(best) / 5))]
    votes = Counter(diagnoses[trial_id].kind for trial_id in best)
    top = max(votes.values())
    # A tie goes to the kind of the better trial.
    decided = next(
        diagnoses[trial_id] for trial_id in best if votes[diagnoses[trial_id].kind] == top
    )
    follows = consequence_of(decided.kind, searched)
    return verdict_of(
        6,
        # A short round is not meant to converge: no failure, but a reason to train longer.
        passed=None if decided.kind == "not_converged" else decided.kind == "good",
        verdict=decided.kind,
        reason=f"{_share(votes[decided.kind], len(best))} {_words(decided.kind)}; "
        f"trial {decided.trial_id}: {decided.reason}",
        consequence=follows.reason,
        data={
            "counts": dict(counts),
            "best": {str(trial_id): diagnoses[trial_id].kind for trial_id in best},
            "path": follows.path,
            "direction": follows.direction,
        },
    )


def consequence_of(kind: CurveKind, searched: Collection[str]) -> Consequence:
    """Say which interval of the next space to move, and why.

    The first searched path that fits is moved; where none is searched the advice names the path
    to add, and `direction` is "none".
    """
    if kind == "overfit":
        return _move(_REGULARISERS, "raise", searched, "curves overfit: regularise more")
    if kind == "underfit":
        wider = _move(_CAPACITY, "raise", searched, "curves underfit: more capacity")
        weaker = _move(_REGULARISERS, "lower", searched, "curves underfit: regularise less")
        return weaker if wider.direction == "none" and weaker.direction != "none" else wider
    if kind == "diverging":
        return _move(("optimizer.lr",), "lower", searched, "curves diverge: smaller steps")
    if kind == "not_converged":
        return Consequence(
            path="train.epochs",
            direction="raise",
            reason="curves still fall when training ends: the next round trains longer",
        )
    return Consequence(path=None, direction="none", reason="the next space stays as refined")


def _move(
    paths: Sequence[str], direction: Direction, searched: Collection[str], why: str
) -> Consequence:
    for path in paths:
        if path in searched:
            return Consequence(
                path=path, direction=direction, reason=f"{why}; {direction} `{path}`"
            )
    return Consequence(
        path=paths[0],
        direction="none",
        reason=f"{why}; nothing of the kind is searched: add `{paths[0]}` to the space",
    )


def _share(count: int, total: int) -> str:
    return "the only finished trial is" if total == 1 else f"{count} of the best {total} trials are"


def _words(kind: CurveKind) -> str:
    return kind.replace("_", " ")


def _window(values: Sequence[float]) -> int:
    return max(1, len(values) // 8)


def _end(values: Sequence[float]) -> float:
    """Return the median of the last eighth: single epochs are noisy."""
    return median(values[-_window(values) :])


def _smooth_minimum(values: Sequence[float]) -> float:
    """Return the lowest running median, so that one lucky epoch is no minimum."""
    window = _window(values)
    return min(median(values[i : i + window]) for i in range(len(values) - window + 1))


def _argmin(values: Sequence[float]) -> int:
    return min(range(len(values)), key=values.__getitem__)


def _fall_in_last_quarter(values: Sequence[float]) -> float:
    """Relative fall from before the last quarter of training to its end; 0 for one epoch."""
    if len(values) < 2:
        return 0.0
    quarter = max(1, len(values) // 4)
    before = _end(values[:-quarter])
    return (before - _end(values)) / max(abs(before), 1e-12)
