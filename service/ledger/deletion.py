"""Deleting a search: what was tried and found goes, what it used stays."""

from __future__ import annotations

import sqlalchemy as sa

from service.ledger.schema import (
    borders,
    checkpoints,
    epochs,
    events,
    plans,
    rounds,
    searches,
    trials,
)
from service.ledger.searches import SearchStore
from service.ledger.service_schema import trial_stops
from trainers.errors import LedgerError

ENERGY_EVENTS = ("meter", "worker_lost")
"""Events that the accounts are made of."""


class DeletionStore(SearchStore):
    """Deleting, so that energy statements of the past stay as they were."""

    def delete_search(self, search_id: str) -> None:
        """Forget spec, configurations, curves, results and decisions of a search.

        Its name, project, owner, times, the state of each trial and everything about energy stay,
        so that what it used is booked as before. Deleting twice changes nothing.

        Raises:
            MissingError: there is no such search.
            LedgerError: it is running.

        """
        if self.search(search_id).state == "running":
            raise LedgerError(
                f"`{search_id}` is running, so it cannot be deleted; stop it first: "
                f"isoflop stop {search_id}"
            )
        with self._writing() as connection:
            for table in (trial_stops, borders, epochs, checkpoints, plans, rounds):
                connection.execute(sa.delete(table).where(table.c.search_id == search_id))
            connection.execute(
                sa.delete(events).where(
                    events.c.search_id == search_id, events.c.kind.not_in(ENERGY_EVENTS)
                )
            )
            connection.execute(
                sa.update(trials)
                .where(trials.c.search_id == search_id)
                .values(
                    config={}, params={}, metrics={}, sampler_attrs={}, reason="", config_id="",
                    num_params=None, flops_per_epoch=None,
                )
            )  # fmt: skip
            connection.execute(
                sa.update(searches)
                .where(searches.c.search_id == search_id)
                .values(spec={}, reason="", versions={}, out_dir=None, state="deleted")
            )
