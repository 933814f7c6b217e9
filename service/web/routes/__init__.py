"""Routes by what they are about."""

from fastapi import APIRouter

from service.web.routes import (
    artifacts,
    cluster,
    energy,
    health,
    jobs,
    reference,
    searches,
    sign_in,
    specs,
    trials,
)

root_router = APIRouter()
for module in (health, sign_in):
    root_router.include_router(module.router)

api_router = APIRouter()
for module in (jobs, specs, searches, trials, energy, artifacts, cluster, reference):
    api_router.include_router(module.router)

__all__ = ["api_router", "root_router"]
