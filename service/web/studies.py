"""Studies as the service shows them: points as they finish, and laws fitted to them, kept."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pandas as pd

from service.energy import Site
from service.ledger import Ledger
from service.ledger.records import SearchRecord
from service.recipe.record import plain
from service.scaling.analysis import Analysis
from service.scaling.study import ScalingStudy
from service.scaling.study_points import study_points
from trainers.errors import ScalingError

REFIT_EVERY_S = 5.0
"""A running study's law is fitted again no more often than this."""
KEPT = 64
Moment = tuple[Any, ...]
"""What points and laws depend on; equal moments give equal answers."""


@dataclass(frozen=True, kw_only=True)
class StudyLook:
    """What a study's points say at one moment."""

    num_points: int
    recipes: tuple[str, ...]
    study: ScalingStudy | None
    """None: there is no point yet."""
    analysis: Analysis | None
    why_no_law: str = ""
    """Why there is no law yet, or an empty string."""


@dataclass(frozen=True)
class _Kept:
    moment: Moment
    look: Future[StudyLook]
    begun_s: float


class StudyBoard:
    """Reads points and fits laws for all viewers, each once per moment.

    Fitting takes a core for seconds, so it is done by one thread, and whoever asks waits for its
    answer without holding a thread.
    """

    def __init__(self, ledger: Ledger, site: Site, *, refit_every_s: float = REFIT_EVERY_S) -> None:
        self._ledger, self._site, self._refit_every_s = ledger, site, refit_every_s
        self._lock = threading.Lock()
        self._looks: OrderedDict[tuple[str, str | None], _Kept] = OrderedDict()
        self._points: OrderedDict[str, tuple[Moment, pd.DataFrame]] = OrderedDict()
        self._fitting = ThreadPoolExecutor(1, thread_name_prefix="laws")

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
        """Return what the points say, as of a few seconds ago while the study runs.

        Raises:
            DataError: there is no such recipe.

        """
        found = await asyncio.to_thread(self._asked, study, recipe)
        return await asyncio.wrap_future(found)

    def _asked(self, study: SearchRecord, recipe: str | None) -> Future[StudyLook]:
        """Return the look of this moment, begun now where nobody has; or the one just before."""
        key, moment = (study.search_id, recipe), self._moment(study.search_id)
        now = time.monotonic()
        with self._lock:
            kept = self._looks.get(key)
            if kept is not None and not _failed(kept.look):
                recent = study.state == "running" and now - kept.begun_s < self._refit_every_s
                if kept.moment == moment or recent or not kept.look.done():
                    return kept.look
            look = self._fitting.submit(self._look, study.search_id, recipe)
            self._looks[key] = _Kept(moment, look, now)
            self._looks.move_to_end(key)
            while len(self._looks) > KEPT:
                self._looks.popitem(last=False)
            return look

    def _look(self, study_id: str, recipe: str | None) -> StudyLook:
        try:
            study = ScalingStudy.open(study_id, ledger=self._ledger, site=self._site)
        except ScalingError as error:
            return StudyLook(
                num_points=0, recipes=(), study=None, analysis=None, why_no_law=str(error)
            )
        num_points, recipes = len(study.all_points), study.recipes
        if recipe is not None and recipe != study.recipe:
            study = study.of(recipe)
        try:
            analysis, why = study.analysis(), ""
        except ScalingError as error:
            analysis, why = None, str(error)
        return StudyLook(
            num_points=num_points, recipes=recipes, study=study, analysis=analysis, why_no_law=why
        )

    def _moment(self, study_id: str) -> Moment:
        """Return what changes when a point ends, a prediction is verified, or the study ends."""
        counts = self._ledger.count_trials([study_id])[study_id]
        return (self._ledger.search(study_id).state, tuple(sorted(counts.items())))


def _failed(look: Future[StudyLook]) -> bool:
    return look.done() and look.exception() is not None


def point_rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return points as plain values; what is unknown is None."""
    known = frame.astype(object).where(frame.notna(), None)
    rows: list[dict[str, Any]] = plain(known.to_dict("records"))
    return rows
