"""Where the next round's interval begins and ends.

Notation
    position    (scale(x) - scale(low)) / (scale(high) - scale(low)), in [0, 1]
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from search_spaces.evidence import MIN_TRIALS, RefineRule, Shown, best_trials
from search_spaces.intervals import Interval
from search_spaces.natural_limits import natural_limits
from search_spaces.reasons import Reason, ReasonKind, kept, span

EDGE = 0.1
"""The best trials' median this close to an edge (in position) says: the optimum may lie beyond."""
OUTERMOST = 0.8
"""So many of the best being the outermost trials of all says the same, see `_side_at_an_edge`."""
MIN_WIDTH = 0.05
"""Best trials that all sit on one point still leave this part of the interval."""


def refine_interval(
    path: str, interval: Interval, trials: Sequence[Shown], rule: RefineRule
) -> tuple[Interval, Reason]:
    """Narrow an interval to the best trials' span, or widen it beyond an edge they lie at."""
    best = best_trials(trials, rule.keep_best)
    if not best:
        ended = sum(math.isfinite(trial.cost) for trial in trials)
        why = f"{MIN_TRIALS} trials with a result are needed, but it has {ended}"
        return interval, kept(path, interval, why)
    first, last = interval.scale(interval.low), interval.scale(interval.high)
    found = [
        interval.scale(min(max(float(trial.params[path]), interval.low), interval.high))
        for trial in best
    ]
    low, high = _padded(min(found), max(found), first, last, rule.margin)
    median = float(np.median(found))
    side = _side_at_an_edge(path, interval, best, trials, (median - first) / (last - first))
    growth = rule.widen * (last - first)
    if side == "lower":
        low = first - growth
    elif side == "upper":
        high = last + growth
    limits = _limits(path, interval)
    after = interval.with_ends(
        interval.low if low == first else interval.unscale(low),
        interval.high if high == last else interval.unscale(high),
        limits,
    )
    return after, _interval_reason(path, interval, after, best, len(trials), median, side, rule)


def _side_at_an_edge(
    path: str,
    interval: Interval,
    best: Sequence[Shown],
    trials: Sequence[Shown],
    position: float,
) -> str:
    """Return the side on which the optimum may lie beyond the edge, or an empty string.

    The median of the best within a tenth of an edge says so. Where the value improves all the
    way to an edge, the median of the best fifth of n trials is expected just outside that
    tenth, at 1 - (0.1 n + 0.5) / (n + 1), and with 8 of 32 at 0.86: the rule alone would widen
    in less than half of the cases and else narrow onto the edge. So it counts as well if the
    best are the outermost of all trials, those that diverged included, up to the edge.
    """
    if position <= EDGE:
        return "lower"
    if position >= 1 - EDGE:
        return "upper"
    ordered = sorted(trials, key=lambda trial: float(trial.params[path]))
    chosen = {id(trial) for trial in best}
    reach = interval.scale(interval.high) - interval.scale(interval.low)
    for side, outer in (("lower", ordered[: len(best)]), ("upper", ordered[-len(best) :])):
        shared = [trial for trial in outer if id(trial) in chosen]
        ends = [float(trial.params[path]) for trial in shared]
        if len(shared) < OUTERMOST * len(best) or len(trials) < 2 * len(best):
            continue
        if side == "lower":
            gap = interval.scale(min(ends)) - interval.scale(interval.low)
        else:
            gap = interval.scale(interval.high) - interval.scale(max(ends))
        if gap <= EDGE * reach:
            return side
    return ""


def _padded(
    low: float, high: float, first: float, last: float, margin: float
) -> tuple[float, float]:
    """Add the margin to the best trials' span, inside the interval; all on the own scale."""
    pad = max(margin * (high - low), (MIN_WIDTH * (last - first) - (high - low)) / 2)
    return max(first, low - pad), min(last, high + pad)


def _limits(path: str, interval: Interval) -> tuple[float, float]:
    """Return the user's limits, or the hyperparameter's natural ones; never beyond either."""
    low, high = natural_limits(path, interval)
    if interval.limits is not None:
        low, high = max(low, interval.limits[0]), min(high, interval.limits[1])
    return low, high


def _interval_reason(
    path: str,
    before: Interval,
    after: Interval,
    best: Sequence[Shown],
    num_trials: int,
    scaled_median: float,
    side: str,
    rule: RefineRule,
) -> Reason:
    values = [float(trial.params[path]) for trial in best]
    median = before.unscale(scaled_median)
    grew = after.low < before.low or after.high > before.high
    kind: ReasonKind = "widened" if grew else "kept" if after == before else "narrowed"
    values_span = f"{rule.sign * best[0].cost:.4g} to {rule.sign * best[-1].cost:.4g}"
    text = (
        f"{path} {'stays' if kind == 'kept' else kind} {span(before)}"
        f"{'' if kind == 'kept' else ' -> ' + span(after)}: "
        f"the best {len(best)} of {num_trials} trials ({rule.metric} {values_span}) "
        f"lie in {min(values):.3g}..{max(values):.3g}"
    )
    if side:
        edge = before.low if side == "lower" else before.high
        first, last = before.scale(before.low), before.scale(before.high)
        near = abs(scaled_median - before.scale(edge)) <= EDGE * (last - first)
        text += (
            f"; their median {median:.3g} lies at the {side} edge {edge:.3g}"
            if near
            else f"; they are the outermost trials, up to the {side} edge {edge:.3g}"
        )
        text += "" if grew else ", which is its limit"
    numbers = {
        "best_trials": float(len(best)),
        "trials": float(num_trials),
        "best_low": min(values),
        "best_high": max(values),
        "best_median": median,
        "best_value": rule.sign * best[0].cost,
        "worst_kept_value": rule.sign * best[-1].cost,
    }
    return Reason(
        path=path,
        kind=kind,
        before=before.to_mapping(),
        after=after.to_mapping(),
        text=text,
        numbers=numbers,
    )
