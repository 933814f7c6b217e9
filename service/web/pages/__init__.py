"""The dashboard: pages rendered on the server, and the small scripts that keep them live."""

from fastapi import APIRouter

from service.web.pages import assets, energy, overview, searches, studies, work

router = APIRouter()
for part in (assets, overview, searches, studies, work, energy):
    router.include_router(part.router)

__all__ = ["router"]
