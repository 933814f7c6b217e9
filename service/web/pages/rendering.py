"""From a template and its values to a page, for whoever is signed in."""

from __future__ import annotations

import time
from functools import cache
from typing import Annotated, Any
from urllib.parse import quote

import jinja2
from fastapi import Depends, Request
from fastapi.responses import HTMLResponse
from starlette.responses import RedirectResponse, Response

from service.jobs.records import LIVE_STATES
from service.report.html import prose
from service.report.numbers import duration, energy, mass, short
from service.web.access import Identity, identify
from service.web.pages import assets
from service.web.problems import CODE_OF_STATUS, TITLES, Problem
from service.web.services import services_of


class SignInFirst(Exception):
    """Nobody is signed in: the browser is sent to the sign-in page, and back afterwards."""

    def __init__(self, target: str) -> None:
        super().__init__(target)
        self.target = target


async def to_sign_in(request: Request, error: Exception) -> Response:
    """Send the browser to the sign-in page."""
    assert isinstance(error, SignInFirst)
    return RedirectResponse(f"/sign-in?next={quote(error.target)}", status_code=303)


def error_page(request: Request, problem: Problem) -> Response:
    """Show a problem to people."""
    title = TITLES[CODE_OF_STATUS.get(problem.status, "internal")]
    page = render(request, "error.html", title=title, detail=problem.detail, status=problem.status)
    page.headers.update(problem.headers)
    return page


def visitor(request: Request) -> Identity:
    """Return who looks at a page.

    Raises:
        SignInFirst: nobody is signed in.

    """
    found = identify(request)
    if found is None:
        query = f"?{request.url.query}" if request.url.query else ""
        raise SignInFirst(request.url.path + query)
    return found


Visitor = Annotated[Identity, Depends(visitor)]


def render(
    request: Request,
    template: str,
    *,
    identity: Identity | None = None,
    status: int = 200,
    **values: Any,
) -> HTMLResponse:
    """Fill a template; everything is escaped."""
    page = _environment().get_template(template)
    text = page.render(
        path=request.url.path,
        identity=identity,
        single_user=services_of(request).single_user,
        assets=assets.version(),
        **values,
    )
    return HTMLResponse(text, status_code=status)


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("service.web", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {
        "ago": _ago,
        "duration": duration,
        "energy": energy,
        "mass": mass,
        "prose": prose,
        "short": short,
    }
    environment.globals["LIVE_STATES"] = LIVE_STATES
    return environment


def _ago(unix_s: float | None) -> str:
    """Say how long ago something was."""
    if unix_s is None:
        return "–"
    seconds = max(time.time() - unix_s, 0.0)
    return "just now" if seconds < 5 else f"{duration(seconds)} ago"
