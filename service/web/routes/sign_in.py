"""Signing a browser in with a token, and out again."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import parse_qs

from fastapi import APIRouter, Depends, Request
from fastapi.responses import RedirectResponse, Response

from service.web.access import (
    SESSION_COOKIE,
    address_of,
    refuse_foreign_writes,
)
from service.web.problems import Problem
from service.web.services import services_of

router = APIRouter(include_in_schema=False)


async def form_values(request: Request) -> dict[str, str]:
    """Read a form's fields; of a repeated one the first."""
    text = (await request.body()).decode("utf-8", "replace")
    return {name: values[0] for name, values in parse_qs(text).items()}


@router.post("/sign-in")
def sign_in(request: Request, form: Annotated[dict[str, str], Depends(form_values)]) -> Response:
    """Exchange a token for a session cookie; the form names where to go on."""
    refuse_foreign_writes(request)
    services, address = services_of(request), address_of(request)
    services.failures.check(address)
    token = form.get("token", "").strip()
    user = services.ledger.user_of_token(token) if services.settings.sign_in.tokens else None
    if user is None:
        services.failures.fail(address)
        services.ledger.audit("anonymous", "sign_in", outcome="refused", address=address)
        return RedirectResponse("/sign-in?failed=1", status_code=303)
    lifetime_s = services.settings.sign_in.session_hours * 3600
    _, cookie = services.ledger.open_session(user.user_id, lifetime_s)
    services.ledger.audit(user.user_id, "sign_in", address=address)
    response = RedirectResponse(_local_path(form.get("next", "/")), status_code=303)
    response.set_cookie(
        SESSION_COOKIE,
        cookie,
        max_age=int(lifetime_s),
        httponly=True,
        secure=request.url.scheme == "https",
        samesite="strict",
    )
    return response


@router.post("/sign-out")
def sign_out(request: Request) -> Response:
    """End the session."""
    refuse_foreign_writes(request)
    cookie = request.cookies.get(SESSION_COOKIE)
    if cookie:
        services_of(request).ledger.close_session(cookie)
    response = RedirectResponse("/sign-in", status_code=303)
    response.delete_cookie(SESSION_COOKIE)
    return response


def _local_path(target: str) -> str:
    """Never send a browser elsewhere: only a path of this service is followed."""
    if not target.startswith("/") or target.startswith(("//", "/\\")):
        return "/"
    if any(ord(letter) < 32 for letter in target):
        raise Problem(400, "`next` must be a path of this service")
    return target
