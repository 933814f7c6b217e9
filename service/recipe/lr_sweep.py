"""Step 3: the range of learning rates in which the loss falls, found with all of them at once.

On a quadratic of curvature h, gradient descent falls exactly for rates under 2/h; on a net the
upper end of the range is the same bound for its steepest direction (lecture, p. 62).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from service.recipe.overfit import PLAIN_TRAINING, LossCurve, Plan, changes
from service.recipe.record import Verdict, short, verdict_of
from trainers.config import TrialConfig

NUM_RATES = 24
WIDEST = (1e-6, 10.0)
NUM_UPDATES = 100
"""A rate that is any good moves the loss within about so many updates."""
BATCHES_PER_EPOCH = 25
FALLS = 0.1
"""Below the best rate, one counts when it brings this share of the largest fall any brought:
it is only slow, and longer training mends that."""
STEADY = 0.5
"""Above the best rate, one counts only with this share: it is unstable, which training longer
does not mend."""
NOISE = 0.01
"""A largest fall under this share of the initial loss is no fall at all."""

Kind = Literal["falls", "flat", "unstable", "diverges"]


def plan_lr_sweep(
    base: TrialConfig,
    num_train_rows: int,
    *,
    limits: tuple[float, float] = WIDEST,
    num_rates: int = NUM_RATES,
) -> Plan:
    """Plan step 3: log-spaced rates, all else equal, as trials of one pack.

    Args:
        base: the configuration whose learning rate is swept.
        num_train_rows: rows of the training split.
        limits: the space's own limits; rates never leave them.
        num_rates: how many rates, at least 2.

    Raises:
        ValueError: if the limits leave no interval of positive rates.

    """
    lo, hi = max(limits[0], WIDEST[0]), min(limits[1], WIDEST[1])
    if lo >= hi:  # the space lies wholly outside the usual range: take its word
        lo, hi = limits
    if not 0 < lo < hi or num_rates < 2:
        raise ValueError(
            "a learning-rate sweep needs an interval of positive rates and at least 2 of them, "
            f"but got limits {limits} and {num_rates} rates; try limits (1e-6, 10)"
        )
    batch_size = min(base.train.batch_size, num_train_rows)
    rows = min(num_train_rows, BATCHES_PER_EPOCH * batch_size)
    epochs = min(20, max(4, math.ceil(NUM_UPDATES * batch_size / rows)))
    values = {**PLAIN_TRAINING, "train.epochs": epochs, "train.batch_size": batch_size}
    if rows < num_train_rows:
        values["data.num_train"] = rows
    config = base.with_values(changes(base, values))
    lrs = log_spaced(lo, hi, num_rates)
    return Plan(
        configs=tuple(config.with_values({"optimizer.lr": lr}) for lr in lrs),
        reason=f"{num_rates} rates from {short(lo)} to {short(hi)}, {epochs} epochs on "
        f"{rows} rows each, at a constant rate",
    )


def judge_lr_sweep(
    curves: Sequence[LossCurve],
    *,
    start_loss: float,
    dummy_loss: float = math.inf,
    fixed_lr: float | None = None,
) -> Verdict:
    """Find the range of rates in which the loss falls.

    The range runs from the best rate downwards over neighbours that fall by at least a tenth of
    the largest fall, and upwards over those that fall by half of it; it never passes a rate that
    diverges. A large random start may fall to the loss of knowing nothing without learning
    anything, so falls are counted from the lower of the two. With `fixed_lr` (the learning rate
    is not searched) the step passes only if that rate lies in the range.

    Args:
        curves: training losses per rate, in any order.
        start_loss: the loss before training (step 1).
        dummy_loss: the loss of knowing nothing (ln C, or half the target variance).
        fixed_lr: the learning rate where the space does not search it.

    """
    reference = min(start_loss, dummy_loss)
    ordered = sorted(curves, key=lambda curve: curve.lr)
    lasts = [_last(curve) for curve in ordered]
    largest_fall = max((reference - last for last in lasts), default=0.0)
    kinds = [_kind(last, start_loss, reference, largest_fall) for last in lasts]
    if "falls" not in kinds:
        return _no_rate_works(ordered, kinds, reference, _table(ordered, lasts, kinds, reference))
    best = min((i for i, kind in enumerate(kinds) if kind == "falls"), key=lambda i: (lasts[i], i))
    for i in range(best + 1, len(kinds)):
        if kinds[i] == "falls" and reference - lasts[i] < STEADY * largest_fall:
            kinds[i] = "unstable"
    first = last = best
    while first > 0 and kinds[first - 1] == "falls":
        first -= 1
    while last + 1 < len(kinds) and kinds[last + 1] == "falls":
        last += 1
    lo, hi = ordered[first].lr, ordered[last].lr
    beyond = ordered[last + 1] if last + 1 < len(ordered) else None
    data = _table(ordered, lasts, kinds, reference) | {
        "lo": lo,
        "hi": hi,
        "best": ordered[best].lr,
        "bound": None if beyond is None else math.sqrt(hi * beyond.lr),
        "bound_between": None if beyond is None else [hi, beyond.lr],
    }
    found = (
        f"the loss falls from {short(reference)} for rates between {short(lo)} and {short(hi)}, "
        f"most at {short(ordered[best].lr)} (to {short(lasts[best])})"
    )
    if beyond is not None:
        found += f"; at {short(beyond.lr)} it {_BEYOND[kinds[last + 1]]}"
    if fixed_lr is not None and not lo <= fixed_lr <= hi:
        return verdict_of(
            3,
            passed=False,
            verdict="outside",
            reason=f"{found}; the fixed rate {short(fixed_lr)} lies outside",
            consequence=f"Set `optimizer.lr: {short(ordered[best].lr)}`, or search it between "
            f"{short(lo)} and {short(hi)}",
            data=data,
        )
    return verdict_of(
        3,
        passed=True,
        verdict="found",
        reason=found,
        consequence=f"the coarse round searches `optimizer.lr` from {short(lo)} to {short(hi)}"
        if fixed_lr is None
        else f"the fixed rate {short(fixed_lr)} lies inside and is kept",
        data=data,
    )


def combine_sweeps(sweeps: Mapping[str, Verdict]) -> Verdict:
    """Join the sweeps of several optimizers into the smallest interval that holds all ranges.

    Args:
        sweeps: a verdict of `judge_lr_sweep` per name, e.g. {"adam": ..., "momentum": ...}.

    """
    found = {name: verdict for name, verdict in sweeps.items() if "lo" in verdict.data}
    data: dict[str, Any] = {"sweeps": {name: dict(v.data) for name, v in sweeps.items()}}
    reason = "; ".join(f"{name}: {verdict.reason}" for name, verdict in sweeps.items())
    if not found:
        worst = next(iter(sweeps.values()))
        return verdict_of(
            3,
            passed=False,
            verdict=worst.verdict,
            reason=reason,
            consequence=worst.consequence,
            data=data,
        )
    lo = min(float(verdict.data["lo"]) for verdict in found.values())
    hi = max(float(verdict.data["hi"]) for verdict in found.values())
    passed = all(verdict.passed for verdict in sweeps.values())
    return verdict_of(
        3,
        passed=passed,
        verdict="found" if passed else "partly",
        reason=reason,
        consequence=f"the coarse round searches `optimizer.lr` from {short(lo)} to {short(hi)}, "
        "which holds the range of each optimizer",
        data=data | {"lo": lo, "hi": hi},
    )


def log_spaced(lo: float, hi: float, count: int) -> list[float]:
    """`count` rates from lo to hi, both included, at equal ratios."""
    ratio = math.log(hi / lo) / (count - 1)
    return [lo * math.exp(ratio * i) for i in range(count - 1)] + [hi]


_BEYOND = {
    "diverges": "diverges",
    "flat": "no longer falls",
    "unstable": "falls less than half as far",
}


def _table(
    ordered: Sequence[LossCurve],
    lasts: Sequence[float],
    kinds: Sequence[Kind],
    reference: float,
) -> dict[str, Any]:
    rates = [
        {"lr": curve.lr, "last_loss": last, "kind": kind}
        for curve, last, kind in zip(ordered, lasts, kinds, strict=True)
    ]
    return {"reference_loss": reference, "rates": rates}


def _last(curve: LossCurve) -> float:
    if curve.diverged or not curve.losses or not math.isfinite(curve.losses[-1]):
        return math.inf
    return curve.losses[-1]


def _kind(last: float, start_loss: float, reference: float, largest_fall: float) -> Kind:
    # A thousandth over the start is noise of a rate too small to move anything.
    if last > max(start_loss, reference) * 1.001:
        return "diverges"
    if largest_fall > NOISE * reference and reference - last >= FALLS * largest_fall:
        return "falls"
    return "flat"


def _no_rate_works(
    ordered: Sequence[LossCurve], kinds: Sequence[Kind], reference: float, data: dict[str, Any]
) -> Verdict:
    diverging = kinds.count("diverges")
    span = f"{short(ordered[0].lr)} and {short(ordered[-1].lr)}" if ordered else "nothing"
    return verdict_of(
        3,
        passed=False,
        verdict="none",
        reason=f"no rate between {span} brings the loss under {short(reference)}: "
        f"{diverging} of {len(ordered)} diverge, the others do not move it",
        consequence="Widen the limits of `optimizer.lr`, downwards where all diverge; if the "
        "limits are wide already, look at the loss and the scale of the targets",
        data=data,
    )
