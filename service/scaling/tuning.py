"""Tuning of one group at one budget: cover the interval, look next to the best, then past an end.

wave 0      most trials, spread over `tune.space`
wave 1      the others, between the neighbours of the best of wave 0
wave 2, 3   two trials each beyond the end of an interval, while the best lies there
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from search_spaces import Params, Space
from search_spaces.distributions import Interval
from search_spaces.natural_limits import natural_limits
from service.ledger.records import TrialRecord
from service.scaling.facts import STUDY
from service.scaling.study_sections import TuneSpec

COVERING_SHARE = 0.625
"""Of the trials: 5 of 8."""
MAX_WIDENINGS = 2
TRIALS_BEYOND = 2
WIDENING = 0.35
"""Part of the interval, on its own scale, that is added beyond the end where the best lies."""


@dataclass(frozen=True, kw_only=True)
class Tried:
    """One tuning trial of a group at one budget."""

    params: Params
    value: float
    """The metric, lower is better; infinite where the trial diverged or failed."""
    wave: int


def tried_of(trials: Iterable[TrialRecord], metric: str) -> list[Tried]:
    """Return what was tried, of the tuning trials of one group at one budget."""
    return [
        Tried(
            params=dict(trial.params),
            value=value_of(trial, metric),
            wave=int(trial.sampler_attrs[STUDY]["tuning_wave"]),
        )
        for trial in trials
    ]


def value_of(trial: TrialRecord, metric: str) -> float:
    """Return a trial's metric, infinite where it has none."""
    value = float(trial.metrics.get(metric, math.inf))
    return value if trial.state == "complete" and math.isfinite(value) else math.inf


@dataclass(frozen=True, kw_only=True)
class Next:
    """What to try next."""

    wave: int
    num: int
    space: Space
    why: str


def next_trials(tune: TuneSpec, tried: Sequence[Tried]) -> Next | None:
    """Return the next wave, or None once tuning has ended."""
    covering = max(1, math.ceil(COVERING_SHARE * tune.trials))
    if not tried:
        return Next(wave=0, num=covering, space=tune.space, why="cover the interval")
    last = max(trial.wave for trial in tried)
    if not math.isfinite(best_of(tried).value):
        return None
    if last == 0 and tune.trials > covering:
        space = _next_to_best(tune.space, tried)
        return Next(wave=1, num=tune.trials - covering, space=space, why="next to the best")
    if last <= MAX_WIDENINGS:
        beyond = _beyond_the_end(tune.space, tried)
        if beyond is not None:
            return Next(
                wave=max(last, 1) + 1,
                num=TRIALS_BEYOND,
                space=beyond,
                why="the best lies at the end of its interval",
            )
    return None


def best_of(tried: Sequence[Tried]) -> Tried:
    """Return the trial with the lowest value; the first of equals."""
    return min(tried, key=lambda trial: trial.value)


def at_edge(space: Space, tried: Sequence[Tried]) -> dict[str, str]:
    """Return, by path, at which end (low or high) of all that was tried the best lies.

    A trial that diverged counts as tried: the optimum does not lie beyond it.
    """
    best = best_of(tried)
    edges: dict[str, str] = {}
    for path, dimension in space.items():
        if not isinstance(dimension, Interval) or path not in best.params:
            continue
        values = [trial.params[path] for trial in tried if path in trial.params]
        if best.params[path] == max(values):
            edges[path] = "high"
        elif best.params[path] == min(values):
            edges[path] = "low"
    return edges


def _next_to_best(space: Space, tried: Sequence[Tried]) -> Space:
    """Narrow every interval to the neighbours of the best value that were tried."""
    best, changes = best_of(tried), {}
    for path, dimension in space.items():
        if not isinstance(dimension, Interval) or path not in best.params:
            continue
        own = best.params[path]
        values = [trial.params[path] for trial in tried if path in trial.params]
        low = max((value for value in values if value < own), default=dimension.low)
        high = min((value for value in values if value > own), default=dimension.high)
        if low < high:
            changes[path] = dimension.with_ends(low, high)
    return space.replaced(changes)


def _beyond_the_end(space: Space, tried: Sequence[Tried]) -> Space | None:
    """Return the space moved past the ends where the best lies; None where it may not go on."""
    edges, best, changes = at_edge(space, tried), best_of(tried), {}
    for path, end in edges.items():
        dimension = space[path]
        assert isinstance(dimension, Interval)
        own = dimension.scale(best.params[path])
        step = WIDENING * (dimension.scale(dimension.high) - dimension.scale(dimension.low))
        step = step if end == "high" else -step
        limits = dimension.limits or natural_limits(path, dimension)
        if path == "train.batch_size" and dimension.limits is None:
            continue  # an epoch's rows are whole batches of the largest size that was asked for
        first, last = sorted((dimension.unscale(own), dimension.unscale(own + step)))
        first, last = max(first, limits[0]), min(last, limits[1])
        if first < last * (1 - 1e-9):
            free = replace(dimension, limits=None)
            changes[path] = free.with_ends(first, last, limits)
    return space.replaced(changes) if changes else None
