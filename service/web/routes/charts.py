"""Charts of a search as plotly figures, with the numbers behind them."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from service.web.access import Asking
from service.web.reading import SearchId, Where, conditions, search_for
from service.web.services import services_of

router = APIRouter(tags=["searches"])


class ChartsView(BaseModel):
    """All charts of a selection of trials."""

    charts: list[dict[str, Any]] = Field(
        description="name, title, note, labels and figures (one per view), and a table. Colours "
        "are names (`@accent`), to be looked up in the scheme that is shown."
    )
    num_trials: int = Field(description="Trials that meet the conditions.")
    num_drawn: int = Field(description="Of these, drawn: the best and a spread of the others.")


@router.get("/searches/{search_id}/charts", summary="Charts, of all trials or of a selection")
def charts(
    request: Request, identity: Asking, search_id: SearchId, where: Where = None
) -> ChartsView:
    """Draw the trials that meet the conditions, the same charts as in the report."""
    services = services_of(request)
    search = search_for(services, identity, search_id)
    drawn = services.charts.draw(search, conditions(where))
    return ChartsView(charts=drawn.charts, num_trials=drawn.num_trials, num_drawn=drawn.num_drawn)
