"""The dashboard: pages rendered on the server, and the small scripts that keep them live."""

from fastapi import APIRouter

from service.web.pages import assets, energy, overview, searches, work

router = APIRouter()
for part in (assets.router, overview.router, searches.router, work.router, energy.router):
    router.include_router(part)

__all__ = ["router"]
