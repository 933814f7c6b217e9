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
from collections.abc import Callable, Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from trainers.errors import ConfigError, IsoflopError, LedgerError, MissingError, WorkerError

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


def install(app: FastAPI, as_page: Callable[[Request, Problem], Response]) -> None:
    """Answer every error of every route: as a problem, or as a page where a browser asked for one.

    Args:
        app: the application.
        as_page: shows a problem to people.

    """

    async def answer(request: Request, error: Exception) -> Response:
        problem = problem_of(request, error)
        if request.url.path.startswith("/api/") or "text/html" not in request.headers.get(
            "accept", ""
        ):
            return problem_response(
                problem.status, problem.detail, headers=problem.headers, **problem.extra
            )
        return as_page(request, problem)

    for kind in (Problem, HTTPException, RequestValidationError, IsoflopError, Exception):
        app.add_exception_handler(kind, answer)


def problem_of(request: Request, error: Exception) -> Problem:
    """Say what went wrong in the terms of the table above."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, HTTPException):
        detail = f"{request.method} {request.url.path}: {error.detail}"
        return Problem(error.status_code, detail, headers=error.headers)
    if isinstance(error, RequestValidationError):
        faults = [_sentence(fault) for fault in error.errors()]
        return Problem(400, "; ".join(faults), errors=faults)
    if isinstance(error, ConfigError):
        return Problem(400, str(error), errors=str(error).splitlines())
    if isinstance(error, MissingError):
        return Problem(404, "there is no such thing that you may see")
    if isinstance(error, LedgerError):
        log.error("ledger: %s", error)
        return Problem(503, "the ledger does not answer; the service's log says why")
    if isinstance(error, WorkerError):
        return Problem(503, str(error))
    if isinstance(error, IsoflopError):
        return Problem(409, str(error))
    log.exception("%s %s failed", request.method, request.url.path, exc_info=error)
    return Problem(500, "this is a bug of ours; the service's log has the details")


def _sentence(fault: Mapping[str, Any]) -> str:
    """Say which part of the request broke which rule, without echoing large values."""
    place = ".".join(str(part) for part in fault["loc"] if part not in ("body", "query", "path"))
    got = repr(fault.get("input"))
    shown = got if len(got) <= 80 else f"{got[:77]}..."
    rule = str(fault["msg"])
    return f"`{place or 'body'}`: {rule[:1].lower()}{rule[1:]}, but got {shown}"
