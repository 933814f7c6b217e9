"""Reading what trials did epoch by epoch, and where their states lie."""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa

from service.ledger.codec import COMMON_METRICS, join_metrics
from service.ledger.schema import checkpoints, epochs
from service.ledger.store import Store, chunks, record_of
from trainers.trial import CheckpointRef

EpochValues = tuple[int, int, str, dict[str, float]]
"""(trial_id, epoch, status, metrics)."""


class CurveStore(Store):
    """Epoch rows and checkpoints, read only: messages write them."""

    def epoch_rows(
        self, search_id: str, trial_ids: Iterable[int] | None = None
    ) -> list[EpochValues]:
        """Return (trial_id, epoch, status, metrics) by trial and epoch; metrics hold `busy_s`."""
        found: list[EpochValues] = []
        with self._reading() as connection:
            self._require_search(connection, search_id)
            for part in chunks(trial_ids):
                query = sa.select(epochs).where(epochs.c.search_id == search_id)
                if part is not None:
                    query = query.where(epochs.c.trial_id.in_(part))
                rows = connection.execute(query.order_by(epochs.c.trial_id, epochs.c.epoch))
                found += [
                    (
                        row["trial_id"],
                        row["epoch"],
                        row["status"],
                        {**join_metrics(row), "busy_s": row["busy_s"]},
                    )
                    for row in rows.mappings()
                ]
        return found

    def values_at(
        self, search_id: str, trial_ids: Iterable[int], epoch: int, metric: str
    ) -> dict[int, float]:
        """Return the metric at one epoch, by trial; trials without it then are left out."""
        column = epochs.c[metric] if metric in COMMON_METRICS else sa.null()
        values: dict[int, float] = {}
        with self._reading() as connection:
            self._require_search(connection, search_id)
            for part in chunks(trial_ids):
                rows = connection.execute(
                    sa.select(epochs.c.trial_id, column.label("value"), epochs.c.extras).where(
                        epochs.c.search_id == search_id,
                        epochs.c.trial_id.in_(part or ()),
                        epochs.c.epoch == epoch,
                    )
                )
                for trial_id, value, extras in rows:
                    found = (extras or {}).get(metric) if value is None else value
                    if found is not None:
                        values[trial_id] = found
        return values

    def checkpoints(
        self, search_id: str, trial_ids: Iterable[int], *, up_to_epoch: int | None = None
    ) -> dict[int, CheckpointRef]:
        """Return where the latest saved state of each trial lies; trials without are left out.

        With `up_to_epoch`, the latest one that is no later than that epoch.
        """
        early_enough = sa.true() if up_to_epoch is None else checkpoints.c.epoch <= up_to_epoch
        found: dict[int, CheckpointRef] = {}
        with self._reading() as connection:
            self._require_search(connection, search_id)
            for part in chunks(trial_ids):
                latest = (
                    sa.select(checkpoints.c.trial_id, sa.func.max(checkpoints.c.epoch).label("e"))
                    .where(
                        checkpoints.c.search_id == search_id,
                        checkpoints.c.trial_id.in_(part or ()),
                        early_enough,
                    )
                    .group_by(checkpoints.c.trial_id)
                    .subquery()
                )
                rows = connection.execute(
                    sa.select(checkpoints)
                    .join(
                        latest,
                        sa.and_(
                            checkpoints.c.trial_id == latest.c.trial_id,
                            checkpoints.c.epoch == latest.c.e,
                        ),
                    )
                    .where(checkpoints.c.search_id == search_id)
                ).mappings()
                found.update((row["trial_id"], record_of(CheckpointRef, row)) for row in rows)
        return found
