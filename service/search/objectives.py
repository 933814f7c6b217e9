"""What "better" means: objectives, constraints, ranks for several objectives, and noise.

Inside this module every objective is a cost: lower is better. `Objective.cost` turns a metric
into one, so that nothing else has to ask for the direction.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from scipy.special import stdtrit

from trainers.errors import ConfigError, nearest

Direction = Literal["minimize", "maximize"]
DIRECTIONS: tuple[Direction, ...] = ("minimize", "maximize")


@dataclass(frozen=True, kw_only=True)
class Objective:
    """A metric and which way is better."""

    metric: str
    direction: Direction = "minimize"

    def cost(self, value: float) -> float:
        """Return the value with its sign such that lower is better."""
        return value if self.direction == "minimize" else -value

    def better(self, value: float, than: float) -> bool:
        """Say whether `value` is strictly better; anything finite is better than NaN or inf."""
        cost, other = self.cost(value), self.cost(than)
        if not math.isfinite(value):
            return False
        return not math.isfinite(than) or cost < other


def parse_objectives(mapping: Mapping[str, str]) -> tuple[Objective, ...]:
    """Read a spec's `objectives`; the first is the primary one.

    Raises:
        ConfigError: if there is none, or a direction is not `minimize` or `maximize`.

    """
    if not mapping:
        raise ConfigError(
            "`objectives` must name a metric, but is empty; try {val_error: minimize}"
        )
    objectives = []
    for metric, word in mapping.items():
        direction = next((valid for valid in DIRECTIONS if valid == word), None)
        if direction is None:
            raise ConfigError(
                f"`objectives.{metric}` must be `minimize` or `maximize`, but got {word!r}"
                f"{nearest(str(word), list(DIRECTIONS))}"
            )
        objectives.append(Objective(metric=metric, direction=direction))
    return tuple(objectives)


def costs_of(values: Sequence[float], objectives: Sequence[Objective]) -> tuple[float, ...]:
    """Return `values` as costs: lower is better in every place."""
    return tuple(o.cost(value) for o, value in zip(objectives, values, strict=True))


def incumbents(values: Iterable[float], objective: Objective) -> list[float]:
    """Return the best value so far after each value; NaN until there is a finite one."""
    best, result = math.nan, []
    for value in values:
        best = value if objective.better(value, best) else best
        result.append(best)
    return result


# --- constraints -------------------------------------------------------------------------------


class Bound(Protocol):
    """A constraint such as `energy_kwh <= 0.1`; search_spaces.Constraint is one."""

    @property
    def metric(self) -> str:
        """Which metric is bounded."""

    @property
    def op(self) -> str:
        """One of `<= < >= >`."""

    @property
    def bound(self) -> float:
        """The number on the right-hand side."""


def excess(metrics: Mapping[str, float], constraints: Sequence[Bound]) -> dict[str, float]:
    """Return by how much each constraint is broken; 0 or less where it holds.

    A metric that is missing (not known yet) is left out. NaN counts as infinitely broken. For
    a strict bound, equality is broken by the smallest positive number.
    """
    result: dict[str, float] = {}
    for constraint in constraints:
        if constraint.metric not in metrics:
            continue
        value = float(metrics[constraint.metric])
        above = value - constraint.bound
        amount = above if constraint.op in ("<=", "<") else -above
        if constraint.op in ("<", ">") and amount == 0:
            amount = math.ulp(0.0)
        name = f"{constraint.metric} {constraint.op} {constraint.bound:g}"
        result[name] = math.inf if math.isnan(amount) else amount
    return result


def is_feasible(metrics: Mapping[str, float], constraints: Sequence[Bound]) -> bool:
    """Say whether no constraint whose metric is known is broken."""
    return all(amount <= 0 for amount in excess(metrics, constraints).values())


# --- several objectives ------------------------------------------------------------------------


def dominates(first: Sequence[float], second: Sequence[float]) -> bool:
    """Say whether costs `first` are nowhere worse than `second` and somewhere better."""
    return all(a <= b for a, b in zip(first, second, strict=True)) and tuple(first) != tuple(second)


def non_dominated_ranks(costs: Sequence[Sequence[float]]) -> list[int]:
    """Return each point's front: 0 for points nothing dominates, 1 for the next, and so on.

    Equal points share a front. Two objectives take O(n log n) (Jensen 2003), more take
    O(n² · fronts) vectorised. `costs`: [n, k], lower is better, no NaN.
    """
    points = [tuple(float(c) for c in row) for row in costs]
    distinct = sorted(set(points))
    if not distinct:
        return []
    if len(distinct[0]) <= 2:
        rank_of = _ranks_of_sorted_plane([(p[0], p[-1]) for p in distinct], distinct)
    else:
        rank_of = _ranks_by_peeling(distinct)
    return [rank_of[point] for point in points]


def _ranks_of_sorted_plane(
    plane: Sequence[tuple[float, float]], keys: Sequence[tuple[float, ...]]
) -> dict[tuple[float, ...], int]:
    """Rank distinct points sorted by their first cost: a front is known by its lowest second.

    Those lowest values rise from front to front, so the first front that does not dominate a
    point is found by bisection.
    """
    lowest: list[float] = []
    ranks: dict[tuple[float, ...], int] = {}
    for (_, second), key in zip(plane, keys, strict=True):
        front = bisect_right(lowest, second)
        if front == len(lowest):
            lowest.append(second)
        else:
            lowest[front] = second
        ranks[key] = front
    return ranks


def _ranks_by_peeling(points: Sequence[tuple[float, ...]]) -> dict[tuple[float, ...], int]:
    """Take the non-dominated points away, front by front."""
    left = np.array(points)  # [n, k]
    ids = np.arange(len(points))
    ranks: dict[tuple[float, ...], int] = {}
    front = 0
    while ids.size:
        # dominated[i]: some other distinct point is nowhere worse than i.
        no_worse = (left[:, None, :] <= left[None, :, :]).all(axis=2)
        dominated = no_worse.sum(axis=0) > 1
        for i in ids[~dominated]:
            ranks[points[i]] = front
        left, ids, front = left[dominated], ids[dominated], front + 1
    return ranks


def pareto_front(costs: Sequence[Sequence[float]]) -> list[int]:
    """Return the indices of the points that nothing dominates."""
    return [i for i, rank in enumerate(non_dominated_ranks(costs)) if rank == 0]


def crowding_distances(costs: Sequence[Sequence[float]]) -> list[float]:
    """Return how lonely each point of one front is (Deb et al. 2002); the ends are infinite.

    Equal points share one distance, so the result does not depend on the order given.
    """
    points = [tuple(float(c) for c in row) for row in costs]
    distinct = sorted(set(points))
    distance = dict.fromkeys(distinct, 0.0)
    for k in range(len(distinct[0]) if distinct else 0):
        line = sorted(distinct, key=lambda point: (point[k], point))
        span = line[-1][k] - line[0][k]
        if span == 0:
            continue
        distance[line[0]] = distance[line[-1]] = math.inf
        for before, point, after in zip(line, line[1:], line[2:], strict=False):
            distance[point] += (after[k] - before[k]) / span
    return [distance[point] for point in points]


# --- noise between seeds -----------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean over seeds and its confidence interval."""

    mean: float
    low: float
    high: float
    num_values: int
    confidence: float

    @property
    def half_width(self) -> float:
        """Half the interval; infinite where one value says nothing about the spread."""
        return (self.high - self.low) / 2

    def contains(self, value: float) -> bool:
        """Say whether `value` lies within the interval, ends included."""
        return self.low <= value <= self.high


