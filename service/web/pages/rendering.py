"""From a template and its values to a page."""

from __future__ import annotations

from functools import cache
from typing import Any

import jinja2
from fastapi import Request
from fastapi.responses import HTMLResponse

from service.report.numbers import duration, energy, mass, short
from service.web.access import Identity


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
    text = page.render(path=request.url.path, identity=identity, **values)
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
    environment.filters |= {"duration": duration, "energy": energy, "mass": mass, "short": short}
    return environment
