"""How much energy each owner's searches used this month, from the ledger's own accounts."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from service.ledger import Ledger

FRESH_S = 30.0
"""How old the figure of a running search may be."""


def month_start_unix_s(now_unix_s: float) -> float:
    """Return when the calendar month (UTC) of a moment began."""
    now = datetime.fromtimestamp(now_unix_s, UTC)
    return now.replace(day=1, hour=0, minute=0, second=0, microsecond=0).timestamp()


def kwh_since(ledger: Ledger, search_id: str, since_unix_s: float) -> float:
    """Return what one search has used since a moment, in kWh, by the statement's own lines."""
    from service.energy.books.lines import lines_of

    lines = lines_of(ledger, ledger.search(search_id))
    return math.fsum(line.kwh for line in lines if line.unix_s >= since_unix_s)


@dataclass(frozen=True)
class _Known:
    since_unix_s: float
    ended_s: float | None
    """Length of a search that rested, which grows if it is worked on again; None: it ran."""
    computed_unix_s: float
    kwh: float


class MonthlyUse:
    """Sums energy by owner; searches that rest are computed once a month.

    Of a search that runs over the end of a month each counts its own windows, each window where it
    began, as in the statement (`isoflop energy`).
    """

    def __init__(
        self, ledger: Ledger, kwh_of: Callable[[Ledger, str, float], float] = kwh_since
    ) -> None:
        """Prepare; `kwh_of` returns the kWh of (ledger, search, from this second on)."""
        self._ledger, self._kwh_of = ledger, kwh_of
        self._known: dict[str, _Known] = {}

    def of(self, owners: Iterable[str], now_unix_s: float | None = None) -> dict[str, float]:
        """Return kWh of this month by owner."""
        now = time.time() if now_unix_s is None else now_unix_s
        since = month_start_unix_s(now)
        return {
            owner: sum(
                self._kwh(search_id, since, now)
                for search_id in self._ledger.searches_worked_on(owner, since)
            )
            for owner in set(owners)
        }

    def _kwh(self, search_id: str, since_unix_s: float, now_unix_s: float) -> float:
        search = self._ledger.search(search_id)
        ended_s = None if search.state == "running" else search.seconds
        known = self._known.get(search_id)
        if (
            known is not None
            and (known.since_unix_s, known.ended_s) == (since_unix_s, ended_s)
            and (ended_s is not None or now_unix_s - known.computed_unix_s < FRESH_S)
        ):
            return known.kwh
        kwh = self._kwh_of(self._ledger, search_id, since_unix_s)
        self._known[search_id] = _Known(since_unix_s, ended_s, now_unix_s, kwh)
        return kwh
