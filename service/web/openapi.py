"""The OpenAPI document: FastAPI's, with the problems that each operation answers with."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from service.web.problems import CODE_OF_STATUS, TITLES

PROBLEM = {
    "title": "Problem",
    "description": "An error (RFC 9457), with a code that programs may rely on.",
    "type": "object",
    "required": ["type", "title", "status", "code", "detail"],
    "properties": {
        "type": {"type": "string", "description": "urn:isoflop:problem:CODE"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string", "enum": list(TITLES)},
        "detail": {"type": "string", "description": "The rule, the value, and what to do."},
        "errors": {
            "type": "array",
            "items": {"type": "string"},
            "description": "One sentence per fault.",
        },
    },
}
TOKEN = {
    "type": "http",
    "scheme": "bearer",
    "description": "A token made by `isoflop users add`. A service without users needs none.",
}
OPEN = ("/healthz", "/readyz")
"""Answered whoever asks."""


def answers_with(*media_types: str) -> dict[int | str, dict[str, Any]]:
    """Return what a route says of a success that is no JSON of a model."""
    return {200: {"content": {name: {} for name in media_types}}}


def describe(app: FastAPI) -> dict[str, Any]:
    """Return the document; made once."""
    if app.openapi_schema is None:
        app.openapi_schema = _complete(
            get_openapi(
                title=app.title,
                version=app.version,
                description=app.description,
                routes=app.routes,
            )
        )
    return app.openapi_schema


def _complete(schema: dict[str, Any]) -> dict[str, Any]:
    components = schema.setdefault("components", {})
    components["schemas"] = {
        name: part
        for name, part in components.get("schemas", {}).items()
        if name not in ("HTTPValidationError", "ValidationError")  # they become problems
    } | {"Problem": PROBLEM}
    components["securitySchemes"] = {"token": TOKEN}
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            operation["responses"].pop("422", None)
            if path in OPEN:
                continue
            operation["security"] = [{"token": []}]
            for status in _statuses(path, method, operation):
                operation["responses"].setdefault(str(status), _problem(status))
    return schema


def _statuses(path: str, method: str, operation: dict[str, Any]) -> list[int]:
    """Return the problems that an operation may answer with."""
    found = [401, 403, 413, 429, 503]
    if operation.get("parameters") or "requestBody" in operation:
        found.append(400)
    if "{" in path or operation.get("parameters"):
        found.append(404)
    if method in ("post", "delete"):
        found.append(409)
    return sorted(found)


def _problem(status: int) -> dict[str, Any]:
    return {
        "description": TITLES[CODE_OF_STATUS[status]],
        "content": {
            "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}
        },
    }
