"""A lock on a file that ends with the process that holds it, however it ends."""

from __future__ import annotations

import sys


def lock_file(fd: int) -> None:
    """Lock an open file without waiting. The kernel frees it when the file is closed.

    Args:
        fd: the descriptor of a file opened for writing.

    Raises:
        OSError: somebody else has it.

    """
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
