"""Trials of a search: a page of them, one, their curves, and stopping one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel

from service.energy import accounts
from service.web.access import Asking, address_of
from service.web.cursors import from_text, to_text
from service.web.problems import not_found
from service.web.reading import (
    After,
    Limit,
    SearchId,
    TrialId,
    Where,
    conditions,
    own_search,
    search_for,
)
from service.web.services import services_of
from service.web.views import CurvesView, PageView, TrialDetail, TrialView

router = APIRouter(tags=["trials"])
MAX_CURVES = 200
MAX_POINTS = 400


class Answer(BaseModel):
    """What will happen."""

    detail: str


@router.get("/searches/{search_id}/trials", summary="Trials, filtered, sorted, page by page")
def list_trials(
    request: Request,
    identity: Asking,
    search_id: SearchId,
    where: Where = None,
    sort: Annotated[str, Query(max_length=200)] = "trial_id",
    descending: bool = False,
    limit: Limit = 100,
    after: After = None,
) -> PageView[TrialView]:
    """Return a page of trials; sort by a column, `metrics.NAME` or `params.PATH`."""
    services = services_of(request)
    search_for(services, identity, search_id)
    page = services.ledger.page_trials(
        search_id,
        conditions=conditions(where),
        sort=sort,
        descending=descending,
        limit=limit,
        after=from_text(after, (str, float, int, type(None)), (int,)),
    )
    return PageView(items=[TrialView.of(t) for t in page.items], next=to_text(page.next))


@router.get("/searches/{search_id}/trials/{trial_id}", summary="One trial")
def show(request: Request, identity: Asking, search_id: SearchId, trial_id: TrialId) -> TrialDetail:
    """Return a trial with its whole configuration and its share of the energy."""
    services = services_of(request)
    search_for(services, identity, search_id)
    found = services.ledger.trials(search_id, trial_ids=[trial_id])
    if not found:
        raise not_found("trial", trial_id)
    own = accounts(services.ledger, search_id).of_trial(trial_id) or {}
    return TrialDetail(
        **TrialView.of(found[0]).model_dump(),
        config=dict(found[0].config),
        active_kwh=own.get("active_kwh"),
        unmeasured_kwh=own.get("unmeasured_kwh"),
    )


@router.post(
    "/searches/{search_id}/trials/{trial_id}/stop", status_code=202, summary="Stop one trial"
)
def stop(request: Request, identity: Asking, search_id: SearchId, trial_id: TrialId) -> Answer:
    """Stop a trial at its next border; the others of its search go on."""
    services = services_of(request)
    own_search(services, identity, search_id)
    if not services.ledger.trials(search_id, trial_ids=[trial_id]):
        raise not_found("trial", trial_id)
    services.manager.stop_trial(identity.user, search_id, trial_id)
    services.ledger.audit(
        identity.user.user_id,
        "stop_trial",
        f"{search_id}/{trial_id}",
        address=address_of(request),
    )
    return Answer(detail=f"trial {trial_id} stops when its epoch has been saved")


@router.get("/searches/{search_id}/curves", summary="Learning curves, thinned")
def curves(
    request: Request,
    identity: Asking,
    search_id: SearchId,
    metric: Annotated[str, Query(max_length=60)] = "val_loss",
    trial: Annotated[
        list[Annotated[int, Query(ge=0, le=2**31 - 1)]] | None, Query(max_length=MAX_CURVES)
    ] = None,
    where: Where = None,
    max_points: Annotated[int, Query(ge=2, le=MAX_POINTS)] = 150,
) -> CurvesView:
    """Return curves of the trials that are named, or of up to 200 that meet the conditions.

    Of more than 200, every so-manieth is taken, so that all of the search is seen.
    """
    services = services_of(request)
    search_for(services, identity, search_id)
    ids: Sequence[int] = trial or _spread(
        services.ledger.matching_trials(search_id, conditions(where))
    )
    found = services.ledger.curve_points(search_id, ids, metric, max_points=max_points)
    return CurvesView(
        metric=metric,
        epochs={trial_id: [epoch for epoch, _ in points] for trial_id, points in found.items()},
        values={trial_id: [value for _, value in points] for trial_id, points in found.items()},
    )


def _spread(ids: list[int]) -> list[int]:
    stride = max(1, -(-len(ids) // MAX_CURVES))
    return ids[::stride]