def t_interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Return Student's interval of the mean over seeds; unbounded for a single value.

    Raises:
        ConfigError: if there is no value or one is not finite.

    """
    if not values or not all(math.isfinite(value) for value in values):
        raise ConfigError(
            f"an interval needs finite values, but got {list(values)}; "
            "leave out the trials that failed or diverged"
        )
    mean, n = float(np.mean(values)), len(values)
    if n == 1:
        return Interval(
            mean=mean, low=-math.inf, high=math.inf, num_values=1, confidence=confidence
        )
    standard_error = float(np.std(values, ddof=1)) / math.sqrt(n)
    half = float(stdtrit(n - 1, (1 + confidence) / 2)) * standard_error
    return Interval(
        mean=mean, low=mean - half, high=mean + half, num_values=n, confidence=confidence
    )


def difference_interval(
    first: Sequence[float], second: Sequence[float], confidence: float = 0.95
) -> Interval:
    """Return Welch's interval of mean(first) - mean(second), for independent seeds.

    Unbounded where either side has a single value.
    """
    one, two = t_interval(first, confidence), t_interval(second, confidence)
    mean, num_values = one.mean - two.mean, min(one.num_values, two.num_values)
    if num_values == 1:
        return Interval(
            mean=mean, low=-math.inf, high=math.inf, num_values=1, confidence=confidence
        )
    # Welch-Satterthwaite: squared standard errors add, degrees of freedom are weighted by them.
    sides = (first, second)
    squares = [float(np.var(side, ddof=1)) / len(side) for side in sides]
    total, half = sum(squares), 0.0
    if total > 0:
        shares = [square / total for square in squares]
        freedom = 1 / sum(
            share**2 / (len(side) - 1) for share, side in zip(shares, sides, strict=True)
        )
        half = float(stdtrit(freedom, (1 + confidence) / 2)) * math.sqrt(total)
    low, high = mean - half, mean + half
    return Interval(mean=mean, low=low, high=high, num_values=num_values, confidence=confidence)


def within_noise(
    best: Sequence[float],
    others: Sequence[Sequence[float]],
    objective: Objective,
    confidence: float = 0.95,
) -> list[bool]:
    """Say for each of `others` whether its seeds cannot tell it from the best configuration.

    A configuration is within noise unless it is worse and the interval of the difference of
    means excludes zero. One with a single seed is within noise only if its value lies in the
    best one's own interval of single seeds (prediction interval), since it has no spread.
    """
    verdicts = []
    for values in others:
        if len(values) == 1 and len(best) > 1:
            own = t_interval(best, confidence)
            # A new single value varies by s·sqrt(1 + 1/n), the mean only by s/sqrt(n).
            allowed = own.half_width * math.sqrt(len(best) + 1)
            worse_by = objective.cost(values[0]) - objective.cost(own.mean)
            verdicts.append(worse_by <= allowed)
            continue
        difference = difference_interval(values, best, confidence)
        is_worse = objective.cost(difference.mean) > 0
        verdicts.append(not is_worse or difference.contains(0.0))
    return verdicts
