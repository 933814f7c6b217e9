"""How much energy each owner's searches used this month, from the ledger's own accounts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from service.ledger import Ledger

FRESH_S = 30.0
"""How old the figure of a running search may be."""


def month_start_unix_s(now_unix_s: float) -> float:
    """Return when the calendar month (UTC) of a moment began."""
    now = datetime.fromtimestamp(now_unix_s, UTC)
    return now.replace(day=1, hour=0, minute=0, second=0, microsecond=0).timestamp()


def own_kwh(ledger: Ledger, search_id: str) -> float:
    """Return what one search has used, in kWh."""
    from service.energy import accounts

    return accounts(ledger, search_id).own_kwh


class MonthlyUse:
    """Sums energy by owner; searches that rest are computed once.

    A search that runs over the end of a month counts whole in both: a quota errs on the safe side.
    The statement (`isoflop energy`) splits it exactly.
    """

    def __init__(self, ledger: Ledger, kwh_of: Callable[[Ledger, str], float] = own_kwh) -> None:
        self._ledger, self._kwh_of = ledger, kwh_of
        self._known: dict[str, tuple[float | None, float, float]] = {}
        """Search -> (when it ended, when it was computed, kWh)."""

    def of(self, owners: Iterable[str], now_unix_s: float | None = None) -> dict[str, float]:
        """Return kWh of this month by owner."""
        now = time.time() if now_unix_s is None else now_unix_s
        since = month_start_unix_s(now)
        return {
            owner: sum(
                self._kwh(search_id, now)
                for search_id in self._ledger.searches_worked_on(owner, since)
            )
            for owner in set(owners)
        }

    def _kwh(self, search_id: str, now_unix_s: float) -> float:
        search = self._ledger.search(search_id)
        rests = search.state != "running"
        ended = search.seconds if rests else None  # grows whenever somebody works on it again
        known = self._known.get(search_id)
        if known is not None and (known[0] == ended if rests else now_unix_s - known[1] < FRESH_S):
            return known[2]
        kwh = self._kwh_of(self._ledger, search_id)
        self._known[search_id] = (ended, now_unix_s, kwh)
        return kwh
