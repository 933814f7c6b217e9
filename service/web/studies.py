"""Studies as the service shows them: points as they finish, and laws fitted to them, kept."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import OrderedDict
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from service.energy import Site
from service.ledger import Ledger
from service.ledger.records import SearchRecord
from service.recipe.record import plain
from service.scaling.study_points import study_points
from service.web.fitting import Fitter, Question, StudyLook
from trainers.errors import ScalingError, WorkerError

REFIT_EVERY_S = 5.0
"""A running study's law is fitted again no more often than this."""
PATIENCE_S = 2.0
"""How long a request waits for a law that is being fitted, where there is an older one to show."""
RETRY_AFTER_S = 60.0
"""A fit that took too long, or whose process died, is tried again no sooner."""
KEPT = 64
Moment = tuple[Any, ...]
"""What points and laws depend on; equal moments give equal answers."""


@dataclass(frozen=True)
class _Kept:
    moment: Moment
    look: Future[StudyLook]
    begun_s: float
    before: StudyLook | None
    """The last one that was finished when this one was begun."""

    @property
    def newest(self) -> StudyLook | None:
        """The look of this moment if it is there, else the one before it."""
        if self.look.done() and self.look.exception() is None:
            return self.look.result()
        return self.before


class StudyBoard:
    """Reads points, and has laws fitted for all viewers, each once per moment.

    Whoever asks waits for the answer without holding a thread, and no longer than two seconds
    where there is an older answer.
    """

    def __init__(
        self,
        ledger: Ledger,
        site: Site,
        fitter: Fitter,
        *,
        refit_every_s: float = REFIT_EVERY_S,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._ledger, self._site, self._fitter = ledger, site, fitter
        self._refit_every_s, self._patience_s = refit_every_s, patience_s
        self._lock = threading.Lock()
        self._looks: OrderedDict[tuple[str, str | None], _Kept] = OrderedDict()
        self._points: OrderedDict[str, tuple[Moment, pd.DataFrame]] = OrderedDict()

    def points(self, study_id: str) -> pd.DataFrame:
        """Return the points so far in the order of their trials; without any, an empty table."""
        moment = self._moment(study_id)
        with self._lock:
            known = self._points.get(study_id)
        if known is not None and known[0] == moment:
            return known[1]
        try:
            frame = study_points(self._ledger, study_id).frame
        except ScalingError:
            frame = pd.DataFrame()
        with self._lock:
            self._points[study_id] = (moment, frame)
            self._points.move_to_end(study_id)
            while len(self._points) > KEPT:
                self._points.popitem(last=False)
        return frame

    async def look(self, study: SearchRecord, recipe: str | None = None) -> StudyLook:
        """Return what the points say; `is_latest` is False of an answer that is about to change.

        Raises:
            DataError: there is no such recipe.
            WorkerError: the first fit took too long, or its process died.

        """
        moment, kept = await asyncio.to_thread(self._asked, study, recipe)
        before = kept.before
        # Shielded, because others wait for the same fit when this request is given up.
        fitting = asyncio.shield(asyncio.wrap_future(kept.look))
        try:
            found = await asyncio.wait_for(fitting, None if before is None else self._patience_s)
        except (TimeoutError, WorkerError):
            if before is None:
                raise
            return replace(before, is_latest=False)
        return found if kept.moment == moment else replace(found, is_latest=False)

    def _asked(self, study: SearchRecord, recipe: str | None) -> tuple[Moment, _Kept]:
        """Return this moment, and its look, begun now where nobody has; or the one just before."""
        key, moment = (study.search_id, recipe), self._moment(study.search_id)
        now = time.monotonic()
        question = Question(
            ledger_url=self._ledger.url,
            study_id=study.search_id,
            recipe=recipe,
            site=self._site,
        )
        with self._lock:
            kept = self._looks.get(key)
            if kept is not None and self._holds(kept, moment, now, study.state == "running"):
                return moment, kept
            before = None if kept is None else kept.newest
            kept = _Kept(moment, self._fitter.ask(question), now, before)
            self._looks[key] = kept
            self._looks.move_to_end(key)
            while len(self._looks) > KEPT:
                self._looks.popitem(last=False)
            return moment, kept

    def _holds(self, kept: _Kept, moment: Moment, now_s: float, running: bool) -> bool:
        """Say whether a look need not be begun again yet."""
        if not kept.look.done():
            return True
        age_s = now_s - kept.begun_s
        if (error := kept.look.exception()) is not None:
            return isinstance(error, WorkerError) and age_s < RETRY_AFTER_S
        return kept.moment == moment or (running and age_s < self._refit_every_s)

    def _moment(self, study_id: str) -> Moment:
        """Return what changes when a point ends, a prediction is verified, or the study ends."""
        counts = self._ledger.count_trials([study_id])[study_id]
        return (self._ledger.search(study_id).state, tuple(sorted(counts.items())))


def point_rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return points as plain values; what is unknown is None."""
    known = frame.astype(object).where(frame.notna(), None)
    rows: list[dict[str, Any]] = plain(known.to_dict("records"))
    return rows
