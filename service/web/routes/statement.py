"""The energy statement over HTTP."""

from __future__ import annotations

import time
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from service.energy.books import FactorBook, Statement, make_statement
from service.energy.books.formats import MEDIA_TYPES, SUFFIXES, written
from service.jobs.permissions import may_read
from service.ledger.book_records import day, unix_s_of
from service.web.access import Asking, Identity
from service.web.openapi import answers_with
from service.web.services import Services, services_of

router = APIRouter(tags=["energy"])
Format = Literal["json", "csv", "boamps"]


@router.get(
    "/energy/statement",
    summary="What searches used between two days",
    response_class=Response,
    responses=answers_with(*dict.fromkeys(MEDIA_TYPES.values())),
)
def statement(
    request: Request,
    identity: Asking,
    from_: Annotated[
        str, Query(alias="from", max_length=20, description="Day or month (UTC), e.g. 2026-11.")
    ] = "",
    to: Annotated[str, Query(max_length=20, description="First day that is not in it.")] = "",
    by: Annotated[
        str, Query(max_length=100, description="project, owner, month, site, search, kind.")
    ] = "project,month",
    format: Format = "json",
) -> Response:
    """Sum energy and emissions of the searches that you may see; totals equal the sum of rows."""
    made = statement_for(services_of(request), identity, from_, to, by)
    name = f"energy-{day(made.from_unix_s)}.{SUFFIXES[format]}"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(written(made, format), media_type=MEDIA_TYPES[format], headers=headers)


def statement_for(
    services: Services, identity: Identity, from_: str, to: str, by: str
) -> Statement:
    """Make the statement of what a user may see.

    Raises:
        ConfigError: for days or groupings that cannot be read.

    """
    first = unix_s_of(from_) if from_ else 0.0
    last = unix_s_of(to) if to else time.time()
    seen = [
        search
        for search in services.ledger.searches_between(first, last)
        if may_read(identity.user, search.owner, search.project)
    ]
    return make_statement(
        services.ledger,
        FactorBook(services.ledger.factors(), services.site),
        from_unix_s=first,
        to_unix_s=last,
        by=[name.strip() for name in by.split(",") if name.strip()],
        searches=seen,
    )
