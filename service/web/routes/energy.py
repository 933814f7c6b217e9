"""What a search used, and how that is known."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel

from service.energy import accounts
from service.recipe.record import plain
from service.web.access import Asking
from service.web.reading import SearchId, search_for
from service.web.services import services_of

router = APIRouter(tags=["energy"])


class EnergyView(BaseModel):
    """The accounts of a search in kWh: trials + padding + overhead + idle + others + gap = node."""

    kwh: dict[str, float]
    residual: float
    measured_share: float | None
    co2e_kg: float | None
    site: str
    provenance: dict[str, Any]


@router.get("/searches/{search_id}/energy", summary="Energy accounts")
def show(request: Request, identity: Asking, search_id: SearchId) -> EnergyView:
    """Return the accounts so far; they close to 1e-9."""
    services = services_of(request)
    search_for(services, identity, search_id)
    found = accounts(services.ledger, search_id)
    return EnergyView(
        kwh={**found.parts_kwh(), "wasted": found.wasted_kwh},
        residual=plain(found.residual) or 0.0,
        measured_share=plain(found.measured_share),
        co2e_kg=services.site.co2e_kg(found.own_kwh),
        site=services.site.describe(),
        provenance=plain(dict(found.provenance)),
    )
