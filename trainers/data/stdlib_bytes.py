"""The source text of Python's standard library as bytes: a language model's data, always at hand.

Files are taken in the order of their paths, whole, until a MiB is full. The text is that of the
interpreter that runs, so it differs between Python versions, and the data's hash with it.
"""

from __future__ import annotations

import hashlib
import platform
import sysconfig
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from trainers.data.source import Source
from trainers.errors import DataError

NUM_BYTES = 1 << 20
LARGE_NUM_BYTES = 8 << 20
NOT_LIBRARY = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"}
NUM_TOKENS = 256
"""Every value that a byte can have."""


def load_stdlib_bytes() -> Source:
    """Return the first MiB of the standard library's modules (packages left out), as bytes.

    Raises:
        DataError: where this Python carries less source text, as a frozen application does.

    """
    folder = _library()
    return _joined("stdlib-bytes", sorted(folder.glob("*.py")), NUM_BYTES)


def load_stdlib_text() -> Source:
    """Return 8 MiB of the standard library with its packages: all but tests and what is installed.

    Files come in an order that their paths' hashes decide, so that validation text, which is cut
    off the end, is of the same kind as training text and not the library's last packages alone.

    Raises:
        DataError: where this Python carries less source text, as a frozen application does.

    """
    folder = _library()
    files = [
        path
        for path in folder.rglob("*.py")
        if not NOT_LIBRARY.intersection(path.relative_to(folder).parts)
    ]
    files.sort(key=lambda path: _hash(path.relative_to(folder)))
    return _joined("stdlib-bytes-8m", files, LARGE_NUM_BYTES)


def _library() -> Path:
    return Path(sysconfig.get_paths()["stdlib"])


def _hash(path: Path) -> str:
    return hashlib.sha256(path.as_posix().encode()).hexdigest()


def _joined(name: str, files: Sequence[Path], num_bytes: int) -> Source:
    """Return the first bytes of the files, one after the other."""
    parts, size = [], 0
    for path in files:
        parts.append(path.read_bytes())
        size += len(parts[-1])
        if size >= num_bytes:
            break
    if size < num_bytes:
        raise DataError(
            f"`{name}` needs {num_bytes:,} bytes of the standard library's source, but "
            f"`{_library()}` has {size:,} in its modules; use a Python with its library as files"
        )
    text = np.frombuffer(b"".join(parts), dtype=np.uint8)[:num_bytes]
    return Source(
        x=text,
        y=np.empty(0, dtype=np.int64),
        task="language",
        class_names=tuple(str(value) for value in range(NUM_TOKENS)),
        notes={"origin": f"{len(parts)} modules of Python {platform.python_version()}'s library"},
    )
