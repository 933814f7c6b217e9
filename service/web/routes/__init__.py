"""Routes by what they are about."""

from fastapi import APIRouter

from service.web.routes import (
    artifacts,
    charts,
    cluster,
    energy,
    health,
    jobs,
    reference,
    searches,
    sign_in,
    specs,
    statement,
    studies,
    trials,
)

root_router = APIRouter()
for router in (health.router, sign_in.router):
    root_router.include_router(router)

api_router = APIRouter()
for router in (
    jobs.router,
    specs.router,
    searches.router,
    studies.router,
    trials.router,
    charts.router,
    energy.router,
    statement.router,
    artifacts.router,
    cluster.router,
    reference.router,
):
    api_router.include_router(router)

__all__ = ["api_router", "root_router"]
