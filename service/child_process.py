"""What this process and a helper of its own say to each other: pickles, length first, over pipes.

A helper is `python -m MODULE`, not a multiprocessing child: spawning through multiprocessing runs
the user's main script again, which breaks every script without an `if __name__ == "__main__"`
guard. It ends when its stdin closes, so it never outlives its parent, even one that was killed.
"""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from typing import IO

_LENGTH = struct.Struct("<Q")


def start_child(module: str) -> subprocess.Popen[bytes]:
    """Start `python -m module` with pipes: the same imports as here, and one thread.

    A helper's matrices are small; more threads than free cores only take time from the workers.
    """
    paths = [path or os.getcwd() for path in sys.path]
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    return subprocess.Popen(
        [sys.executable, "-m", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, **threads, "PYTHONPATH": os.pathsep.join(paths)},
    )


def own_pipes() -> tuple[IO[bytes], IO[bytes]]:
    """Return the helper's stream of requests and that of its answers.

    Whatever a library prints from now on goes to stderr, not between the answers.
    """
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return sys.stdin.buffer, answers


def write_frame(stream: IO[bytes], payload: bytes) -> None:
    """Write one message, length first."""
    stream.write(_LENGTH.pack(len(payload)) + payload)
    stream.flush()


def read_frame(stream: IO[bytes]) -> bytes | None:
    """Read one message; None where the stream ends, or breaks off in the middle of one."""
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    payload = stream.read(length)
    return payload if len(payload) == length else None
