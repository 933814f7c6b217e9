"""Files of rows: `.npz` arrays, and `.csv` and `.parquet` tables."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast, get_args

import numpy as np
import pandas as pd

from trainers.data.encoding import check_features, encode, fit_features
from trainers.data.source import Source
from trainers.data.targets import read_targets
from trainers.errors import DataError, nearest
from trainers.losses import Task

FEATURE_KEYS = ("X", "x", "data")
"""Names under which an .npz may hold its features."""
SUFFIXES = (".npz", ".csv", ".parquet")
IMAGE_CHANNELS = (1, 3, 4)
TASKS: tuple[str, ...] = get_args(Task)


def read_file(path: Path, target: str | Sequence[str], task: str | None = None) -> Source:
    """Read, check and encode a file of rows.

    Raises:
        DataError: for a file that is missing, unreadable, empty or of another kind, for missing
            target columns or labels, for NaN or infinite features, and for text columns with too
            many levels to encode.

    """
    check_file(path)
    if task is not None and task not in TASKS:
        raise DataError(f"the task must be one of {TASKS}, but got {task!r}{nearest(task, TASKS)}")
    targets = [target] if isinstance(target, str) else list(target)
    if not targets:
        raise DataError("data needs at least one target column, but got none; name it by --target")
    reader = _read_npz if path.suffix.lower() == ".npz" else _read_table
    return reader(path, targets, cast("Task | None", task))


def read_features(path: Path) -> pd.DataFrame | np.ndarray:
    """Read rows to predict, as `Predictor.predict` takes them: a table, or an .npz's features.

    A table may still hold its target and other columns; the predictor takes those it knows.

    Raises:
        DataError: as `read_file`, but for targets.

    """
    check_file(path)
    if path.suffix.lower() != ".npz":
        return _read_frame(path)
    arrays = _read_arrays(path)
    return arrays[_feature_key(path, arrays, [])]


def check_file(path: Path) -> None:
    """Raise DataError where the path is a folder, no file, has an unknown suffix, or is empty."""
    if path.is_dir():
        raise DataError(
            f"data must be a .npz, .csv or .parquet file, but `{path}` is a folder; name a file in "
            "it, or put its rows into one table"
        )
    if not path.is_file():
        raise DataError(f"`{path}` must be a file, but there is none; check the path")
    if path.suffix.lower() not in SUFFIXES:
        raise DataError(
            f"data must be a .npz, .csv or .parquet file, but got `{path.name}`; convert it, e.g. "
            "with pandas' `DataFrame.to_parquet` or `numpy.savez`"
        )
    if path.stat().st_size == 0:
        raise DataError(f"`{path}` must hold rows, but the file is empty")


def _read_table(path: Path, targets: list[str], task: Task | None) -> Source:
    frame = _read_frame(path)
    columns = [str(column) for column in frame.columns]
    frame.columns = pd.Index(columns)
    for column in targets:
        if column not in columns:
            raise DataError(
                f"`{path.name}` has no target column `{column}`{nearest(column, columns)}"
            )
    if len(set(columns)) < len(columns):
        twice = sorted({column for column in columns if columns.count(column) > 1})
        raise DataError(f"columns of `{path.name}` must differ, but {twice} occur twice; rename")
    if frame.empty:
        raise DataError(f"`{path.name}` must hold rows, but has only its header")
    rows = frame.drop(columns=targets)
    if rows.shape[1] == 0:
        raise DataError(
            f"`{path.name}` must hold features beside the target, but has only {columns}"
        )
    y = read_targets([frame[column] for column in targets], task)
    features, notes = fit_features(rows)
    return Source(
        x=encode(rows, features),
        y=y.values,
        task=y.task,
        class_names=y.class_names,
        features=features,
        notes={"origin": path.name, "task": y.reason, **notes},
    )


def _read_frame(path: Path) -> pd.DataFrame:
    try:
        if path.suffix.lower() == ".csv":
            return pd.read_csv(path)
        return pd.read_parquet(path)
    except pd.errors.EmptyDataError as error:
        raise DataError(f"`{path}` must hold rows, but the file is empty") from error
    except (OSError, ValueError) as error:  # parser, encoding and pyarrow errors are ValueErrors
        raise DataError(
            f"`{path}` must be a readable {path.suffix} table, but reading it raised "
            f"{type(error).__name__}: {error}; open and save it again"
        ) from error


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(
            f"`{path}` must be an .npz of plain arrays, but reading it raised "
            f"{type(error).__name__}: {error}; save it again by numpy.savez, without objects"
        ) from error


def _feature_key(path: Path, arrays: Mapping[str, np.ndarray], targets: Sequence[str]) -> str:
    for key in FEATURE_KEYS:
        if key in arrays and key not in targets:
            return key
    raise DataError(
        f"`{path.name}` must hold its features under one of {', '.join(FEATURE_KEYS)}, but "
        f"has {sorted(arrays)}; save it as numpy.savez(path, X=..., y=...)"
    )


def _read_npz(path: Path, targets: list[str], task: Task | None) -> Source:
    arrays = _read_arrays(path)
    key = _feature_key(path, arrays, targets)
    for name in targets:
        if name not in arrays:
            others = [other for other in arrays if other != key]
            raise DataError(
                f"`{path.name}` has no target array `{name}`{nearest(name, others or ['y'])}"
            )
    x, layout = _features_of(arrays[key], key, path.name)
    for name in targets:
        if arrays[name].ndim not in (1, 2) or len(arrays[name]) != len(x):
            raise DataError(
                f"`{name}` must have one label or row of numbers per row of `{key}`, but the "
                f"shapes are {arrays[name].shape} and {arrays[key].shape}"
            )
    y = read_targets([column for name in targets for column in _columns(name, arrays[name])], task)
    return Source(
        x=x,
        y=y.values,
        task=y.task,
        class_names=y.class_names,
        notes={"origin": path.name, "task": y.reason, "layout": layout},
    )


def _columns(name: str, values: np.ndarray) -> list[pd.Series]:
    """Return [N] or [N, K] as named columns."""
    if values.dtype.kind == "S":
        values = values.astype(str)
    if values.ndim == 1:
        return [pd.Series(values, name=name)]
    num_columns = values.shape[1]
    names = [name] if num_columns == 1 else [f"{name}[{column}]" for column in range(num_columns)]
    return [pd.Series(values[:, column], name=names[column]) for column in range(num_columns)]


def _features_of(x: np.ndarray, key: str, file: str) -> tuple[np.ndarray, str]:
    """Return features as float32 in torch's layout, channels first, and how they were read."""
    what = f"`{key}` of `{file}`"
    if x.ndim == 0 or x.size == 0:
        raise DataError(f"{what} must hold rows, but has shape {x.shape}")
    if x.dtype.kind not in "fiub":
        raise DataError(
            f"{what} must be numbers, but is of type {x.dtype}; encode text as numbers, or "
            "register a .csv, whose text columns are one-hot encoded"
        )
    x, layout = channels_first(x)
    x = np.ascontiguousarray(x, dtype=np.float32)
    is_table = x.ndim == 2
    check_features(x, [f"{key}[{column}]" for column in range(x.shape[1])] if is_table else [key])
    return x, layout


def channels_first(x: np.ndarray) -> tuple[np.ndarray, str]:
    """Return rows x [N, ...] in torch's layout, and how their shape was understood."""
    shape = tuple(x.shape[1:])
    if x.ndim == 1:
        return x[:, None], "one feature per row"
    if x.ndim == 3 and shape[0] == shape[1]:
        return x[:, None], f"{shape} is square, so rows are one-channel images (1, {shape[0]}, ...)"
    if x.ndim == 3:
        return x, f"{shape} is read as (channels, length); save images as (1, height, width)"
    if x.ndim == 4 and shape[2] in IMAGE_CHANNELS and shape[0] not in IMAGE_CHANNELS:
        return np.moveaxis(x, 3, 1), f"{shape} has its channels last; they were moved first"
    return x, f"rows keep their shape {shape}"
