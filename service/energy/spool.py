"""The meter's directory: which searches are alive on this host, and the windows measured so far.

One directory per user and boot, in the system's temporary directory:

    lock                      held (flock) by the process whose meter runs; released by the kernel
    wake                      a named pipe: a byte in it closes the present window early
    members/<key>.json        one driver process of one search: its root pids
    windows-<epoch>.jsonl     header line, then a line per window, each durable (fsync)

A window line is written once and never changed, so any number of searches may read it, and
reading it twice changes nothing.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import tempfile
import threading
import time
import weakref
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.energy.processes import Processes, boot_id
from service.energy.windows import Window, member_key
from service.file_lock import lock_file
from trainers.errors import MeterError

KEEP_S = 24 * 3600.0
"""Windows are kept this long for a search that was killed and is resumed."""


_open_spools: weakref.WeakSet[Spool] = weakref.WeakSet()


def _forget_locks() -> None:
    """Close locks in a forked child, which would keep them alive after its parent was killed."""
    for spool in list(_open_spools):
        spool.unlock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_locks)


def default_spool() -> Path:
    """Return the directory that all searches of this user share on this boot of this host."""
    user = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")
    return Path(tempfile.gettempdir()) / f"isoflop-energy-{user}-{boot_id()[:8]}"


@dataclass(frozen=True, kw_only=True)
class Member:
    """A driver process of a search, and the pids whose trees are its own."""

    search_id: str
    pid: int
    started: float
    """Start time of the process, so that a reused pid is not taken for it."""
    roots: tuple[int, ...]

    @property
    def key(self) -> str:
        """Its name in windows."""
        return member_key(self.search_id, self.pid)


class Spool:
    """One host's directory of windows and members.

    Args:
        directory: made with mode 0700 if missing.

    Raises:
        MeterError: the directory belongs to somebody else, who could then read or forge windows.

    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if hasattr(os, "getuid"):
            owner = directory.stat().st_uid
            if directory.is_symlink() or owner != os.getuid():
                raise MeterError(
                    f"the meter's directory must be your own, but {directory} belongs to user "
                    f"{owner}; remove it or set TMPDIR to another place"
                )
            directory.chmod(0o700)
        (directory / "members").mkdir(mode=0o700, exist_ok=True)
        self._lock_fd: int | None = None
        self._files: dict[str, int] = {}
        self._wake = Wake(directory / "wake")
        _open_spools.add(self)

    # -- who holds the meter ------------------------------------------------------------------

    def try_lock(self) -> bool:
        """Become the one process whose meter runs; False if another is."""
        if self._lock_fd is not None:
            return True
        fd = os.open(self.directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            lock_file(fd)
        except OSError as error:
            os.close(fd)
            if error.errno in (errno.EACCES, errno.EAGAIN, errno.EDEADLK):
                return False
            raise
        self._lock_fd = fd
        return True

    def unlock(self) -> None:
        """Let another process run its meter."""
        if self._lock_fd is not None:
            with contextlib.suppress(OSError):
                os.close(self._lock_fd)
            self._lock_fd = None

    # -- members ------------------------------------------------------------------------------

    def join(self, member: Member) -> None:
        """Register a driver process (again, if its roots changed)."""
        path = self._member_path(member.key)
        text = json.dumps({**member.__dict__, "roots": list(member.roots)})
        temporary = path.with_suffix(f".tmp{os.getpid()}")
        temporary.write_text(text)
        temporary.replace(path)

    def leave(self, key: str) -> None:
        """Remove a driver process."""
        self._member_path(key).unlink(missing_ok=True)

    def _member_path(self, key: str) -> Path:
        search_id, _, pid = key.rpartition(":")
        return self.directory / "members" / f"{search_id}-{pid}.json"

    def members(self, processes: Processes) -> list[Member]:
        """Return the living members; the files of dead ones are removed."""
        living = []
        for path in sorted((self.directory / "members").glob("*.json")):
            try:
                fields = json.loads(path.read_text())
                member = Member(**{**fields, "roots": tuple(fields["roots"])})
            except (OSError, ValueError, TypeError, KeyError):
                continue  # left just now, or not ours
            stat = processes.stat(member.pid)
            if stat is None or stat.started != member.started:
                path.unlink(missing_ok=True)
            else:
                living.append(member)
        return living

    # -- windows ------------------------------------------------------------------------------

    def begin_epoch(self, epoch: str, facts: Mapping[str, Any]) -> None:
        """Start the file of a new meter epoch, and remove files nobody will ask for any more."""
        for path in self.directory.glob("windows-*.jsonl"):
            if time.time() - path.stat().st_mtime > KEEP_S:
                path.unlink(missing_ok=True)
        path = self.directory / f"windows-{epoch}.jsonl"
        self._files[epoch] = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._append(epoch, {"epoch": epoch, "facts": facts})

    def append(self, window: Window) -> None:
        """Write a window; it is durable when the call returns."""
        self._append(window.meter_epoch, window.to_row())

    def _append(self, epoch: str, line: Mapping[str, Any]) -> None:
        fd = self._files[epoch]
        os.write(fd, json.dumps(line, separators=(",", ":")).encode() + b"\n")
        os.fsync(fd)

    def end_epoch(self, epoch: str) -> None:
        """Close the file of an epoch, if it has one."""
        fd = self._files.pop(epoch, None)
        if fd is not None:
            os.close(fd)

    def reader(self) -> SpoolReader:
        """Return a reader that starts at the oldest window kept."""
        return SpoolReader(self.directory)

    # -- waking the meter ---------------------------------------------------------------------

    def wake(self) -> None:
        """Ask whoever holds the meter to close its window now."""
        self._wake.send()

    def wait(self, timeout_s: float) -> bool:
        """Wait as the meter does between windows; True if somebody called `wake`."""
        return self._wake.wait(timeout_s)

    def close(self) -> None:
        """Release the lock and the files."""
        self.unlock()
        for epoch in list(self._files):
            self.end_epoch(epoch)
        self._wake.close()


class SpoolReader:
    """Reads each line of the spool once, whichever process writes it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._offsets: dict[Path, int] = {}
        self._headers: list[bytes] = []

    def skip_to_end(self) -> None:
        """Leave out all windows written so far; what their meters are is still told by `new`."""
        for path in self._directory.glob("windows-*.jsonl"):
            with path.open("rb") as file:
                self._headers.append(file.readline())
                self._offsets[path] = path.stat().st_size

    def new(self) -> Iterator[Window | tuple[str, dict[str, Any]]]:
        """Yield what was written since the last call: windows, and (epoch, facts) of new meters."""
        headers, self._headers = self._headers, []
        yield from self._records(headers)
        for path in sorted(self._directory.glob("windows-*.jsonl")):
            offset = self._offsets.get(path, 0)
            try:
                if path.stat().st_size <= offset:
                    continue
                with path.open("rb") as file:
                    file.seek(offset)
                    data = file.read()
            except OSError:
                continue
            whole = data[: data.rfind(b"\n") + 1]  # a half-written line is read the next time
            self._offsets[path] = offset + len(whole)
            yield from self._records(whole.splitlines())

    @staticmethod
    def _records(lines: Iterable[bytes]) -> Iterator[Window | tuple[str, dict[str, Any]]]:
        for line in lines:
            try:
                record = json.loads(line)
            except ValueError:
                continue  # torn by a crash of the host: that window is a gap
            if "facts" in record:
                yield record["epoch"], record["facts"]
            else:
                yield Window.from_row(record)


class Wake:
    """Lets any process of this user end the meter's waiting. Without named pipes: this process."""

    def __init__(self, path: Path) -> None:
        self._event = threading.Event()
        self._fd: int | None = None
        if hasattr(os, "mkfifo"):
            with contextlib.suppress(FileExistsError):
                os.mkfifo(path, 0o600)
            # Opened for both directions: never blocks, and never sees "end of file".
            self._fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)

    def send(self) -> None:
        """Wake whoever waits now or next."""
        if self._fd is None:
            self._event.set()
        else:
            with contextlib.suppress(BlockingIOError):  # full: it will wake anyway
                os.write(self._fd, b"w")

    def wait(self, timeout_s: float) -> bool:
        """Return True as soon as somebody sent, False after the timeout."""
        if self._fd is None:
            woken = self._event.wait(timeout_s)
            self._event.clear()
            return woken
        ready, _, _ = select.select([self._fd], [], [], max(0.0, timeout_s))
        if ready:
            with contextlib.suppress(BlockingIOError):
                os.read(self._fd, 4096)
        return bool(ready)

    def close(self) -> None:
        """Close the pipe."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
