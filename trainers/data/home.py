"""Where isoflop keeps registered data: `$ISOFLOP_HOME/data`, or `~/.isoflop/data`."""

from __future__ import annotations

import os
from pathlib import Path


def data_dir(home: str | Path | None = None) -> Path:
    """Return the folder of registered data; it need not exist yet."""
    root = home if home is not None else os.environ.get("ISOFLOP_HOME", "~/.isoflop")
    return Path(root).expanduser() / "data"
