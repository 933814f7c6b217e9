"""Changes to a space that the recipe asks for: from the learning-rate sweep, and from curves."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from search_spaces.choices import Choice
from search_spaces.distributions import Distribution
from search_spaces.intervals import Interval
from search_spaces.natural_limits import natural_limits
from search_spaces.reasons import Reason, kept, span
from search_spaces.space import Space

SHIFT = 0.5
"""Part of its own width (own scale) by which a consequence moves an interval."""

LR_PATH = "optimizer.lr"


def apply_consequence(
    space: Space, path: str, direction: Literal["raise", "lower"], reason: str
) -> tuple[Space, Reason]:
    """Move a hyperparameter's interval up or down because of what the curves show.

    An interval moves by half its width on its own scale, within its limits; a choice of
    numbers loses its smallest (`raise`) or largest (`lower`) value, but never its last.

    Args:
        space: the space so far.
        path: what to move, e.g. `regularisation.l2`.
        direction: `raise` or `lower`.
        reason: why, e.g. "the best trials overfit".

    Returns:
        The changed space (the same one where nothing can move), and what was done.

    """
    dimension = space.get(path)
    if dimension is None:
        text = f"{path} is not searched, so it cannot be {_done(direction)} ({reason}); add it"
        return space, Reason(path=path, kind="kept", before=None, after=None, text=text)
    moved = (
        _moved_choice(dimension, direction)
        if isinstance(dimension, Choice)
        else _moved_interval(path, dimension, direction)
    )
    if moved == dimension:
        return space, kept(path, dimension, f"{reason}, but it is at its limit already")
    text = f"{path} {_done(direction)} {_shown(dimension)} -> {_shown(moved)}: {reason}"
    return space.replaced({path: moved}), Reason(
        path=path,
        kind="raised" if direction == "raise" else "lowered",
        before=dimension.to_mapping(),
        after=moved.to_mapping(),
        text=text,
    )


def _done(direction: str) -> str:
    return "raised" if direction == "raise" else "lowered"


def _shown(dimension: Distribution) -> str:
    return span(dimension) if isinstance(dimension, Interval) else str(list(dimension.values))


def _moved_interval(path: str, interval: Interval, direction: str) -> Interval:
    first, last = interval.scale(interval.low), interval.scale(interval.high)
    move = SHIFT * (last - first) * (1 if direction == "raise" else -1)
    low, high = interval.unscale(first + move), interval.unscale(last + move)
    bottom, top = natural_limits(path, interval)
    if interval.limits is not None:
        bottom, top = max(bottom, interval.limits[0]), min(top, interval.limits[1])
    return interval.with_ends(low, high, (bottom, top))


def _moved_choice(choice: Choice, direction: str) -> Choice:
    numbers = [v for v in choice.values if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(numbers) < 2 or len(numbers) < len(choice.values):
        return choice
    loses = min(numbers) if direction == "raise" else max(numbers)
    return replace(choice, values=tuple(value for value in choice.values if value != loses))


def with_lr_interval(space: Space, low: float, high: float, reason: str) -> tuple[Space, Reason]:
    """Bound the searched learning rate by the range that a sweep found to train.

    The user's interval is cut to the range. Where they do not overlap, the range is taken as
    far as the user's `limits` allow; without limits the user's interval stays.

    Args:
        space: the space of the first round.
        low: smallest rate at which the loss falls.
        high: largest rate before training diverges.
        reason: the sweep's verdict, in words.

    Returns:
        The changed space, and what was done.

    """
    dimension = space.get(LR_PATH)
    if dimension is None:
        text = (
            f"{LR_PATH} is not searched, so the sweep's range {low:.3g}..{high:.3g} bounds nothing"
        )
        return space, Reason(path=LR_PATH, kind="kept", before=None, after=None, text=text)
    if isinstance(dimension, Choice):
        inside = tuple(
            v for v in dimension.values if isinstance(v, int | float) and low <= v <= high
        )
        if not inside or len(inside) == dimension.count:
            why = "every value trains" if inside else "no value lies inside"
            return space, kept(
                LR_PATH, dimension, f"{why} the range {low:.3g}..{high:.3g}: {reason}"
            )
        return _bounded(space, dimension, replace(dimension, values=inside), reason)
    return _bounded_interval(space, dimension, low, high, reason)


def _bounded_interval(
    space: Space, interval: Interval, low: float, high: float, reason: str
) -> tuple[Space, Reason]:
    bottom, top = interval.low, interval.high
    if min(high, top) <= max(low, bottom):
        if interval.limits is None:
            why = (
                f"the sweep's range {low:.3g}..{high:.3g} lies outside and no `limits` allow to go "
                f"there ({reason}); set `limits`"
            )
            return space, kept(LR_PATH, interval, why)
        bottom, top = interval.limits
    new_low, new_high = max(low, bottom), min(high, top)
    if new_low >= new_high:
        why = f"the sweep's range {low:.3g}..{high:.3g} lies outside its limits: {reason}"
        return space, kept(LR_PATH, interval, why)
    return _bounded(space, interval, interval.with_ends(new_low, new_high), reason)


def _bounded(
    space: Space, before: Distribution, after: Distribution, reason: str
) -> tuple[Space, Reason]:
    if after == before:
        return space, kept(LR_PATH, before, f"all of it trains: {reason}")
    outside = (
        isinstance(after, Interval)
        and isinstance(before, Interval)
        and (after.high > before.high or after.low < before.low)
    )
    verb = "moves" if outside else "narrowed"
    return space.replaced({LR_PATH: after}), Reason(
        path=LR_PATH,
        kind="widened" if outside else "narrowed",
        before=before.to_mapping(),
        after=after.to_mapping(),
        text=f"{LR_PATH} {verb} {_shown(before)} -> {_shown(after)}: {reason}",
    )
