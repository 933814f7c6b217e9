"""Labels or numbers: which task a target column means, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from trainers.errors import DataError
from trainers.losses import Task

MAX_INTEGER_CLASSES = 100
"""Whole numbers with more distinct values than this are taken for quantities."""
MAX_FLOAT_CLASSES = 20
"""The same for whole numbers stored as floats, which are rarely labels."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Targets:
    """Targets as a loss takes them: int64 [N] class indices, or float32 [N, K] numbers."""

    values: np.ndarray
    task: Task
    class_names: tuple[str, ...]
    reason: str
    """Why this task."""


def read_targets(columns: Sequence[pd.Series], task: Task | None = None) -> Targets:
    """Read target columns, each with N values, and decide the task unless it is given.

    Raises:
        DataError: for missing labels, infinite numbers, text where numbers are asked for, a
            single class or nearly as many as rows, or several columns of classes.

    """
    for column in columns:
        _refuse_missing(column)
    if task is None:
        task, reason = decide_task(columns)
    else:
        reason = f"{task}, as asked for"
    if task == "regression":
        return _numbers(columns, reason)
    if len(columns) > 1:
        raise DataError(
            f"classes must be in one target column, but got {[str(c.name) for c in columns]}; "
            "name one of them, or ask for task `regression`"
        )
    return _classes(columns[0], reason)


def decide_task(columns: Sequence[pd.Series]) -> tuple[Task, str]:
    """Return the task that the targets' type and number of distinct values suggest, and why."""
    if len(columns) > 1:
        return "regression", f"regression, because there are {len(columns)} target columns"
    values = columns[0]
    num_levels = int(values.nunique())
    if pd.api.types.is_bool_dtype(values) or not pd.api.types.is_numeric_dtype(values):
        return "classification", f"classification, because labels are of type {values.dtype}"
    is_integer = pd.api.types.is_integer_dtype(values)
    limit = MAX_INTEGER_CLASSES if is_integer else MAX_FLOAT_CLASSES
    numbers = values.to_numpy(dtype=np.float64)
    is_whole = is_integer or bool(np.all(numbers == np.floor(numbers)))
    kind = "whole" if is_whole else "fractional"
    found = f"the target's {num_levels} distinct values are {kind} numbers of type {values.dtype}"
    # Where nearly every row has a value of its own, the values cannot be classes.
    if is_whole and num_levels <= limit and num_levels <= max(2, len(values) // 2):
        return "classification", f"classification, because {found}"
    return "regression", f"regression, because {found}"


def _refuse_missing(column: pd.Series) -> None:
    missing = column.isna()
    if not pd.api.types.is_numeric_dtype(column):
        missing = missing | (column.astype(str).str.strip() == "")
    count = int(missing.sum())
    if count:
        first = int(np.flatnonzero(missing.to_numpy())[0])
        raise DataError(
            f"every row needs a label, but `{column.name}` has none in {count} of {len(column)} "
            f"rows (the first is row {first}); fill or drop those rows"
        )


def _numbers(columns: Sequence[pd.Series], reason: str) -> Targets:
    try:
        arrays = [column.to_numpy(dtype=np.float32) for column in columns]
    except (ValueError, TypeError) as error:
        raise DataError(
            f"regression needs numbers as targets, but {error}; ask for task `classification`"
        ) from error
    values = np.stack(arrays, axis=1)
    if not np.isfinite(values).all():
        count = int((~np.isfinite(values)).sum())
        raise DataError(f"targets must be finite, but {count} values are not; drop those rows")
    return Targets(values=values, task="regression", class_names=(), reason=reason)


def _classes(column: pd.Series, reason: str) -> Targets:
    is_number = pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
    labels = column.to_numpy() if is_number else column.astype(str).to_numpy(dtype=object)
    levels, values = np.unique(labels, return_inverse=True)
    if len(levels) < 2:
        raise DataError(
            f"classification needs at least 2 classes, but `{column.name}` holds only "
            f"{levels[0]!r}; check the target column"
        )
    if len(levels) > max(2, len(labels) // 2):
        raise DataError(
            f"a class needs at least two rows on average, but `{column.name}` has {len(levels)} "
            f"distinct labels in {len(labels)} rows; it may be an identifier: choose another "
            "target, or ask for task `regression` where it is a quantity"
        )
    names = tuple(_label(level) for level in levels)
    return Targets(
        values=values.astype(np.int64), task="classification", class_names=names, reason=reason
    )


def _label(level: object) -> str:
    """Write a class as its name: whole floats without their `.0`."""
    if isinstance(level, (float, np.floating)) and float(level).is_integer():
        return str(int(level))
    return str(level)
