"""What trials showed, in the form that refinement reads.

Notation
    cost        what is minimised; +inf for trials that diverged, failed or broke a constraint
    best        the `keep_best` share of the trials with the lowest cost, at least MIN_TRIALS
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

Evidence: TypeAlias = Sequence[tuple[Mapping[str, Any], float | None]]
"""(params, value) of every trial at one fidelity. None or NaN: diverged, failed or infeasible."""

MIN_TRIALS = 8
"""Fewer best trials say too little about a span."""


@dataclass(frozen=True, kw_only=True)
class RefineRule:
    """The numbers behind a refinement, as `rounds[k].refine` gives them."""

    keep_best: float = 0.2
    margin: float = 0.1
    widen: float = 0.5
    p_value: float = 0.05
    metric: str = "value"
    sign: float = 1.0
    """+1 where low values are good, -1 where high ones are: cost = sign * value."""


@dataclass(frozen=True)
class Shown:
    """One trial's params and cost."""

    params: Mapping[str, Any]
    cost: float


def costs(evidence: Evidence, rule: RefineRule) -> list[Shown]:
    """Turn values into costs; whatever has no finite value costs +inf."""
    return [
        Shown(params, rule.sign * value)
        if value is not None and math.isfinite(value)
        else Shown(params, math.inf)
        for params, value in evidence
    ]


def best_trials(trials: Sequence[Shown], keep_best: float) -> list[Shown]:
    """Return the best share of the trials, best first.

    Empty if fewer than MIN_TRIALS have a finite cost.
    """
    finite = sorted((t for t in trials if math.isfinite(t.cost)), key=lambda t: t.cost)
    if len(finite) < MIN_TRIALS:
        return []
    return finite[: max(MIN_TRIALS, math.ceil(keep_best * len(trials) - 1e-9))]
