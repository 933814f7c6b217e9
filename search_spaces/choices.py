"""A hyperparameter that is one of several values."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from search_spaces.conditions import Conditions, Scalar, plain_conditions, same
from trainers.errors import SpaceError


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One of several values, all equally likely."""

    values: tuple[Scalar, ...]
    when: Conditions = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.values:
            raise SpaceError("a choice needs at least one value, but got []; list the values")
        for index, value in enumerate(self.values):
            if not (value is None or isinstance(value, str | bool | int | float)):
                raise SpaceError(
                    f"a choice takes text, numbers, true/false or null, but got {value!r}; "
                    "name such settings and choose between the names"
                )
            if isinstance(value, float) and not math.isfinite(value):
                raise SpaceError(f"a choice takes finite numbers, but got {value}; remove it")
            if any(same(value, other) for other in self.values[:index]):
                raise SpaceError(f"a choice lists each value once, but got {value!r} twice")

    @property
    def count(self) -> int:
        """Number of values."""
        return len(self.values)

    def contains(self, value: Any) -> bool:
        """Whether `value` is one of the values (true is not 1)."""
        return any(same(value, own) for own in self.values)

    def from_unit(self, u: float) -> Scalar:
        """Return the value at position `u` in [0, 1]."""
        return self.values[min(int(u * self.count), self.count - 1)]

    def to_unit(self, value: Scalar) -> float:
        """Return the middle of the stretch of [0, 1] that gives `value`."""
        for index, own in enumerate(self.values):
            if same(value, own):
                return (index + 0.5) / self.count
        raise SpaceError(f"the choice is one of {list(self.values)}, but got {value!r}")

    def grid_points(self) -> list[Scalar]:
        """Return all values."""
        return list(self.values)

    def all_values(self) -> list[Scalar]:
        """Return all values."""
        return list(self.values)

    def to_mapping(self) -> Any:
        """Return the plain form that a spec file holds."""
        if not self.when:
            return list(self.values)
        return {"choice": list(self.values), "when": plain_conditions(self.when)}
