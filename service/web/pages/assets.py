"""Style and scripts: our own modules, the report's look, and plotly from its wheel."""

from __future__ import annotations

import gzip
import hashlib
from functools import cache
from importlib.resources import files

from fastapi import APIRouter, Request
from fastapi.responses import Response

from service.report.charts.base import COLOURS
from service.report.html import colour_css

router = APIRouter(include_in_schema=False)
FOR_A_YEAR = "public, max-age=31536000, immutable"


@router.get("/assets/plotly.js")
def plotly(request: Request) -> Response:
    """Return plotly.js as its wheel carries it, compressed once and kept by browsers."""
    return _kept(request, _plotly_gz(), "text/javascript", compressed=True)


@router.get("/assets/look.css")
def look(request: Request) -> Response:
    """Return colours and style of reports, which pages share."""
    css = (files("service.report") / "templates" / "report.css").read_text(encoding="utf-8")
    return _kept(request, (colour_css() + css).encode(), "text/css")


@router.get("/assets/colours.json")
def colours() -> dict[str, dict[str, str]]:
    """Return the colours that figures name, for light and dark."""
    return {str(scheme): names for scheme, names in COLOURS.items()}


@cache
def version() -> str:
    """Return a word that changes with the assets, for their addresses."""
    digest = hashlib.sha256(_plotly_gz())
    for folder in (files("service.web") / "static", files("service.report") / "templates"):
        for path in sorted(folder.iterdir(), key=lambda path: path.name):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


@cache
def _plotly_gz() -> bytes:
    from plotly.offline import get_plotlyjs

    return gzip.compress(get_plotlyjs().encode(), compresslevel=6, mtime=0)


def _kept(request: Request, body: bytes, media_type: str, *, compressed: bool = False) -> Response:
    tag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
    headers = {"ETag": tag, "Cache-Control": FOR_A_YEAR, "Vary": "Accept-Encoding"}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    if compressed and "gzip" in request.headers.get("accept-encoding", ""):
        return Response(
            body, media_type=media_type, headers={**headers, "Content-Encoding": "gzip"}
        )
    if compressed:
        body = gzip.decompress(body)
    return Response(body, media_type=media_type, headers=headers)
