"""Registered data: a table or arrays, copied, hashed and described under isoflop's home.

`data/<name>/` holds `rows.npz` and `meta.json`. It is written beside its place and moved there in
one step, so a reader sees all of it or nothing.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np

from trainers.data.builtin import BUILT_IN
from trainers.data.dataset import Feature
from trainers.data.home import data_dir
from trainers.data.source import Source
from trainers.errors import DataError

META_FILE, ROWS_FILE = "meta.json", "rows.npz"
NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def register(
    name: str,
    path: str | Path,
    target: str | Sequence[str],
    *,
    task: str | None = None,
    home: str | Path | None = None,
) -> dict[str, Any]:
    """Copy a `.npz`, `.csv` or `.parquet` file to where workers read it, and describe it.

    Registering equal content again changes nothing.

    Args:
        name: how specs will call it.
        path: the file.
        target: the label or target column (or columns, or key of the .npz).
        task: `classification` or `regression`; None: decided by the target's values.
        home: folder to use in place of `$ISOFLOP_HOME`.

    Returns:
        The description that `registered` lists: name, sha256, rows, shape, task, classes, notes.

    Raises:
        DataError: for a name that is taken or malformed, for a file that cannot be used (saying
            why and what to do), and for a home that cannot be written.

    """
    if not NAME_PATTERN.fullmatch(name):
        raise DataError(f"a data name must be letters, digits, `.`, `_` and `-`, but got {name!r}")
    if name in BUILT_IN:
        raise DataError(f"`{name}` is built in; register the file under another name")
    from trainers.data.reading import read_file  # pandas: a search on built-in data needs none

    source = read_file(Path(path).expanduser(), target, task)
    meta = {
        "name": name,
        "sha256": source.sha256(),
        "target": target if isinstance(target, str) else ", ".join(target),
        "missing": 0,  # rows with missing values are refused, so none is ever stored
        **source.description(),
    }
    if name not in registered_names(home):
        _store(name, source, meta, home)
    known = read_meta(name, home)
    if known["sha256"] != meta["sha256"]:
        raise DataError(
            f"`{name}` is registered with other content (sha256 {known['sha256'][:12]}, now "
            f"{str(meta['sha256'])[:12]}), and results refer to it; choose another name, such as "
            f"`{name}-v2`"
        )
    return known


def registered(home: str | Path | None = None) -> list[dict[str, Any]]:
    """Describe every registered data set, by name."""
    return [read_meta(name, home) for name in registered_names(home)]


def registered_names(home: str | Path | None = None) -> list[str]:
    """List the names of registered data sets."""
    folder = data_dir(home)
    return sorted(path.parent.name for path in folder.glob(f"[!.]*/{META_FILE}"))


def read_meta(name: str, home: str | Path | None = None) -> dict[str, Any]:
    """Read the description of a registered data set."""
    path = data_dir(home) / name / META_FILE
    try:
        meta: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"`{path}` must describe registered data, but reading it: {error}; "
            f"remove `{path.parent}` and register `{name}` again"
        ) from error
    return meta


def read_source(name: str, home: str | Path | None = None) -> Source:
    """Read the rows of a registered data set.

    Raises:
        DataError: where they cannot be read, or differ from what was registered.

    """
    meta = read_meta(name, home)
    path = data_dir(home) / name / ROWS_FILE
    again = f"remove `{path.parent}` and register `{name}` again"
    try:
        with np.load(path, allow_pickle=False) as arrays:
            x, y = arrays["x"], arrays["y"]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(
            f"`{path}` must hold the registered rows, but reading it: {error}; {again}"
        ) from error
    source = Source(
        x=x,
        y=y,
        task=meta["task"],
        class_names=tuple(meta["classes"]),
        features=tuple(
            Feature(column=column, levels=None if levels is None else tuple(levels))
            for column, levels in meta["features"]
        ),
        notes=meta["notes"],
    )
    if source.sha256() != meta["sha256"]:
        raise DataError(
            f"the rows of `{name}` must have sha256 {meta['sha256'][:12]}, but have "
            f"{source.sha256()[:12]}: `{path}` was altered; {again}"
        )
    return source


def _store(name: str, source: Source, meta: dict[str, Any], home: str | Path | None) -> None:
    folder = data_dir(home)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        beside = Path(mkdtemp(prefix=f".{name}.", dir=folder))
    except OSError as error:
        raise DataError(
            f"registered data is kept in `{folder}`, but that cannot be written: {error}; "
            "set ISOFLOP_HOME to a folder that can"
        ) from error
    try:
        beside.chmod(0o755)  # mkdtemp's 0700 would hide the rows from workers of another user
        with (beside / ROWS_FILE).open("wb") as file:
            np.savez(file, x=source.x, y=source.y)
            file.flush()
            os.fsync(file.fileno())
        text = json.dumps(meta, indent=1)
        (beside / META_FILE).write_text(text, encoding="utf-8")
        beside.rename(folder / name)
    except OSError as error:
        if name in registered_names(home):  # another process was faster; the caller compares
            return
        raise DataError(
            f"`{name}` could not be stored in `{folder}`: {error}; free some space, or set "
            "ISOFLOP_HOME to another folder"
        ) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)  # gone already where the rename succeeded
