"""Removing files of searches: all of one that is deleted, checkpoints where room is needed."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from service.ledger import Ledger
from service.ledger.records import SearchRecord

OUTPUTS = (
    "report.html", "summary.json", "best.yaml", "weights.pt", "trials.csv", "trials.parquet",
    "curves.parquet", "energy.parquet", "study.json", "points.parquet",
)  # fmt: skip
"""What a search writes into its folder; anything else there is not ours to remove."""
DAY_S = 86_400.0
ENDED = ("finished", "stopped", "interrupted", "failed", "recipe_stopped")


@dataclass(frozen=True, kw_only=True)
class Removed:
    """What was freed, and of which searches."""

    num_bytes: int
    num_files: int
    search_ids: tuple[str, ...]


def delete_search(ledger: Ledger, search_id: str) -> Removed:
    """Delete a search from the ledger, then its files; its energy stays booked.

    Raises:
        MissingError: there is no such search.
        LedgerError: it is running.

    """
    search = ledger.search(search_id)
    ledger.delete_search(search_id)
    folder = Path(search.out_dir) if search.out_dir else None
    if folder is None or not folder.is_dir():
        return Removed(num_bytes=0, num_files=0, search_ids=(search_id,))
    files = [folder / name for name in OUTPUTS if (folder / name).is_file()]
    freed = _unlink([*files, *_checkpoints(search)])
    for empty in (folder / "checkpoints", folder):
        with suppress(OSError):  # something else lies there
            empty.rmdir()
    return Removed(num_bytes=freed, num_files=len(files), search_ids=(search_id,))


def collect_garbage(
    ledger: Ledger,
    *,
    days: float | None = None,
    max_gb: float | None = None,
    now_unix_s: float | None = None,
) -> Removed:
    """Remove checkpoints of ended searches: of old ones, and the oldest until enough is left.

    Without its checkpoints a search can still be read, and be extended by training anew.

    Args:
        ledger: the open ledger.
        days: of searches that ended longer ago.
        max_gb: until the checkpoints of all ended searches hold at most so much.
        now_unix_s: the present; None: the clock.

    """
    now = time.time() if now_unix_s is None else now_unix_s
    held = [(search, files) for search in _ended(ledger) if (files := list(_checkpoints(search)))]
    total = sum(_size(files) for _, files in held)
    freed, num_files, ids = 0, 0, []
    for search, files in held:
        old = days is not None and now - _ended_unix_s(search) > days * DAY_S
        full = max_gb is not None and total - freed > max_gb * 1e9
        if old or full:
            freed += _unlink(files)
            num_files += len(files)
            ids.append(search.search_id)
    return Removed(num_bytes=freed, num_files=num_files, search_ids=tuple(ids))


def _ended(ledger: Ledger) -> list[SearchRecord]:
    """Return ended searches, the one that ended longest ago first."""
    found = [search for search in ledger.searches() if search.state in ENDED]
    return sorted(found, key=_ended_unix_s)


def _ended_unix_s(search: SearchRecord) -> float:
    return search.finished_unix_s or search.created_unix_s + search.seconds


def _checkpoints(search: SearchRecord) -> Iterator[Path]:
    if search.out_dir:
        yield from (Path(search.out_dir) / "checkpoints").glob("*.pt")


def _size(files: Sequence[Path]) -> int:
    return sum(path.stat().st_size for path in files if path.exists())


def _unlink(files: Sequence[Path]) -> int:
    freed = _size(files)
    for path in files:
        path.unlink(missing_ok=True)
    return freed
