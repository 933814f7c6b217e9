"""Errors as `application/problem+json` (RFC 9457), with a code that programs may rely on.

| code | status | when |
|---|---|---|
| invalid | 400 | the request breaks a rule: a spec, a parameter, a value |
| unauthenticated | 401 | nobody is signed in, or the token is unknown, expired or revoked |
| forbidden | 403 | signed in, but not allowed |
| not_found | 404 | there is no such thing, or it is not the reader's to see |
| conflict | 409 | what is asked does not fit the present state |
| too_large | 413 | the body is larger than allowed |
| invalid (422 becomes 400) | 400 | FastAPI's own validation |
| rate_limited | 429 | too many failed sign-ins |
| internal | 500 | a bug of ours; the log has it |
| unavailable | 503 | the ledger or the cluster does not answer |
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from trainers.errors import ConfigError, IsoflopError, LedgerError

log = logging.getLogger("isoflop.web")
TITLES = {
    "invalid": "The request breaks a rule",
    "unauthenticated": "Sign in first",
    "forbidden": "Not allowed",
    "not_found": "There is no such thing",
    "method_not_allowed": "This address does not take that method",
    "conflict": "That does not fit the present state",
    "too_large": "The request is too large",
    "rate_limited": "Too many failed sign-ins",
    "internal": "Something went wrong here",
    "unavailable": "Not available right now",
}
CODE_OF_STATUS = {
    400: "invalid",
    401: "unauthenticated",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    409: "conflict",
    413: "too_large",
    429: "rate_limited",
    503: "unavailable",
}


class Problem(Exception):
    """An answer that is no success: what a route raises."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        **extra: Any,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})
        self.extra = extra


def not_found(what: str, key: object) -> Problem:
    """Return the 404 for an id that is not there, or not the reader's to see."""
    return Problem(404, f"there is no {what} `{key}` that you may see")


def problem_response(
    status: int,
    detail: str,
    *,
    headers: Mapping[str, str] | None = None,
    **extra: Any,
) -> JSONResponse:
    """Write a problem."""
    code = CODE_OF_STATUS.get(status, "internal")
    body = {
        "type": f"urn:isoflop:problem:{code}",
        "title": TITLES[code],
        "status": status,
        "code": code,
        "detail": detail,
        **extra,
    }
    return JSONResponse(
        body, status_code=status, media_type="application/problem+json", headers=dict(headers or {})
    )


def install(app: FastAPI) -> None:
    """Answer every error of every route as a problem."""

    @app.exception_handler(Problem)
    async def _problem(request: Request, error: Problem) -> Response:
        return problem_response(error.status, error.detail, headers=error.headers, **error.extra)

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        detail = f"{request.method} {request.url.path}: {error.detail}"
        return problem_response(error.status_code, detail, headers=error.headers)

    @app.exception_handler(RequestValidationError)
    async def _validation(request: Request, error: RequestValidationError) -> Response:
        faults = [_sentence(fault) for fault in error.errors()]
        return problem_response(400, "; ".join(faults), errors=faults)

    @app.exception_handler(ConfigError)
    async def _config(request: Request, error: ConfigError) -> Response:
        return problem_response(400, str(error), errors=str(error).splitlines())

    @app.exception_handler(LedgerError)
    async def _ledger(request: Request, error: LedgerError) -> Response:
        log.error("ledger: %s", error)
        return problem_response(503, "the ledger does not answer; the service's log says why")

    @app.exception_handler(IsoflopError)
    async def _isoflop(request: Request, error: IsoflopError) -> Response:
        return problem_response(409, str(error))

    @app.exception_handler(Exception)
    async def _bug(request: Request, error: Exception) -> Response:
        log.exception("%s %s failed", request.method, request.url.path, exc_info=error)
        return problem_response(500, "this is a bug of ours; the service's log has the details")


def _sentence(fault: Mapping[str, Any]) -> str:
    """Say which part of the request broke which rule, without echoing large values."""
    place = ".".join(str(part) for part in fault["loc"] if part not in ("body", "query", "path"))
    got = repr(fault.get("input"))
    shown = got if len(got) <= 80 else f"{got[:77]}..."
    rule = str(fault["msg"])
    return f"`{place or 'body'}`: {rule[:1].lower()}{rule[1:]}, but got {shown}"
