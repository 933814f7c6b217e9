"""From a table's own columns to the canonical ones, with every row checked."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from trainers.errors import DataError, nearest

SIZES = ("params", "tokens", "flops")
CANONICAL = ("run", "by", *SIZES, "loss", "weight", "kwh", "seed", "source_line")
POSITIVE = (*SIZES, "loss", "weight")
SHOWN_LINES = 5


def missing_size(**columns: str | None) -> str | None:
    """Return which of params, tokens and flops has to be derived; None if all are given.

    Raises:
        DataError: if fewer than two are given, or one column is given twice.

    """
    given = {size: name for size, name in columns.items() if name is not None}
    if len(set(given.values())) < len(given):
        name = next(name for name in given.values() if list(given.values()).count(name) > 1)
        raise DataError(
            f"params, tokens and flops are columns of their own, but `{name}` is named twice; "
            "leave one out, the third follows from flops = 6 x params x tokens"
        )
    if len(given) < 2:
        named = ", ".join(f"{size}={name!r}" for size, name in given.items()) or "none"
        raise DataError(
            f"points need columns for two of params, tokens and flops, but got {named}; name "
            "another, the third follows from flops = 6 x params x tokens"
        )
    return next((size for size in SIZES if size not in given), None)


def canonical(source: pd.DataFrame, roles: Mapping[str, str]) -> pd.DataFrame:
    """Return `source` with the canonical columns first and its other columns behind.

    Args:
        source: a table of R rows with a column `source_line`.
        roles: canonical name -> the source's column. A size that is not named is left NaN.

    Raises:
        DataError: if a column is missing, a row breaks a rule, or there is no row.

    """
    names = [str(column) for column in source.columns if column != "source_line"]
    for name in names:
        if names.count(name) > 1:
            raise DataError(f"columns need names of their own, but several are called `{name}`")
    for role, name in roles.items():
        if name not in names:
            raise DataError(f"{role}: the table has no column `{name}`{nearest(name, names)}")
    if source.empty:
        raise DataError("points need at least one row, but none is left; check the file and where")
    lines = source["source_line"].to_numpy()
    columns: dict[str, object] = {
        "run": _text(source, roles["run"]) if "run" in roles else lines.astype(str),
        "by": _text(source, roles["by"]) if "by" in roles else "",
    }
    for role in (*SIZES, "loss", "weight", "kwh"):
        empty = 1.0 if role == "weight" else np.nan
        columns[role] = _numbers(source, role, roles[role]) if role in roles else empty
    columns["seed"] = _seeds(source, roles["seed"]) if "seed" in roles else pd.NA
    columns["source_line"] = lines
    table = pd.DataFrame(columns, index=source.index).astype({"seed": "Int64"})
    rest = source.drop(columns=["source_line", *set(roles.values())])
    # A column that happens to be called `loss` but is not the loss keeps its values.
    rest = rest.rename(columns={name: f"source.{name}" for name in rest if name in CANONICAL})
    return pd.concat([table, rest], axis=1)


def _text(source: pd.DataFrame, name: str) -> pd.Series:
    values = source[name]
    advice = "fill them, or take those rows out of the file"
    _refuse_rows(source, values.isna(), name, "must not be empty", values, advice)
    return values.astype(str)


def _numbers(source: pd.DataFrame, role: str, name: str) -> pd.Series:
    """Return a column as floats.

    Sizes, loss and weight must be positive and finite; kWh must not be negative, and an empty cell
    means unknown.
    """
    raw = source[name]
    values = pd.to_numeric(raw, errors="coerce").astype(float)
    finite = values.abs() < np.inf
    if role in POSITIVE:
        bad = ~(finite & (values > 0))
        _refuse_rows(source, bad, name, "must be positive, finite numbers", raw)
    else:
        bad = ~raw.isna() & ~(finite & (values >= 0))
        _refuse_rows(source, bad, name, "must be numbers of at least 0, or empty", raw)
    return values


def _seeds(source: pd.DataFrame, name: str) -> pd.Series:
    raw = source[name]
    values = pd.to_numeric(raw, errors="coerce").astype(float)
    bad = ~raw.isna() & ~(values % 1 == 0)
    _refuse_rows(source, bad, name, "must be whole numbers, or empty", raw)
    return values.astype("Int64")


def _refuse_rows(
    source: pd.DataFrame,
    bad: pd.Series,
    name: str,
    rule: str,
    raw: pd.Series,
    advice: str | None = None,
) -> None:
    if not bad.any():
        return
    first = source.loc[bad, "source_line"].iloc[:SHOWN_LINES]
    shown = ", ".join(f"line {line}: {_shown(raw.loc[index])}" for index, line in first.items())
    more = int(bad.sum()) - len(first)
    rest = f" and {more} more" if more > 0 else ""
    quoted = name if name.replace(".", "_").isidentifier() else f"`{name}`"
    advice = advice or f'correct them, or leave them out, e.g. where "{quoted} > 0"'
    raise DataError(
        f"values of `{name}` {rule}, but {int(bad.sum())} of {len(bad)} rows are not ({shown}"
        f"{rest}); {advice}"
    )


def _shown(value: object) -> str:
    if value is None or value is pd.NA or value != value:
        return "empty"
    return repr(value) if isinstance(value, str) else str(value)
