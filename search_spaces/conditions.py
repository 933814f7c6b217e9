"""`when`: the values of other hyperparameters under which one exists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from trainers.errors import SpaceError

Scalar: TypeAlias = str | int | float | bool | None
Conditions: TypeAlias = Mapping[str, tuple[Scalar, ...]]
"""Searched path -> the values of it under which this hyperparameter exists."""


def same(a: Any, b: Any) -> bool:
    """Equality that keeps true apart from 1, and false from 0."""
    return isinstance(a, bool) == isinstance(b, bool) and bool(a == b)


def plain_conditions(when: Conditions) -> dict[str, Any]:
    """Return the form that a spec file holds: a value, or a list of them."""
    return {path: values[0] if len(values) == 1 else list(values) for path, values in when.items()}


def as_conditions(when: Mapping[str, Any] | None) -> Conditions:
    """Turn `{path: value or list}` into the form that distributions hold.

    Raises:
        SpaceError: if `when` is no mapping, or lists no value.

    """
    if when is None:
        return {}
    if not isinstance(when, Mapping):
        raise SpaceError(f"`when` is a mapping {{path: value or list}}, but got {when!r}")
    conditions = {
        str(path): tuple(values)
        if isinstance(values, Sequence) and not isinstance(values, str)
        else (values,)
        for path, values in when.items()
    }
    for path, values in conditions.items():
        if not values:
            raise SpaceError(f"`when` on `{path}` lists no value, so it never holds; name one")
    return conditions
