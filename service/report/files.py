"""Files that readers, and kills, never meet half written."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


def write_frame(path: Path, frame: pd.DataFrame) -> Path:
    """Write a table as Parquet."""
    return written(path, lambda place: frame.to_parquet(place, index=False))


def write_text(path: Path, text: str) -> Path:
    """Write a text in UTF-8."""
    return written(path, lambda place: place.write_text(text, encoding="utf-8"))


def written(path: Path, write: Callable[[Path], object]) -> Path:
    """Write beside `path`, then move into place: readers never see half a file."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        write(partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return path
