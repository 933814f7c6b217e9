"""Applying what workers say, in any order and any number of times, to the same end.

What makes the order not matter: rows are keyed by what they mean; a message of another attempt
than the segment's present one is ignored (the fencing token); within one attempt, `epochs_done`
is a maximum, a lane once diverged stays so, and a segment's end follows the rule
done > failed > interrupted, whichever is heard first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from service.ledger.codec import split_metrics
from service.ledger.schema import borders, checkpoints, epochs, segments, trials, usage
from service.ledger.segments import insert_plan
from service.ledger.store import Store, insert_if_new, insert_new, row_of, upsert
from service.messages import (
    AnyMessage,
    Began,
    Border,
    Failed,
    Finished,
    Interrupted,
    Planned,
    Progress,
)
from trainers.trial import EpochRow


class MessageStore(Store):
    """The ledger's ear: everything a worker reports goes in here."""

    def apply(self, message: AnyMessage) -> bool:
        """Write one message in one transaction, durable when the call returns.

        Returns:
            False where nothing changed: the message is fenced off (another attempt has begun, or
            the segment was split or cancelled), or already known, or a `Progress`.

        Raises:
            LedgerError: if the ledger cannot be written, or a row's trial is not in it.

        """
        return self.apply_many([message])[0]

    def apply_many(self, messages: Iterable[AnyMessage]) -> list[bool]:
        """Apply messages in one transaction: all of them, or after a kill none.

        Returns:
            What `apply` would have returned, for each message.

        """
        durable = list(messages)
        if all(isinstance(message, Progress) for message in durable):
            return [False] * len(durable)
        with self._writing() as connection:
            return [_apply(connection, message) for message in durable]


def _apply(connection: Connection, message: AnyMessage) -> bool:
    if isinstance(message, Progress) or not _is_current(connection, message):
        return False
    match message:
        case Began(host=host):
            return _change(connection, message, segments.c.host != host, host=host)
        case Planned(plan=plan):
            return insert_plan(connection, message.search_id, plan)
        case Border():
            return _apply_border(connection, message)
        case Finished(seconds=seconds):
            unfinished = segments.c.state != "done"
            return _change(connection, message, unfinished, state="done", error="", seconds=seconds)
        case Failed(error=error):
            unheard = segments.c.state.in_(("running", "waiting"))
            return _change(connection, message, unheard, state="failed", error=error)
        case Interrupted():
            return _change(connection, message, segments.c.state == "running", state="waiting")


def _is_current(connection: Connection, message: AnyMessage) -> bool:
    """Say whether the message's attempt holds the fence; lock the segment's row until commit."""
    row = connection.execute(
        sa.select(segments.c.attempt, segments.c.state)
        .where(_segment(message))
        .with_for_update()  # SQLite's writer already holds the whole database
    ).first()
    return (
        row is not None
        and row.attempt == message.attempt
        and row.state not in ("split", "cancelled")
    )


def _segment(message: AnyMessage) -> sa.ColumnElement[bool]:
    return sa.and_(
        segments.c.search_id == message.search_id, segments.c.segment_id == message.segment_id
    )


def _change(
    connection: Connection, message: AnyMessage, condition: sa.ColumnElement[bool], **fields: Any
) -> bool:
    statement = sa.update(segments).where(_segment(message), condition).values(**fields)
    return connection.execute(statement).rowcount == 1


def _apply_border(connection: Connection, border: Border) -> bool:
    key = {"search_id": border.search_id, "segment_id": border.segment_id}
    stamp = {"attempt": border.attempt, "sequence": border.sequence}
    if not insert_if_new(connection, borders, {**key, **stamp}):
        return False
    of_search = {"search_id": border.search_id, "attempt": border.attempt}
    upsert(connection, epochs, [{**of_search, **_epoch(r)} for r in border.rows], fenced=True)
    upsert(
        connection,
        checkpoints,
        [row_of(reference, **of_search) for reference in border.checkpoints],
        fenced=True,
    )
    insert_new(
        connection,
        usage,
        [{**row_of(used, **key, **stamp), "item": i} for i, used in enumerate(border.usage)],
    )
    _advance_trials(connection, border.search_id, border.rows)
    return True


def _epoch(row: EpochRow) -> dict[str, Any]:
    return {
        "trial_id": row.trial_id,
        "epoch": row.epoch,
        "status": row.status,
        "reason": row.reason,
        "busy_s": row.busy_s,
        **split_metrics(row.metrics),
    }


def _advance_trials(connection: Connection, search_id: str, rows: Sequence[EpochRow]) -> None:
    """Raise `epochs_done`, and mark the trials that diverged or stopped early by themselves."""
    last: dict[int, int] = {}
    diverged: dict[int, str] = {}
    stopped: set[int] = set()
    for row in rows:
        last[row.trial_id] = max(row.epoch, last.get(row.trial_id, 0))
        if row.status == "diverged":
            diverged.setdefault(row.trial_id, row.reason)
        elif row.status == "stopped_early":
            stopped.add(row.trial_id)
    done = sa.bindparam("done", type_=sa.Integer)
    _update_each(
        connection,
        search_id,
        trials.c.epochs_done < done,
        {"epochs_done": done},
        [{"by_trial": trial, "done": epoch} for trial, epoch in last.items()],
    )
    _update_each(
        connection,
        search_id,
        sa.or_(trials.c.state == "waiting", trials.c.state == "running"),
        {"state": "diverged", "reason": sa.bindparam("why", type_=sa.Text)},
        [{"by_trial": trial, "why": why} for trial, why in diverged.items()],
    )
    _update_each(
        connection,
        search_id,
        trials.c.stopped_early.is_(False),
        {"stopped_early": True},
        [{"by_trial": trial} for trial in stopped],
    )


def _update_each(
    connection: Connection,
    search_id: str,
    condition: sa.ColumnElement[bool],
    values: dict[str, Any],
    rows: list[dict[str, Any]],
) -> None:
    if rows:
        statement = (
            sa.update(trials)
            .where(
                trials.c.search_id == search_id,
                trials.c.trial_id == sa.bindparam("by_trial", type_=sa.Integer),
                condition,
            )
            .values(values)
        )
        connection.execute(statement, rows)
