"""Scaling studies: points as they finish, the laws fitted to them, and what these predict."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any, Literal

from anyio import to_thread
from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from service.jobs.records import LIVE_STATES
from service.ledger.records import SearchRecord
from service.recipe.record import plain
from service.scaling.report.record import fits as fits_of
from service.scaling.report.record import rows as rows_of
from service.web.access import Asking
from service.web.fitting import StudyLook
from service.web.live import event_stream
from service.web.openapi import answers_with
from service.web.problems import Problem, not_found
from service.web.reading import Limit, SearchId, search_for
from service.web.routes.searches import live_state, shown
from service.web.services import Services, services_of
from service.web.studies import point_rows
from service.web.study_views import PredictionView, StudyView, charts_of
from service.web.tables import MEDIA, frame_stream
from service.web.views import PageView

router = APIRouter(tags=["studies"])
Flops = Annotated[float, Query(gt=0, le=1e40, allow_inf_nan=False, description="Budget in FLOP.")]
Recipe = Annotated[
    str | None, Query(max_length=200, description="Of several: which. Default: most points.")
]


def study_for(request: Request, identity: Asking, study_id: SearchId) -> SearchRecord:
    """Return a study that may be read.

    Raises:
        Problem: 404, also for a search, and for one that is not the reader's to see.

    """
    try:
        found = search_for(services_of(request), identity, study_id)
    except Problem:
        raise not_found("study", study_id) from None
    if found.kind != "study":
        raise not_found("study", study_id)
    return found


Study = Annotated[SearchRecord, Depends(study_for)]


class FitsView(BaseModel):
    """The laws of the points so far, the report's own first."""

    num_points: int
    fits: list[dict[str, Any]] = Field(
        description="Law, method, parameters with intervals, exponents `a` and `b`, convergence."
    )


class FrontierView(BaseModel):
    """The best size, data and loss at budgets."""

    rows: list[dict[str, Any]]
    sentence: str
    warnings: list[str]


class StudyChartsView(BaseModel):
    """The study's charts as plotly figures, most useful first, with the numbers behind them."""

    charts: list[dict[str, Any]]
    num_points: int = Field(description="Points that the charts are of.")


@router.get("/studies/{study_id}", summary="One study")
async def show(request: Request, study: Study, recipe: Recipe = None) -> StudyView:
    """Return state, points so far, the laws' exponents with intervals, and the study's sentence.

    While the study runs, its law is as of a few seconds ago.
    """
    services = services_of(request)
    look = await services.studies.look(study, recipe)
    view = (await to_thread.run_sync(shown, services, [study]))[0]
    return StudyView.of(view, look)


@router.get("/studies/{study_id}/points", summary="Points, page by page")
def points(
    request: Request,
    study: Study,
    limit: Limit = 500,
    after: Annotated[int | None, Query(ge=0, le=2**53, description="Of the page before.")] = None,
) -> PageView[dict[str, Any]]:
    """List sizes, tokens, FLOPs, losses and energies of what was trained to its end, by trial."""
    frame = services_of(request).studies.points(study.search_id)
    if after is not None and len(frame):
        frame = frame[frame["trial_id"] > after]
    found = point_rows(frame.head(limit))
    more = len(frame) > limit
    return PageView(items=found, next=str(found[-1]["trial_id"]) if more else None)


@router.get(
    "/studies/{study_id}/tables/points.{format}",
    summary="All points as CSV or Parquet",
    response_class=StreamingResponse,
    responses=answers_with(*MEDIA.values()),
)
def download(
    request: Request, study: Study, format: Literal["csv", "parquet"]
) -> StreamingResponse:
    """Return all points so far; `isoflop scale fit` reads this file."""
    frame = services_of(request).studies.points(study.search_id)
    return frame_stream(frame, f"{study.search_id}-points", format)


@router.get("/studies/{study_id}/fits", summary="Laws with parameters and intervals")
async def fits(request: Request, study: Study, recipe: Recipe = None) -> FitsView:
    """Return every law that was fitted to the points so far."""
    look = await services_of(request).studies.look(study, recipe)
    found = [] if look.analysis is None else fits_of(look.analysis)
    return FitsView(num_points=look.num_points, fits=plain(found))


@router.get("/studies/{study_id}/charts", summary="Charts, with their numbers")
async def charts(request: Request, study: Study, recipe: Recipe = None) -> StudyChartsView:
    """Draw the points and laws so far, the same charts as in the report."""
    look = await services_of(request).studies.look(study, recipe)
    drawn = await to_thread.run_sync(charts_of, look)
    return StudyChartsView(charts=drawn, num_points=look.num_points)


@router.get("/studies/{study_id}/frontier", summary="Best size, data and loss at budgets")
async def frontier(
    request: Request,
    study: Study,
    flops: Annotated[list[Flops] | None, Query(max_length=200)] = None,
    recipe: Recipe = None,
) -> FrontierView:
    """Return the frontier with intervals; by default at 1, 3 and 10 times the largest budget."""
    look = await _with_law(services_of(request), study, recipe)
    assert look.study is not None
    answer = await to_thread.run_sync(look.study.frontier, flops)
    return FrontierView(
        rows=plain(rows_of(answer.frame)), sentence=answer.sentence, warnings=list(answer.warnings)
    )


@router.get("/studies/{study_id}/predict", summary="What one budget would give")
async def predict(
    request: Request, study: Study, flops: Flops, recipe: Recipe = None
) -> PredictionView:
    """Predict loss, size, tokens, energy and CO2 at a budget, with interval and warnings."""
    look = await _with_law(services_of(request), study, recipe)
    assert look.study is not None
    answer = await to_thread.run_sync(look.study.frontier, flops)
    return PredictionView.of(answer, look.study)


@router.get(
    "/studies/{study_id}/live",
    summary="Points as they finish (server-sent events)",
    response_class=StreamingResponse,
    responses=answers_with("text/event-stream"),
)
def live(request: Request, study: Study) -> StreamingResponse:
    """Stream `point` events, those so far first, `state` whenever it changes, and `end`.

    `end` says that nothing works on the study any more; more may come if it is resumed.
    """
    return event_stream(_events(services_of(request), study.search_id))


async def _events(services: Services, study_id: str) -> AsyncGenerator[tuple[str, str, str]]:
    sent: set[int] = set()
    states = services.feeds.watch(f"study {study_id}", lambda: study_state(services, study_id))
    async with aclosing(states):
        async for text in states:
            if not text:
                yield "", "", ""
                continue
            frame = await to_thread.run_sync(services.studies.points, study_id)
            if len(frame) > len(sent):
                for row in point_rows(frame[~frame["trial_id"].isin(sent)]):
                    sent.add(row["trial_id"])
                    yield "point", "", json.dumps(row, allow_nan=False)
            yield "state", "", text
            if json.loads(text)["ended"]:
                yield "end", "", "{}"


def study_state(services: Services, study_id: str) -> dict[str, Any]:
    """Return what a page or client that watches needs to know to decide what to read again."""
    state = live_state(services, study_id)
    working = state["job"] is not None and state["job"]["state"] in LIVE_STATES
    return {
        **{name: value for name, value in state.items() if name != "best"},
        "num_points": len(services.studies.points(study_id)),
        "ended": state["state"] != "running" and not working,
    }


async def _with_law(services: Services, study: SearchRecord, recipe: str | None) -> StudyLook:
    look = await services.studies.look(study, recipe)
    if look.analysis is None:
        raise Problem(409, f"`{study.search_id}` has no law yet: {look.why_no_law}")
    return look
