"""The page of one scaling study."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from service.web.pages.rendering import Visitor, render
from service.web.pages.searches import latest_job, may_act
from service.web.reading import SearchId
from service.web.routes.artifacts import files_of
from service.web.routes.searches import shown
from service.web.routes.studies import study_for, study_state
from service.web.services import services_of

router = APIRouter(include_in_schema=False)


@router.get("/studies/{study_id}")
def study_page(request: Request, identity: Visitor, study_id: SearchId) -> HTMLResponse:
    """Show a study; laws and charts are read by the page itself, because fitting takes seconds."""
    services = services_of(request)
    study = study_for(request, identity, study_id)
    ledger = services.ledger
    job = latest_job(ledger, study_id)
    state = study_state(services, study_id)
    planned = state["epochs_planned"]
    warnings = [str(e.payload["text"]) for e in ledger.events(study_id, "warning")]
    return render(
        request,
        "study.html",
        identity=identity,
        study=shown(services, [study])[0],
        job=job,
        may_act=may_act(identity, study, job),
        num_points=state["num_points"],
        has_report=any(path.name == "report.html" for path in files_of(study)),
        percent=round(100 * state["epochs_done"] / planned) if planned else 0,
        rounds=ledger.rounds(study_id),
        warnings=list(dict.fromkeys(warnings)),
    )
