"""A hyperparameter that is a number between two ends.

Notation
    low, high   ends of the interval, both included
    u           position in [0, 1]; equal lengths of u are equal shares of probability
    own scale   x itself, or ln x for `log_uniform` and `log_int`
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Literal

from search_spaces.conditions import Conditions, Scalar, plain_conditions
from trainers.errors import SpaceError

IntervalKind = Literal["uniform", "log_uniform", "int", "log_int"]

_ON_GRID = 1e-9
"""Slack, in steps, when asking whether a float lies on a grid: rounding, not the user's intent."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """Numbers between two ends, uniform on their own scale."""

    kind: IntervalKind
    low: float
    high: float
    step: float | None = None
    """Only low, low + step, low + 2 step, ... up to high."""
    grid: int | None = None
    """Number of points that the grid sampler takes, ends included, even on the own scale."""
    limits: tuple[float, float] | None = None
    """Refinement may widen the interval up to these ends, and never beyond."""
    when: Conditions = field(default_factory=dict)

    def __post_init__(self) -> None:
        numbers = [self.low, self.high, *(self.limits or ())]
        for number in numbers if self.step is None else [*numbers, self.step]:
            self._refuse_non_number(number)
        if not self.low < self.high:
            rule = "is empty" if self.low == self.high else "is inverted"
            hint = (
                f"give the fixed value {self.low:g} to the section"
                if rule == "is empty"
                else (f"write [{self.high:g}, {self.low:g}]")
            )
            raise SpaceError(
                f"an interval needs low < high, but [{self.low:g}, {self.high:g}] {rule}; {hint}"
            )
        if self.log and self.low <= 0:
            linear = "int" if self.integer else "uniform"
            raise SpaceError(
                f"a log interval needs low > 0, but got [{self.low:g}, {self.high:g}]; "
                f"raise low, or use `{linear}`"
            )
        self._check_options()

    def _refuse_non_number(self, number: Any) -> None:
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise SpaceError(f"an interval takes numbers, but got {number!r}")
        if not math.isfinite(number):
            raise SpaceError(f"an interval takes finite numbers, but got {number}")
        if self.integer and number != int(number):
            raise SpaceError(
                f"`{self.kind}` takes whole numbers, but got {number:g}; "
                f"use `{'log_uniform' if self.log else 'uniform'}`"
            )

    def _check_options(self) -> None:
        if self.step is not None and not 0 < self.step <= (self.high - self.low) * (1 + _ON_GRID):
            raise SpaceError(
                f"`step` must be > 0 and at most high - low = {self.high - self.low:g}, "
                f"but got {self.step:g}"
            )
        if self.grid is not None and (
            isinstance(self.grid, bool) or not isinstance(self.grid, int) or self.grid < 2
        ):
            raise SpaceError(f"`grid` is a number of points >= 2, but got {self.grid!r}")
        if self.limits is None:
            return
        bottom, top = self.limits
        if not bottom <= self.low < self.high <= top:
            raise SpaceError(
                f"`limits` must enclose the interval, but [{bottom:g}, {top:g}] does not enclose "
                f"[{self.low:g}, {self.high:g}]; widen the limits or narrow the interval"
            )
        if self.log and bottom <= 0:
            raise SpaceError(f"a log interval needs `limits` > 0, but got [{bottom:g}, {top:g}]")

    @property
    def log(self) -> bool:
        """Whether the own scale is ln x."""
        return self.kind in ("log_uniform", "log_int")

    @property
    def integer(self) -> bool:
        """Whether the values are whole numbers."""
        return self.kind in ("int", "log_int")

    @property
    def spacing(self) -> float | None:
        """Distance between neighbouring values; None where any number between the ends goes."""
        return 1 if self.integer and self.step is None else self.step

    @property
    def count(self) -> int | None:
        """Number of different values; None: a continuum."""
        if self.spacing is None:
            return None
        return int((self.high - self.low) / self.spacing + _ON_GRID) + 1

    def scale(self, value: float) -> float:
        """Return `value` on the interval's own scale."""
        return math.log(value) if self.log else float(value)

    def unscale(self, scaled: float) -> float:
        """Return the number at `scaled` on the own scale."""
        return math.exp(scaled) if self.log else scaled

    def contains(self, value: Any) -> bool:
        """Whether `value` is a number between the ends, and on the grid where there is one."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        if not self.low <= value <= self.high:
            return False
        if self.spacing is None:
            return True
        steps = (value - self.low) / self.spacing
        rounding = 4 * math.ulp(max(abs(self.low), abs(self.high))) / self.spacing
        return abs(steps - round(steps)) <= _ON_GRID + rounding

    def quantise(self, value: float) -> int | float:
        """Return the nearest value that the interval has."""
        spacing, count = self.spacing, self.count
        if spacing is None or count is None:
            return min(max(float(value), self.low), self.high)
        index = math.floor((value - self.low) / spacing + 0.5)
        return self._at(min(max(index, 0), count - 1))

    def _at(self, index: int) -> int | float:
        """Return low + index * step; in decimal, so that 0.8 + 3 * 0.05 is 0.95."""
        if self.integer:
            return int(self.low) + index * int(self.spacing or 1)
        exact = float(
            Decimal(str(float(self.low))) + index * Decimal(str(float(self.spacing or 0)))
        )
        return min(exact, float(self.high)) if 0 <= index < (self.count or 1) else exact

    def _unit_ends(self) -> tuple[float, float]:
        """Return the ends on the own scale; half a step further out where there is a grid.

        So the first and the last value get the same share of u as their neighbours.
        """
        spacing = self.spacing
        if spacing is None:
            return self.scale(self.low), self.scale(self.high)
        first, last = self.low - spacing / 2, self._at((self.count or 1) - 1) + spacing / 2
        return self.scale(max(first, self.low / 2) if self.log else first), self.scale(last)

    def from_unit(self, u: float) -> int | float:
        """Return the value at position `u` in [0, 1]."""
        first, last = self._unit_ends()
        return self.quantise(self.unscale(first + u * (last - first)))

    def to_unit(self, value: float) -> float:
        """Return the position of `value` in [0, 1]; `from_unit` gives the value back."""
        if not self.contains(value):
            raise SpaceError(f"the interval is {self.to_mapping()}, but got {value!r}")
        first, last = self._unit_ends()
        return min(max((self.scale(value) - first) / (last - first), 0.0), 1.0)

    def grid_points(self) -> list[Scalar]:
        """Return the values that the grid sampler takes.

        Raises:
            SpaceError: if the interval is continuous and has neither `grid` nor `step`.

        """
        if self.grid is not None:
            first, last = self.scale(self.low), self.scale(self.high)
            fractions = (index / (self.grid - 1) for index in range(self.grid))
            points = [self.quantise(self.unscale(first + f * (last - first))) for f in fractions]
            return list(dict.fromkeys(points))
        return self.all_values()

    def all_values(self) -> list[Scalar]:
        """Return every value on the grid.

        Raises:
            SpaceError: if the interval is continuous.

        """
        if self.count is None:
            raise SpaceError(
                f"a grid over a continuous interval needs `grid` or `step`, but "
                f"{self.to_mapping()} has neither; add e.g. `grid: 5`"
            )
        return [self._at(index) for index in range(self.count)]

    def with_ends(
        self, low: float, high: float, limits: tuple[float, float] | None = None
    ) -> Interval:
        """Return the interval from `low` to `high`, grown outwards to its grid, inside `limits`.

        Args:
            low: new lower end; above or below the present one.
            high: new upper end.
            limits: ends that must not be left; the interval's own `limits` by default.

        """
        bottom, top = limits or self.limits or (-math.inf, math.inf)
        low, high = max(low, bottom), min(high, top)
        spacing = self.spacing
        if spacing is None:
            return replace(self, low=low, high=high)

        def steps(value: float, rounded: Any, slack: float) -> int:
            return int(rounded((value - self.low) / spacing + slack))

        first, last = steps(low, math.floor, _ON_GRID), steps(high, math.ceil, -_ON_GRID)
        lowest = max(bottom, spacing * _ON_GRID) if self.log else bottom
        if lowest > -math.inf:
            first = max(first, steps(lowest, math.ceil, -_ON_GRID))
        if top < math.inf:
            last = min(last, steps(top, math.floor, _ON_GRID))
        if first >= last:  # a single value: keep a neighbour inside, so that it stays an interval
            below, above = max(first - 1, 0), min(first + 1, (self.count or 1) - 1)
            first, last = (min(first, last), above) if above > first else (below, first)
        return replace(self, low=self._at(first), high=self._at(last))

    def to_mapping(self) -> dict[str, Any]:
        """Return the plain form that a spec file holds."""
        mapping: dict[str, Any] = {self.kind: [self.low, self.high]}
        if self.step is not None:
            mapping["step"] = self.step
        if self.grid is not None:
            mapping["grid"] = self.grid
        if self.limits is not None:
            mapping["limits"] = list(self.limits)
        if self.when:
            mapping["when"] = plain_conditions(self.when)
        return mapping
