"""Whether the service lives, whether it can work, and what it counts."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response

from service.web.access import Asking
from service.web.metrics import exposition
from service.web.services import services_of

router = APIRouter(tags=["operation"])


@router.get("/healthz", summary="Whether the process lives")
async def healthz() -> dict[str, str]:
    """Answer as long as the process does; asks neither ledger nor cluster."""
    return {"status": "alive"}


@router.get(
    "/readyz", summary="Whether it can take work", responses={503: {"description": "Not yet"}}
)
def readyz(request: Request) -> Response:
    """Ask the ledger and the cluster; 503 names what does not answer."""
    services = services_of(request)
    parts = {"ledger": "ready", "cluster": "ready"}
    try:
        services.ledger.live_jobs()
    except Exception:  # whatever is wrong with a database, it is not ready
        parts["ledger"] = "does not answer"
    cluster = services.manager.cluster()
    if not cluster.reachable:
        parts["cluster"] = "does not answer"
    ready = all(state == "ready" for state in parts.values())
    return JSONResponse(parts, status_code=200 if ready else 503)


@router.get("/metrics", summary="Counters for Prometheus", response_class=PlainTextResponse)
def metrics(request: Request, identity: Asking) -> str:
    """Return gauges and counters in Prometheus's text format; any signed-in user may read them."""
    return exposition(services_of(request))
