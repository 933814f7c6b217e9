"""What routes need, hung on the application."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fastapi import Request

from service.energy import Site
from service.jobs.settings import ServiceSettings
from service.ledger import Ledger
from service.ledger.records import SearchRecord
from service.web.charts import ChartBoard
from service.web.fitting import Fitter
from service.web.studies import StudyBoard

if TYPE_CHECKING:
    from service.jobs.manager import JobManager
    from service.web.access import FailureLimit
    from service.web.live import LiveFeeds

USERS_KNOWN_FOR_S = 2.0
TOTAL_KNOWN_FOR_S = 60.0
BEST_VALUES_KEPT = 10_000


class BestValues:
    """The best value of each search; of one that has ended it is looked up once."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._known: dict[tuple[str, float, str], float | None] = {}

    def of(self, search: SearchRecord, metric: str, *, maximize: bool) -> float | None:
        """Return the best value of a metric among the longest finished trials."""
        if search.finished_unix_s is None or search.state == "running":
            return self._ledger.best_value(search.search_id, metric, maximize=maximize)
        key = (search.search_id, search.finished_unix_s, metric)
        if key not in self._known:
            if len(self._known) >= BEST_VALUES_KEPT:
                self._known.clear()
            self._known[key] = self._ledger.best_value(search.search_id, metric, maximize=maximize)
        return self._known[key]


class Cached:
    """A value that is computed again when it is older than so many seconds."""

    def __init__(self, compute: Callable[[], float], lasts_s: float) -> None:
        self._compute, self._lasts_s = compute, lasts_s
        self._value, self._at_s = 0.0, float("-inf")

    def value(self) -> float:
        """Return the value, at most so many seconds old."""
        now = time.monotonic()
        if now - self._at_s > self._lasts_s:
            self._value, self._at_s = self._compute(), now
        return self._value


@dataclass
class Services:
    """One running service."""

    ledger: Ledger
    manager: JobManager
    settings: ServiceSettings
    failures: FailureLimit
    feeds: LiveFeeds
    site: Site
    """Where the service stands: what CO2 on its pages is computed with."""
    fitter: Fitter
    """What fits the laws of studies."""
    best: BestValues = field(init=False)
    charts: ChartBoard = field(init=False)
    studies: StudyBoard = field(init=False)
    total_kwh: Cached = field(init=False)
    started_unix_s: float = field(default_factory=time.time)
    _has_users: bool = False
    _looked_s: float = float("-inf")

    def __post_init__(self) -> None:
        self.best = BestValues(self.ledger)
        self.charts = ChartBoard(self.ledger, self.site)
        self.studies = StudyBoard(self.ledger, self.site, self.fitter)
        self.total_kwh = Cached(self.ledger.total_kwh, TOTAL_KNOWN_FOR_S)

    @property
    def single_user(self) -> bool:
        """Whether nobody was added, so that the service is one person's.

        Once there is a user it never turns back while it runs, and a first user is noticed
        within two seconds.
        """
        now = time.monotonic()
        if not self._has_users and now - self._looked_s > USERS_KNOWN_FOR_S:
            self._has_users = bool(self.ledger.users())
            self._looked_s = now
        return not self._has_users


def services_of(request: Request) -> Services:
    """Return the services of the application that a request came to."""
    services: Services = request.app.state.services
    return services
