"""`constraints`: bounds on metrics, some known before training and some after."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from trainers.errors import SpaceError, nearest

Operator = Literal["<=", "<", ">=", ">"]

METRICS = (
    "val_error",
    "val_loss",
    "val_rmse",
    "val_r2",
    "val_bits_per_byte",
    "energy_kwh",
    "params",
    "flops",
    "seconds",
    "train_loss",
    "sparsity",
)
"""Everything that an objective or a constraint may name.

params: trained parameters of the model. flops: floating-point operations of the whole training.
seconds, energy_kwh: processor (or GPU) time and energy of the trial alone. sparsity: share of
weights that are cut; only where pruning is on.
"""
KNOWN_BEFORE_TRAINING = ("params", "flops")

_PATTERN = re.compile(r"^\s*(<=|<|>=|>)\s*(\S+)\s*$")


@dataclass(frozen=True)
class Constraint:
    """`metric op bound`, e.g. params <= 2e6."""

    metric: str
    op: Operator
    bound: float

    @classmethod
    def parse(cls, metric: str, text: Any) -> Constraint:
        """Read `"<= 2e6"`.

        Raises:
            SpaceError: for an unknown metric, or text that is no comparison with a number.

        """
        if metric not in METRICS:
            raise SpaceError(
                f"`constraints.{metric}`: unknown metric `{metric}`{nearest(metric, METRICS)}"
            )
        match = _PATTERN.match(text) if isinstance(text, str) else None
        try:
            bound = float(match[2].replace("_", "")) if match else math.nan
        except ValueError:
            bound = math.nan
        if match is None or not math.isfinite(bound):
            raise SpaceError(
                f"`constraints.{metric}` compares with a number by <=, <, >= or >, "
                f'but got {text!r}; write e.g. "<= 2e6"'
            )
        return cls(metric, match[1], bound)  # type: ignore[arg-type]  # the pattern allows no other

    @property
    def known_before_training(self) -> bool:
        """Whether it rejects at asking; else it makes a finished trial infeasible."""
        return self.metric in KNOWN_BEFORE_TRAINING

    def violation(self, value: float) -> float:
        """Return how far `value` is on the wrong side of the bound: > 0 only where violated.

        A NaN counts as infinitely far.
        """
        if math.isnan(value):
            return math.inf
        excess = value - self.bound if self.op in ("<=", "<") else self.bound - value
        if excess == 0 and self.op in ("<", ">"):
            return math.ulp(self.bound)
        return excess

    def satisfied(self, value: float) -> bool:
        """Whether `value` keeps the bound."""
        return self.violation(value) <= 0

    def __str__(self) -> str:
        return f"{self.metric} {self.op} {self.bound:g}"


def parse_constraints(mapping: Mapping[str, Any]) -> tuple[Constraint, ...]:
    """Read `{metric: "<= x"}`; a list of comparisons bounds one metric from both sides."""
    if not isinstance(mapping, Mapping):
        raise SpaceError(f'`constraints` maps metrics to e.g. "<= 2e6", but got {mapping!r}')
    return tuple(
        Constraint.parse(str(metric), text)
        for metric, texts in mapping.items()
        for text in (texts if isinstance(texts, list | tuple) else [texts])
    )
