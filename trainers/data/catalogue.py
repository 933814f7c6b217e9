"""Which data a name stands for: built in, or registered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trainers.data.builtin import LOADERS
from trainers.data.registry import read_meta, read_source, registered_names
from trainers.data.source import Source
from trainers.errors import DataError, nearest


def find_source(name: str, home: str | Path | None = None) -> Source:
    """Read the rows of a built-in or registered data set.

    Raises:
        DataError: for an unknown name, with the nearest known one, or unreadable rows.

    """
    check_name(name, home)
    return LOADERS[name]() if name in LOADERS else read_source(name, home)


def check_name(name: str, home: str | Path | None = None) -> None:
    """Raise DataError for a name that is neither built in nor registered."""
    if name in LOADERS:
        return
    known = [*LOADERS, *registered_names(home)]
    if name not in known:
        raise DataError(
            f"no data named `{name}`{nearest(name, known)} "
            f"(register a file with `isoflop data add {name} PATH --target COLUMN`)"
        )


def source_key(name: str, home: str | Path | None = None) -> str:
    """Return what tells one source from another of the same name: its hash, where registered."""
    check_name(name, home)
    return name if name in LOADERS else str(read_meta(name, home)["sha256"])


def describe(name: str, home: str | Path | None = None) -> dict[str, Any]:
    """Return rows, shape, task, classes, hash and notes of a data set as plain values.

    Raises:
        DataError: as `find_source`.

    """
    check_name(name, home)
    if name not in LOADERS:
        return read_meta(name, home)
    source = LOADERS[name]()
    return {"name": name, "sha256": source.sha256(), **source.description()}
