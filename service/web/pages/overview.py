"""The overview: what runs, what waits, what it used; and searches, newest first."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any, get_args

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, StreamingResponse

from service.jobs.records import UserRecord
from service.ledger.records import SearchState
from service.report.numbers import energy, mass
from service.web.access import Identity
from service.web.cursors import from_text, to_text
from service.web.live import event_stream
from service.web.pages.rendering import Visitor, render
from service.web.reading import After
from service.web.routes.searches import shown
from service.web.services import Services, services_of

router = APIRouter(include_in_schema=False)
PAGE = 50
Text = Annotated[str, Query(max_length=100)]


@router.get("/")
def overview(
    request: Request, identity: Visitor, text: Text = "", state: Text = "", after: After = None
) -> HTMLResponse:
    """Show searches and studies."""
    return _list(request, identity, "search", text, state, after)


@router.get("/studies")
def studies(
    request: Request, identity: Visitor, text: Text = "", state: Text = "", after: After = None
) -> HTMLResponse:
    """Show scaling studies."""
    return _list(request, identity, "study", text, state, after)


def _list(
    request: Request, identity: Identity, kind: str, text: str, state: str, after: str | None
) -> HTMLResponse:
    services = services_of(request)
    page = services.ledger.page_searches(
        readable_by=identity.user,
        kinds=None if kind == "search" else [kind],
        states=[state] if state else None,
        text=text or None,
        limit=PAGE,
        after=from_text(after or None, (float, int), (str,)),
    )
    return render(
        request,
        "overview.html",
        identity=identity,
        heading="Overview" if kind == "search" else "Scaling studies",
        empty="No searches yet." if kind == "search" else "No studies yet.",
        tiles=tiles(services, identity.user),
        searches=shown(services, page.items),
        next=to_text(page.next),
        text=text,
        state=state,
        states=get_args(SearchState),
    )


@router.get("/overview/live")
def live(request: Request, identity: Visitor) -> StreamingResponse:
    """Stream the tiles whenever they change."""
    return event_stream(_tiles(services_of(request), identity.user))


async def _tiles(services: Services, user: UserRecord) -> AsyncGenerator[tuple[str, str, str]]:
    topic = f"overview {user.user_id}"
    states = services.feeds.watch(topic, lambda: tiles(services, user))
    async with aclosing(states):
        async for text in states:
            yield "state", "", text


def tiles(services: Services, user: UserRecord) -> dict[str, Any]:
    """Return the numbers on top, as texts."""
    counts = services.ledger.count_searches(user)
    live = services.ledger.live_jobs()
    cluster = services.manager.cluster()
    kwh = services.total_kwh.value()
    co2 = services.site.co2e_kg(kwh)
    return {
        "running": counts.get("running", 0),
        "queued": sum(job.state == "queued" for job in live),
        "finished": counts.get("finished", 0),
        "kwh": energy(kwh),
        "co2": "kgCO2e: set ISOFLOP_COUNTRY" if co2 is None else f"{mass(co2)} CO2e",
        "workers": sum(job.workers_busy for job in live),
        "cluster": f"workers busy; {cluster.free_cpus:g} of {cluster.cpus:g} CPUs free"
        if cluster.reachable
        else "the cluster does not answer",
    }
