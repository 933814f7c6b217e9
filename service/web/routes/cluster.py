"""The cluster, the queue's limits, who asks, and the audit."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from service.recipe.record import plain
from service.web.access import Asking, require_role
from service.web.reading import Limit
from service.web.services import services_of
from service.web.views import AuditView, MeView, PageView

router = APIRouter(tags=["operation"])


@router.get("/me", summary="Who you are, and your quota")
def me(request: Request, identity: Asking) -> MeView:
    """Return your role, the projects that you may read, and your limits."""
    return MeView.of(identity.user, identity.via)


@router.get("/cluster", summary="Nodes, workers and whether they answer")
def cluster(request: Request, identity: Asking) -> dict[str, Any]:
    """Return what the cluster holds and what is free."""
    found: dict[str, Any] = plain(asdict(services_of(request).manager.cluster()))
    return found


@router.get("/audit", summary="Who did what (admins)")
def audit(
    request: Request,
    identity: Asking,
    user: Annotated[str | None, Query(max_length=100)] = None,
    action: Annotated[str | None, Query(max_length=60)] = None,
    limit: Limit = 50,
    after: Annotated[int | None, Query(ge=0, le=2**53, description="The last event's id.")] = None,
) -> PageView[AuditView]:
    """List audit events, newest first."""
    require_role(identity, "admin")
    found = services_of(request).ledger.audit_events(
        user_id=user, action=action, limit=limit + 1, before=after
    )
    items = [AuditView.of(record) for record in found[:limit]]
    return PageView(items=items, next=str(items[-1].event_id) if len(found) > limit else None)
