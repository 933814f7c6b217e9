"""Table columns as features: numbers as they are, text columns one-hot, or refused."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from trainers.data.dataset import Feature
from trainers.errors import DataError

MAX_LEVELS = 50
"""Text columns with fewer levels are one-hot encoded; more are refused."""
SHOWN = 5
"""Names in one message."""


def fit_features(rows: pd.DataFrame) -> tuple[tuple[Feature, ...], dict[str, str]]:
    """Decide how each column becomes features, with a note for each that is not a number.

    Raises:
        DataError: for missing values, for text columns with `MAX_LEVELS` levels or more, and for
            columns that are neither numbers nor text.

    """
    missing = {str(column): int(count) for column, count in rows.isna().sum().items() if count}
    _refuse_unusable(missing, "NaN or empty")
    features: list[Feature] = []
    notes: dict[str, str] = {}
    for column in rows.columns:
        values = rows[column]
        if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_complex_dtype(values):
            features.append(Feature(column=column))
            continue
        if not _is_text(values):
            raise DataError(
                f"feature columns must be numbers or text, but `{column}` is of type "
                f"{values.dtype}; turn it into numbers (a date, say, into days) or drop it"
            )
        levels = tuple(sorted(values.astype(str).unique()))
        if len(levels) >= MAX_LEVELS:
            raise DataError(
                f"text columns are one-hot encoded up to {MAX_LEVELS - 1} levels, but `{column}` "
                f"has {len(levels)} ({', '.join(levels[:SHOWN])}, ...); drop the column if it is "
                "an identifier, or encode it as numbers"
            )
        features.append(Feature(column=column, levels=levels))
        notes[f"column {column}"] = f"text with {len(levels)} levels, one-hot encoded"
    return tuple(features), notes


def encode(rows: pd.DataFrame, features: Sequence[Feature]) -> np.ndarray:
    """Encode rows by fitted features: float32 [N, d]; a level never seen becomes all zeros.

    Raises:
        DataError: for a missing column, text where numbers belong, and NaN or infinite values.

    """
    rows = rows.rename(columns=str)
    blocks: list[np.ndarray] = []
    names: list[str] = []
    absent = [feature.column for feature in features if feature.column not in rows.columns]
    if absent:
        raise DataError(
            f"rows must have the columns trained on, but {absent[:SHOWN]} are missing; "
            f"got {[str(column) for column in rows.columns][:SHOWN]}"
        )
    for feature in features:
        values = rows[feature.column]
        if feature.levels is not None:
            levels = np.array(feature.levels, dtype=object)
            text = values.astype(str).to_numpy(dtype=object)
            blocks.append((text[:, None] == levels[None, :]).astype(np.float32))
            names += [f"{feature.column}={level}" for level in feature.levels]
            continue
        try:
            blocks.append(values.to_numpy(dtype=np.float32, na_value=np.nan)[:, None])
        except (ValueError, TypeError) as error:
            raise DataError(
                f"column `{feature.column}` must be numbers, as it was in training: {error}"
            ) from error
        names.append(feature.column)
    x = np.concatenate(blocks, axis=1)
    check_features(x, names)
    return x


def check_features(x: np.ndarray, names: Sequence[str]) -> None:
    """Raise DataError naming each column with NaN or infinite values, and how many.

    Args:
        x: [N, ...]; where there are not as many names as columns, all values count as one.
        names: one per column of [N, d], or a single one.

    """
    bad = ~np.isfinite(x)
    if not bad.any():
        return
    counts = bad.sum(axis=0) if len(names) == x.shape[1] and x.ndim == 2 else [bad.sum()]
    found = {name: int(count) for name, count in zip(names, counts, strict=True) if count}
    _refuse_unusable(found, "NaN or infinite")


def _refuse_unusable(counts: dict[str, int], what: str) -> None:
    if not counts:
        return
    shown = ", ".join(f"`{name}`: {count}" for name, count in list(counts.items())[:SHOWN])
    more = f" and {len(counts) - SHOWN} more columns" if len(counts) > SHOWN else ""
    raise DataError(
        f"features must be finite numbers, but there are {what} values in {shown}{more}; fill "
        "them (pandas' `fillna`) or drop those rows (`dropna`) or columns"
    )


def _is_text(values: pd.Series) -> bool:
    if isinstance(values.dtype, pd.CategoricalDtype):
        return True
    return bool(pd.api.types.is_string_dtype(values))
