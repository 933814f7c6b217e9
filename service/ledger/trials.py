"""Trials: added in batches, changed in batches, read by round, batch, role or state."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from service.ledger.codec import StoredMapping
from service.ledger.records import TrialProgress, TrialRecord
from service.ledger.schema import trials
from service.ledger.store import (
    Store,
    chunks,
    insert_new,
    missing,
    record_of,
    row_of,
    update_by_key,
)


class TrialStore(Store):
    """The search's trials."""

    def next_trial_id(self, search_id: str) -> int:
        """Return the first id no trial of the search has yet."""
        with self._reading() as connection:
            self._require_search(connection, search_id)
            last = connection.execute(
                sa.select(sa.func.max(trials.c.trial_id)).where(trials.c.search_id == search_id)
            ).scalar()
        return 0 if last is None else last + 1

    def progress(self, search_id: str) -> list[TrialProgress]:
        """Return counts and epochs of the search's trials by state: cheap enough to ask often."""
        table = trials.c
        query = (
            sa.select(
                table.state,
                sa.func.count().label("num_trials"),
                sa.func.sum(table.epochs_done).label("epochs_done"),
                sa.func.sum(table.horizon_epochs).label("horizon_epochs"),
            )
            .where(table.search_id == search_id)
            .group_by(table.state)
            .order_by(table.state)
        )
        with self._reading() as connection:
            self._require_search(connection, search_id)
            rows = connection.execute(query).mappings()
            return [record_of(TrialProgress, row) for row in rows]

    def add_trials(self, search_id: str, records: Sequence[TrialRecord]) -> None:
        """Add the trials that are not there yet, all or none; those that are stay as they are.

        So adding a batch again after a kill changes nothing. Durable when the call returns.
        """
        with self._writing() as connection:
            self._require_search(connection, search_id)
            insert_new(connection, trials, [row_of(r, search_id=search_id) for r in records])

    def update_trials(
        self, search_id: str, changes: Sequence[tuple[int, Mapping[str, Any]]]
    ) -> None:
        """Change fields of trials, (trial_id, {field: value}) each, all or none.

        Raises:
            LedgerError: for an unknown search, trial or field.

        """
        with self._writing() as connection:
            self._require_search(connection, search_id)
            wanted = {trial_id for trial_id, _ in changes}
            found = {
                trial_id
                for part in chunks(wanted)
                for trial_id in connection.execute(
                    sa.select(trials.c.trial_id).where(
                        trials.c.search_id == search_id, trials.c.trial_id.in_(part or ())
                    )
                ).scalars()
            }
            if wanted - found:
                existing = connection.execute(
                    sa.select(trials.c.trial_id)
                    .where(trials.c.search_id == search_id)
                    .order_by(trials.c.trial_id)
                ).scalars()
                raise missing("trial", min(wanted - found), list(existing))
            update_by_key(connection, trials, {"search_id": search_id}, changes, by="trial_id")

    def trials(
        self,
        search_id: str,
        *,
        round: int | None = None,
        batch: int | None = None,
        role: str | None = None,
        states: Collection[str] | None = None,
        trial_ids: Iterable[int] | None = None,
        from_id: int = 0,
    ) -> list[TrialRecord]:
        """Return the search's trials by id; every condition that is given must hold.

        `from_id` leaves out the trials before it, which a caller knows already.
        """
        columns = [column for column in trials.columns if column is not trials.c.config]
        config = sa.cast(trials.c.config, sa.Text).label("config_text")
        query = sa.select(*columns, config).where(trials.c.search_id == search_id)
        for column, value in ((trials.c.round, round), (trials.c.batch, batch)):
            if value is not None:
                query = query.where(column == value)
        if from_id:
            query = query.where(trials.c.trial_id >= from_id)
        if role is not None:
            query = query.where(trials.c.role == role)
        if states is not None:
            query = query.where(trials.c.state.in_(list(states)))
        found: list[TrialRecord] = []
        with self._reading() as connection:
            self._require_search(connection, search_id)
            for part in chunks(trial_ids):
                limited = query if part is None else query.where(trials.c.trial_id.in_(part))
                rows = connection.execute(limited.order_by(trials.c.trial_id)).mappings()
                found += [
                    record_of(TrialRecord, row, config=StoredMapping(row["config_text"]))
                    for row in rows
                ]
        return found
