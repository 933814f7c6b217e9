"""The source text of Python's standard library as bytes: a language model's data, always at hand.

Files are taken in the order of their paths, whole, until a MiB is full. The text is that of the
interpreter that runs, so it differs between Python versions, and the data's hash with it.
"""

from __future__ import annotations

import platform
import sysconfig
from pathlib import Path

import numpy as np

from trainers.data.source import Source
from trainers.errors import DataError

NUM_BYTES = 1 << 20
NUM_TOKENS = 256
"""Every value that a byte can have."""


def load_stdlib_bytes() -> Source:
    """Return the first MiB of the standard library's modules (packages left out), as bytes.

    Raises:
        DataError: where this Python carries less source text, as a frozen application does.

    """
    folder = Path(sysconfig.get_paths()["stdlib"])
    parts, size = [], 0
    for path in sorted(folder.glob("*.py")):
        parts.append(path.read_bytes())
        size += len(parts[-1])
        if size >= NUM_BYTES:
            break
    if size < NUM_BYTES:
        raise DataError(
            f"`stdlib-bytes` needs {NUM_BYTES:,} bytes of the standard library's source, but "
            f"`{folder}` has {size:,} in its modules; use a Python with its library as files"
        )
    text = np.frombuffer(b"".join(parts), dtype=np.uint8)[:NUM_BYTES]
    return Source(
        x=text,
        y=np.empty(0, dtype=np.int64),
        task="language",
        class_names=tuple(str(value) for value in range(NUM_TOKENS)),
        notes={"origin": f"{len(parts)} modules of Python {platform.python_version()}'s library"},
    )
