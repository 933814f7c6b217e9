"""Plain values to text and back, without losing what JSON cannot say.

JSON has no NaN and no infinity, PostgreSQL refuses them, and SQLite turns a NaN in a REAL column
into NULL. So a non-finite float is written as `{"$float": "nan"}`, and an epoch's NaN is kept in
the row's `extras`, where NULL in a metric's own column always means "not measured".
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

from sqlalchemy.engine import RowMapping

COMMON_METRICS = (
    "train_loss",
    "val_loss",
    "val_error",
    "val_rmse",
    "val_r2",
    "lr",
    "grad_norm",
    "best_val_loss",
    "best_epoch",
)
"""Metrics with a column of their own in the table of epochs."""

_TAG = "$float"
_NON_FINITE = ("nan", "inf", "-inf")


def dumps(value: Any) -> str:
    """Write plain values (also numpy's, tuples and any mapping) as JSON text, in their order."""
    try:
        return json.dumps(value, allow_nan=False, default=_plain, separators=(",", ":"))
    except ValueError:  # a NaN or an infinity somewhere inside: rare, so paid for only then
        return json.dumps(_tagged(value), allow_nan=False, default=_plain, separators=(",", ":"))


def loads(text: str | bytes) -> Any:
    """Read what `dumps` wrote; tuples come back as lists."""
    tag = _TAG if isinstance(text, str) else _TAG.encode()
    return json.loads(text, object_hook=_untagged if tag in text else None)  # type: ignore[operator]


class StoredMapping(Mapping[str, Any]):
    """A mapping that is read from its text when somebody first looks into it.

    Most readers of trials never look at the configs, which are nine tenths of the text.
    """

    def __init__(self, text: str) -> None:
        self._text = text

    @cached_property
    def _values(self) -> dict[str, Any]:
        values: dict[str, Any] = loads(self._text)
        return values

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return repr(self._values)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if hasattr(value, "tolist"):  # numpy scalars and arrays
        return value.tolist()
    if isinstance(value, set | frozenset):
        return sorted(value)
    return str(value)  # paths, dates, enums


def _tagged(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return {_TAG: repr(float(value))}
    if isinstance(value, Mapping):
        return {key: _tagged(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_tagged(inner) for inner in value]
    if hasattr(value, "tolist"):
        return _tagged(value.tolist())
    return value


def _untagged(node: dict[str, Any]) -> Any:
    if len(node) == 1 and node.get(_TAG) in _NON_FINITE:
        return float(node[_TAG])
    return node


def split_metrics(metrics: Mapping[str, float]) -> dict[str, Any]:
    """Turn an epoch's metrics into columns: the common ones, and `extras` for all others."""
    row: dict[str, Any] = dict.fromkeys(COMMON_METRICS)
    extras: dict[str, Any] = {}
    for name, value in metrics.items():
        if name in row and not math.isnan(value):
            row[name] = float(value)
        else:
            extras[name] = value
    row["extras"] = extras or None
    return row


def join_metrics(row: RowMapping) -> dict[str, float]:
    """Undo `split_metrics`: the common metrics first, in the order of their columns."""
    metrics = {name: row[name] for name in COMMON_METRICS if row[name] is not None}
    return {**metrics, **(row["extras"] or {})}
