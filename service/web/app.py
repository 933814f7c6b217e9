"""The application: routes, pages, and what every answer carries."""

from __future__ import annotations

from functools import partial

from fastapi import FastAPI
from starlette.middleware.gzip import GZipMiddleware
from starlette.staticfiles import StaticFiles

from service.energy import Site
from service.jobs.manager import JobManager
from service.jobs.settings import ServiceSettings
from service.ledger import Ledger
from service.search.provenance import versions
from service.web import pages, problems
from service.web.access import FailureLimit
from service.web.fitting import Fitter
from service.web.live import LiveFeeds
from service.web.openapi import describe
from service.web.pages.rendering import SignInFirst, error_page, to_sign_in
from service.web.routes import api_router, root_router
from service.web.security import BodyLimit, SecurityHeaders
from service.web.services import Services

MIN_GZIP_BYTES = 1000
BODY_OVERHEAD_KB = 64
"""What a request holds beside its spec."""
DESCRIPTION = """Submit searches and scaling studies, watch them, and read what they found.

Send a token with every request: `Authorization: Bearer iso_...`. Errors are
`application/problem+json` with a stable `code`. Lists come page by page: pass `next` as `after`.
"""


def create_app(
    manager: JobManager, ledger: Ledger, settings: ServiceSettings, fitter: Fitter
) -> FastAPI:
    """Return the service as an ASGI application.

    Args:
        manager: the queue and the cluster; it must have been started.
        ledger: where everything is recorded.
        settings: the service's config.
        fitter: what fits the laws of studies; whoever made it closes it.

    """
    app = FastAPI(
        title="isoflop",
        version=versions()["isoflop"],
        description=DESCRIPTION,
        openapi_url="/api/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
    )
    app.state.services = Services(
        ledger=ledger,
        manager=manager,
        settings=settings,
        failures=FailureLimit(),
        feeds=LiveFeeds(),
        site=Site.from_environment(),
        fitter=fitter,
    )
    app.openapi = partial(describe, app)  # type: ignore[method-assign]
    problems.install(app, error_page)
    app.add_exception_handler(SignInFirst, to_sign_in)
    app.mount("/static", StaticFiles(packages=[("service.web", "static")]), name="static")
    app.include_router(root_router)
    app.include_router(api_router, prefix="/api/v1")
    app.include_router(pages.router)
    app.add_middleware(SecurityHeaders)
    app.add_middleware(GZipMiddleware, minimum_size=MIN_GZIP_BYTES)
    limit_kb = settings.allow.max_spec_kb + BODY_OVERHEAD_KB
    app.add_middleware(BodyLimit, max_bytes=limit_kb * 1024)
    return app
