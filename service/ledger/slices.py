"""One search as a ledger of its own: what a client of the service takes home.

It holds everything about that search and the windows of energy that it ran in, so that all that
reads a ledger works on it. Checkpoints stay where they are; other searches' names do not travel.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from service.ledger.ledger import Ledger
from service.ledger.schema import (
    borders,
    checkpoints,
    energy_windows,
    epochs,
    events,
    plans,
    rounds,
    searches,
    segments,
    spans,
    trials,
    usage,
)
from service.ledger.store import insert_new

TABLES = (searches, rounds, trials, segments, borders, epochs, plans, usage, spans, events)
"""In the order of their foreign keys. Not checkpoints: they name files of another machine."""
assert checkpoints not in TABLES
MARGIN_S = 10.0
"""Windows this far outside a span help to estimate gaps at its edges."""
ROWS_AT_ONCE = 2_000


def copy_search(source: Ledger, search_id: str, path: str | Path) -> None:
    """Write one search of a ledger into a new SQLite ledger at `path`.

    Raises:
        MissingError: if there is no such search.

    """
    source.search(search_id)
    with Ledger.open(path) as target, source._reading() as read, target._writing() as write:
        for table in TABLES:
            query = sa.select(table).where(table.c.search_id == search_id)
            for rows in _batches(read, query):
                insert_new(write, table, rows)
        for span in source.spans(search_id):
            for rows in _batches(read, _windows_of(span)):
                insert_new(write, energy_windows, [_nameless(row, search_id) for row in rows])


def settle_in(path: str | Path, search_id: str, folder: str | Path) -> None:
    """Tell a ledger made by `copy_search` where the search's files lie now."""
    folder = Path(folder)
    with Ledger.open(path) as ledger:
        ledger.update_search(search_id, out_dir=str(folder.resolve()))
        with ledger._writing() as connection:
            for event in ledger.events(search_id, "winner"):
                weights = str((folder / "weights.pt").resolve())
                connection.execute(
                    sa.update(events)
                    .where(events.c.event_id == event.event_id)
                    .values(payload={**event.payload, "weights": weights})
                )


def _batches(connection: Connection, query: sa.Select[Any]) -> Iterator[list[dict[str, Any]]]:
    result = connection.execution_options(yield_per=ROWS_AT_ONCE).execute(query).mappings()
    for rows in result.partitions():
        yield [dict(row) for row in rows]


def _windows_of(span: Any) -> sa.Select[Any]:
    return sa.select(energy_windows).where(
        energy_windows.c.host == span.host,
        energy_windows.c.boot_id == span.boot_id,
        energy_windows.c.ended_s > span.started_s - MARGIN_S,
        energy_windows.c.started_s < span.ended_s + MARGIN_S,
    )


def _nameless(row: Mapping[str, Any], search_id: str) -> dict[str, Any]:
    """Keep how much others used in a window, but not who they were."""

    def renamed(members: Mapping[str, Any]) -> dict[str, Any]:
        return {_alias(key, search_id): use for key, use in members.items()}

    payload = dict(row["payload"])
    payload["members"] = renamed(payload["members"])
    payload["gpus"] = [{**gpu, "members": renamed(gpu["members"])} for gpu in payload["gpus"]]
    return {**row, "payload": payload}


def _alias(key: str, search_id: str) -> str:
    """Return another name for another search's process, the same one in every window."""
    owner, _, pid = key.rpartition(":")
    if owner == search_id:
        return key
    return f"other-{hashlib.sha256(owner.encode()).hexdigest()[:8]}:{pid}"
