"""Where a hyperparameter's meaning ends: a dropout rate is below 1, a width at least 1.

Read from the rules of the trial's configuration, so that widening an interval without `limits`
never leaves what a trial accepts.
"""

from __future__ import annotations

import math
from typing import Any, get_args

import annotated_types
from pydantic import BaseModel

from search_spaces.intervals import Interval
from trainers.config import TrialConfig

_BOUNDS = ("ge", "gt", "le", "lt")


def natural_limits(path: str, interval: Interval) -> tuple[float, float]:
    """Return the ends that an interval at `path` may be widened to.

    An end that the configuration excludes (dropout < 1) is approached by half the way that is
    left. Paths that the configuration does not know (a factory's own) are unbounded, but for
    log scales, which stay above 0.
    """
    low, high = -math.inf, math.inf
    for rule in _rules(path):
        bound = next((float(getattr(rule, n)) for n in _BOUNDS if hasattr(rule, n)), None)
        if bound is None:
            continue
        if isinstance(rule, annotated_types.Ge):
            low = max(low, bound)
        elif isinstance(rule, annotated_types.Gt) and not (interval.log and bound <= 0):
            low = max(low, (interval.low + bound) / 2)
        elif isinstance(rule, annotated_types.Le):
            high = min(high, bound)
        elif isinstance(rule, annotated_types.Lt):
            high = min(high, (interval.high + bound) / 2)
    if interval.log and low <= 0:
        low = 0.0 if interval.spacing is None else interval.spacing
    return min(low, interval.low), max(high, interval.high)


def _rules(path: str) -> list[Any]:
    """List the field's rules, those inside `X | None` included."""
    model: Any = TrialConfig
    *parents, leaf = path.split(".")
    for part in parents:
        field = model.model_fields.get(part) if _is_model(model) else None
        model = field.annotation if field is not None else None
    field = model.model_fields.get(leaf) if _is_model(model) else None
    if field is None:
        return []
    return [*field.metadata, *_inner_rules(field.annotation)]


def _is_model(model: Any) -> bool:
    return isinstance(model, type) and issubclass(model, BaseModel)


def _inner_rules(annotation: Any) -> list[Any]:
    found: list[Any] = []
    for argument in get_args(annotation):
        metadata = getattr(argument, "__metadata__", ())
        for rule in metadata:
            found += getattr(rule, "metadata", None) or [rule]
        found += _inner_rules(argument)
    return found
