"""One Optuna distribution per searched path, valid for every round of a search.

Optuna wants a parameter to keep its kind, and a choice its options, over a whole study. Our
rounds narrow, widen and drop options. So each path gets the union of what its rounds allowed and
of what its trials took (a baseline may lie outside).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from service.ledger.codec import dumps

_INTERVALS = ("uniform", "log_uniform", "int", "log_int")
_LOG = ("log_uniform", "log_int")


def distributions(
    params: Sequence[Mapping[str, Any]], spaces: Iterable[Mapping[str, Any]]
) -> dict[str, BaseDistribution]:
    """Return a distribution for each path that any trial has a value of.

    Args:
        params: dotted path -> value, per trial.
        spaces: dotted path -> a choice or an interval as spec files write them, per round.

    """
    rounds = list(spaces)
    paths = dict.fromkeys(path for values in params for path in values)
    return {
        path: _distribution(
            [values[path] for values in params if path in values],
            [space[path] for space in rounds if path in space],
        )
        for path in paths
    }


def as_choice(value: Any) -> Any:
    """Return the value as an option of a choice: Optuna's hold no lists or mappings."""
    return value if isinstance(value, None | bool | int | float | str) else dumps(value)


def _distribution(values: Sequence[Any], dimensions: Sequence[Any]) -> BaseDistribution:
    options: list[Any] = []
    ends: list[float] = []
    kinds: set[str] = set()
    for dimension in dimensions:
        if isinstance(dimension, Mapping) and (kind := _interval_kind(dimension)) is not None:
            kinds.add(kind)
            ends += dimension[kind]
        elif isinstance(dimension, Mapping):
            options += dimension.get("choice", ())
        else:
            options += dimension
    numbers = [*ends, *values]
    if options or not all(_is_number(number) for number in numbers):
        return CategoricalDistribution(_distinct([*options, *numbers]))
    low, high = min(numbers), max(numbers)
    log = bool(kinds) and kinds <= set(_LOG) and low > 0
    if all(isinstance(number, int) for number in values) and not kinds & {"uniform", "log_uniform"}:
        return IntDistribution(int(low), int(high), log=log)
    return FloatDistribution(float(low), float(high), log=log)


def _interval_kind(dimension: Mapping[str, Any]) -> str | None:
    return next((kind for kind in _INTERVALS if kind in dimension), None)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _distinct(values: Iterable[Any]) -> list[Any]:
    """Drop repeats in order of appearance; true and 1 are not the same."""
    return list({(type(v), v): v for v in map(as_choice, values)}.values())
