"""Distributions in Python, and the same ones from the plain form of spec files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from search_spaces.choices import Choice
from search_spaces.conditions import Scalar, as_conditions
from search_spaces.distributions import Distribution
from search_spaces.intervals import Interval, IntervalKind
from trainers.errors import SpaceError, nearest

_KINDS: tuple[IntervalKind, ...] = ("uniform", "log_uniform", "int", "log_int")
_OPTIONS = ("step", "grid", "limits", "when")


def choice(*values: Scalar, when: Mapping[str, Any] | None = None) -> Choice:
    """One of `values`, all equally likely: `choice(64, 128, 256)`."""
    return Choice(values=values, when=as_conditions(when))


def uniform(low: float, high: float, **options: Any) -> Interval:
    """Numbers from `low` to `high`. Options: step, grid, limits, when."""
    return _interval("uniform", [low, high], options)


def log_uniform(low: float, high: float, **options: Any) -> Interval:
    """Numbers whose logarithm is uniform. Options: step, grid, limits, when."""
    return _interval("log_uniform", [low, high], options)


def int_uniform(low: int, high: int, **options: Any) -> Interval:
    """Whole numbers from `low` to `high`, both included. Options: step, grid, limits, when."""
    return _interval("int", [low, high], options)


def log_int(low: int, high: int, **options: Any) -> Interval:
    """Whole numbers, uniform in their logarithm. Options: step, grid, limits, when."""
    return _interval("log_int", [low, high], options)


def distribution(value: Any) -> Distribution:
    """Build a distribution from the plain form: a list, or `{kind: [low, high], options}`.

    Raises:
        SpaceError: for an unknown key (with the nearest valid one) or a broken rule.

    """
    if isinstance(value, Choice | Interval):
        return value
    if isinstance(value, Mapping):
        return _from_mapping(value)
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return Choice(values=tuple(value))
    raise SpaceError(
        f"takes a list of values or {{{' | '.join(_KINDS)}: [low, high]}}, but got {value!r}; "
        "a fixed value belongs in its section, outside `space`"
    )


def _from_mapping(mapping: Mapping[str, Any]) -> Distribution:
    valid = (*_KINDS, "choice", *_OPTIONS)
    for key in mapping:
        if key not in valid:
            raise SpaceError(f"unknown key `{key}`{nearest(str(key), valid)}")
    kinds = [kind for kind in _KINDS if kind in mapping]
    if len(kinds) + ("choice" in mapping) != 1:
        given = [key for key in mapping if key not in _OPTIONS]
        raise SpaceError(
            f"takes exactly one of {', '.join(_KINDS)}, choice, but got {given or 'none'}"
        )
    options = {key: value for key, value in mapping.items() if key in _OPTIONS}
    if kinds:
        return _interval(kinds[0], mapping[kinds[0]], options)
    surplus = sorted(set(options) - {"when"})
    if surplus:
        raise SpaceError(f"a choice takes `when` only, but got `{surplus[0]}`; remove it")
    values = mapping["choice"]
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise SpaceError(f"`choice` takes a list of values, but got {values!r}")
    return Choice(values=tuple(values), when=as_conditions(options.get("when")))


def _interval(kind: IntervalKind, ends: Any, options: Mapping[str, Any]) -> Interval:
    unknown = [key for key in options if key not in _OPTIONS]
    if unknown:
        raise SpaceError(f"unknown key `{unknown[0]}`{nearest(unknown[0], _OPTIONS)}")
    low, high = _pair(kind, ends)
    limits = options.get("limits")
    whole = kind in ("int", "log_int")
    return Interval(
        kind=kind,
        low=_number(low, whole),
        high=_number(high, whole),
        step=_number(options.get("step"), whole),
        grid=_number(options.get("grid"), True),
        limits=None if limits is None else _numbers(_pair("limits", limits), whole),
        when=as_conditions(options.get("when")),
    )


def _pair(name: str, ends: Any) -> tuple[Any, Any]:
    if not isinstance(ends, Sequence) or isinstance(ends, str) or len(ends) != 2:
        raise SpaceError(f"`{name}` takes two numbers [low, high], but got {ends!r}")
    return ends[0], ends[1]


def _numbers(pair: tuple[Any, Any], whole: bool) -> tuple[Any, Any]:
    return _number(pair[0], whole), _number(pair[1], whole)


def _number(value: Any, whole: bool) -> Any:
    """Plain float, or int where whole numbers are meant and it is one (`1e3`)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    if whole:
        return (
            int(value) if value == value and abs(value) < 1e300 and value == int(value) else value
        )
    return float(value)
