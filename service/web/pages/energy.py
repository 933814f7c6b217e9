"""The energy statement as a page."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse

from service.energy.books.formats import method_text
from service.web.pages.rendering import Visitor, render
from service.web.routes.statement import statement_for
from service.web.services import services_of
from trainers.errors import ConfigError

router = APIRouter(include_in_schema=False)
COLUMNS = (
    "searches",
    "trials",
    "failed",
    "pruned",
    "kwh",
    "kwh_failed",
    "kwh_pruned",
    "kwh_wasted",
    "measured_share",
    "pue",
    "kwh_with_pue",
    "kgco2e_location",
    "kgco2e_market",
    "gap_hours",
)
Day = Annotated[str, Query(max_length=20)]


@router.get("/energy")
def energy_page(
    request: Request,
    identity: Visitor,
    from_: Annotated[str, Query(alias="from", max_length=20)] = "",
    to: Day = "",
    by: Annotated[str, Query(max_length=100)] = "project,month",
) -> HTMLResponse:
    """Show the statement of a span of time; without one, of this month."""
    services = services_of(request)
    first = from_ or datetime.fromtimestamp(time.time(), UTC).strftime("%Y-%m")
    statement: dict[str, Any] | None = None
    problem = ""
    try:
        statement = statement_for(services, identity, first, to, by).to_mapping()
    except ConfigError as error:
        problem = str(error)
    return render(
        request,
        "energy.html",
        identity=identity,
        statement=statement,
        problem=problem,
        first=first,
        last=to,
        by=by,
        columns=COLUMNS,
        editions=services.ledger.editions() if identity.user.role == "admin" else [],
        otherwise=services.site.describe(),
        method=method_text(),
    )
