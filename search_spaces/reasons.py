"""Why a space became another one: one record per hyperparameter, with its numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from search_spaces.distributions import Distribution
from search_spaces.intervals import Interval

ReasonKind = Literal["kept", "narrowed", "widened", "dropped", "removed", "raised", "lowered"]
"""narrowed: to the span of the best trials. widened: beyond an edge that the best lie at.
dropped: values of a choice that lost. removed: can no longer be active. raised, lowered: moved
because of what the learning curves show."""


@dataclass(frozen=True, kw_only=True)
class Reason:
    """What happened to one hyperparameter's distribution, and why."""

    path: str
    kind: ReasonKind
    before: Any
    """The distribution's plain form."""
    after: Any
    """The same after the change; None where it left the space."""
    text: str
    numbers: Mapping[str, float] = field(default_factory=dict)
    """The figures behind the text, e.g. {"best_trials": 10, "p_value": 0.004}."""

    def to_mapping(self) -> dict[str, Any]:
        """Return plain values, as the ledger keeps them."""
        return {
            "path": self.path,
            "kind": self.kind,
            "before": self.before,
            "after": self.after,
            "text": self.text,
            "numbers": dict(self.numbers),
        }


def span(interval: Interval) -> str:
    """Return `low..high`, short enough for a sentence."""
    return f"{interval.low:.3g}..{interval.high:.3g}"


def kept(path: str, dimension: Distribution, why: str) -> Reason:
    """Return the reason for leaving a hyperparameter as it is."""
    plain = dimension.to_mapping()
    shown = span(dimension) if isinstance(dimension, Interval) else str(list(dimension.values))
    return Reason(
        path=path, kind="kept", before=plain, after=plain, text=f"{path} stays {shown}: {why}"
    )
