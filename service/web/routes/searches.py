"""Searches and studies: lists, one, its rounds, verdicts, warnings, and its live state."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from service.ledger.browse import Condition
from service.ledger.records import SearchRecord
from service.recipe.record import plain
from service.search.removal import delete_search
from service.web.access import Asking, address_of
from service.web.cursors import from_text, to_text
from service.web.live import event_stream
from service.web.openapi import answers_with
from service.web.problems import Problem
from service.web.reading import After, Limit, SearchId, own_search, search_for
from service.web.services import Services, services_of
from service.web.views import PageView, RoundView, SearchView, objective_of

router = APIRouter(tags=["searches"])
Kind = Literal["search", "study"]


@router.get("/searches", summary="Searches, newest first")
def list_searches(
    request: Request,
    identity: Asking,
    kind: Annotated[Kind | None, Query()] = None,
    state: Annotated[list[str] | None, Query(max_length=10)] = None,
    project: Annotated[str | None, Query(max_length=200)] = None,
    text: Annotated[str | None, Query(max_length=100, description="Part of id or project.")] = None,
    limit: Limit = 50,
    after: After = None,
) -> PageView[SearchView]:
    """List searches that you may see, with their best value, trials by state and energy."""
    services = services_of(request)
    page = services.ledger.page_searches(
        readable_by=identity.user,
        kinds=None if kind is None else [kind],
        states=state,
        project=project,
        text=text,
        limit=limit,
        after=from_text(after, (float, int), (str,)),
    )
    return PageView(items=shown(services, page.items), next=to_text(page.next))


@router.get("/studies", summary="Scaling studies, newest first")
def list_studies(
    request: Request, identity: Asking, limit: Limit = 50, after: After = None
) -> PageView[SearchView]:
    """List the studies that you may see; each is read under /searches as well."""
    return list_searches(request, identity, kind="study", limit=limit, after=after)


@router.get("/searches/{search_id}", summary="One search")
def show(request: Request, identity: Asking, search_id: SearchId) -> SearchView:
    """Return state, best value, counts and energy so far."""
    services = services_of(request)
    return shown(services, [search_for(services, identity, search_id)])[0]


@router.delete("/searches/{search_id}", status_code=204, summary="Delete a search")
def delete(request: Request, identity: Asking, search_id: SearchId) -> None:
    """Delete what was tried and found, with its files; what it used stays booked."""
    services = services_of(request)
    if own_search(services, identity, search_id).state == "running":
        raise Problem(409, f"`{search_id}` is running; stop it first")
    delete_search(services.ledger, search_id)
    services.ledger.audit(identity.user.user_id, "delete", search_id, address=address_of(request))


@router.get("/searches/{search_id}/spec", summary="The spec that was asked for")
def spec(request: Request, identity: Asking, search_id: SearchId) -> dict[str, Any]:
    """Return the spec as plain values."""
    search = search_for(services_of(request), identity, search_id)
    found: dict[str, Any] = plain(dict(search.spec))
    return found


@router.get("/searches/{search_id}/rounds", summary="Rounds with their spaces and reasons")
def rounds(request: Request, identity: Asking, search_id: SearchId) -> list[RoundView]:
    """Return every round: its space, why it is what it is, and what came of it."""
    services = services_of(request)
    search_for(services, identity, search_id)
    return [RoundView.of(record) for record in services.ledger.rounds(search_id)]


@router.get("/searches/{search_id}/verdicts", summary="What the recipe's steps found")
def verdicts(request: Request, identity: Asking, search_id: SearchId) -> list[dict[str, Any]]:
    """Return the verdicts in the order they were reached."""
    services = services_of(request)
    search_for(services, identity, search_id)
    found: list[dict[str, Any]] = plain(
        [dict(event.payload) for event in services.ledger.events(search_id, "verdict")]
    )
    return found


@router.get("/searches/{search_id}/warnings", summary="What went otherwise than asked")
def warnings(request: Request, identity: Asking, search_id: SearchId) -> list[str]:
    """Return the warnings, oldest first."""
    services = services_of(request)
    search_for(services, identity, search_id)
    return [str(e.payload["text"]) for e in services.ledger.events(search_id, "warning")]


@router.get(
    "/searches/{search_id}/live",
    summary="Its state as it changes (server-sent events)",
    response_class=StreamingResponse,
    responses=answers_with("text/event-stream"),
)
def live(request: Request, identity: Asking, search_id: SearchId) -> StreamingResponse:
    """Stream `state` events: counts, best value and epochs done, whenever they change."""
    services = services_of(request)
    search_for(services, identity, search_id)
    return event_stream(_states(services, search_id))


class HistoryView(BaseModel):
    """The best value so far, where it changed."""

    metric: str
    trials: list[int] = Field(description="Number of trials asked for by then.")
    best: list[float]


@router.get("/searches/{search_id}/history", summary="The best value so far")
def history(request: Request, identity: Asking, search_id: SearchId) -> HistoryView:
    """Return the steps of the best value in the order of trials."""
    services = services_of(request)
    search = search_for(services, identity, search_id)
    metric, direction = objective_of(search.spec)
    complete = [Condition(field="state", operator="=", value="complete")]
    steps: list[tuple[int, float]] = []
    values = services.ledger.trial_values(search_id, complete, metric)
    for trial_id, value in values:
        better = max if direction == "maximize" else min
        if value is not None and (not steps or better(value, steps[-1][1]) != steps[-1][1]):
            steps.append((trial_id + 1, value))
    if steps:
        steps.append((values[-1][0] + 1, steps[-1][1]))
    return HistoryView(metric=metric, trials=[n for n, _ in steps], best=[v for _, v in steps])


async def _states(services: Services, search_id: str) -> AsyncGenerator[tuple[str, str, str]]:
    states = services.feeds.watch(f"search {search_id}", lambda: live_state(services, search_id))
    async with aclosing(states):
        async for text in states:
            yield "state", "", text


def live_state(services: Services, search_id: str) -> dict[str, Any]:
    """Return what a watching page needs to know to decide what to read again."""
    ledger = services.ledger
    search = ledger.search(search_id)
    progress = ledger.progress(search_id)
    metric, direction = objective_of(search.spec)
    return {
        "state": search.state,
        "reason": search.reason,
        "trials": {p.state: p.num_trials for p in progress},
        "epochs_done": sum(p.epochs_done for p in progress),
        "epochs_planned": sum(p.horizon_epochs for p in progress),
        "rounds": [
            {
                "round": r.round,
                "kind": r.kind,
                "state": r.state,
                "planned_trials": r.planned_trials,
                "epochs": r.epochs,
            }
            for r in ledger.rounds(search_id)
        ],
        "best": ledger.best_value(search_id, metric, maximize=direction == "maximize"),
        "kwh": ledger.kwh_of([search_id]).get(search_id),
        "seconds": round(search.seconds),
        "job": _job_state(services, search_id),
    }


def _job_state(services: Services, search_id: str) -> dict[str, Any] | None:
    found = services.ledger.jobs(search_id=search_id, limit=1)
    if not found:
        return None
    names = ("state", "workers_busy", "workers_wanted", "reason")
    return {name: getattr(found[0], name) for name in names}


def shown(services: Services, records: Sequence[SearchRecord]) -> list[SearchView]:
    """Show a page of searches; what they need beside their rows is read at once."""
    ids = [record.search_id for record in records]
    counts, kwh = services.ledger.count_trials(ids), services.ledger.kwh_of(ids)
    views = []
    for record in records:
        metric, direction = objective_of(record.spec)
        used = kwh.get(record.search_id)
        views.append(
            SearchView.of(
                record,
                best=services.best.of(record, metric, maximize=direction == "maximize"),
                trials=counts[record.search_id],
                kwh=used,
                co2e_kg=None if used is None else services.site.co2e_kg(used),
            )
        )
    return views
