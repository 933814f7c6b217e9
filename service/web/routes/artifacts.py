"""A search's files: report, best configuration, tables, weights."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Annotated, Literal

from fastapi import APIRouter, Request
from fastapi import Path as PathParameter
from fastapi.responses import FileResponse, StreamingResponse
from pydantic import BaseModel
from starlette.background import BackgroundTask

from service.ledger.records import SearchRecord
from service.ledger.slices import copy_search
from service.web.access import Asking
from service.web.openapi import answers_with
from service.web.problems import not_found
from service.web.reading import SearchId, search_for
from service.web.services import services_of
from service.web.tables import table_stream

router = APIRouter(tags=["artifacts"])
TYPES = {
    ".html": "text/html",
    ".json": "application/json",
    ".yaml": "application/yaml",
    ".csv": "text/csv",
    ".parquet": "application/vnd.apache.parquet",
    ".pt": "application/octet-stream",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".pdf": "application/pdf",
    ".tex": "application/x-tex",
}
"""What may be fetched; anything else in the folder is nobody's business."""
LEDGER_TYPE = "application/vnd.sqlite3"


class ArtifactView(BaseModel):
    """One file."""

    name: str
    num_bytes: int
    media_type: str


@router.get("/searches/{search_id}/artifacts", summary="The files of a search")
def list_artifacts(request: Request, identity: Asking, search_id: SearchId) -> list[ArtifactView]:
    """List report, best configuration, tables and weights, as far as they were written."""
    search = search_for(services_of(request), identity, search_id)
    return [
        ArtifactView(name=path.name, num_bytes=path.stat().st_size, media_type=TYPES[path.suffix])
        for path in files_of(search)
    ]


@router.get(
    "/searches/{search_id}/artifacts/{name}",
    summary="One file",
    response_class=FileResponse,
    responses=answers_with(*TYPES.values()),
)
def fetch(
    request: Request,
    identity: Asking,
    search_id: SearchId,
    name: Annotated[str, PathParameter(max_length=200)],
) -> FileResponse:
    """Return a file as a download; pages are never shown under the service's own address."""
    search = search_for(services_of(request), identity, search_id)
    for path in files_of(search):
        if path.name == name:
            return FileResponse(path, media_type=TYPES[path.suffix], filename=name)
    raise not_found("file", name)


@router.get(
    "/searches/{search_id}/tables/{table}.{format}",
    summary="All rows as CSV or Parquet",
    response_class=StreamingResponse,
    responses=answers_with(TYPES[".csv"], TYPES[".parquet"]),
)
def download(
    request: Request,
    identity: Asking,
    search_id: SearchId,
    table: Literal["trials", "curves", "rounds"],
    format: Literal["csv", "parquet"],
) -> StreamingResponse:
    """Return a whole table of one search as it is now."""
    services = services_of(request)
    search_for(services, identity, search_id)
    return table_stream(services.ledger, search_id, table, format)


@router.get(
    "/searches/{search_id}/ledger",
    summary="The search as a ledger of its own (SQLite)",
    response_class=FileResponse,
    responses=answers_with(LEDGER_TYPE),
)
def slice_of_ledger(request: Request, identity: Asking, search_id: SearchId) -> FileResponse:
    """Return everything about the search, to be read by isoflop elsewhere."""
    services = services_of(request)
    search_for(services, identity, search_id)
    folder = Path(tempfile.mkdtemp(prefix="isoflop-slice-"))
    copy_search(services.ledger, search_id, folder / "ledger.db")
    return FileResponse(
        folder / "ledger.db",
        media_type=LEDGER_TYPE,
        filename=f"{search_id}.db",
        background=BackgroundTask(shutil.rmtree, folder, ignore_errors=True),
    )


def files_of(search: SearchRecord) -> list[Path]:
    """Return the files that may be fetched, by name; links are not followed."""
    folder = Path(search.out_dir) if search.out_dir else None
    if folder is None or not folder.is_dir():
        return []
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix in TYPES and path.is_file() and not path.is_symlink()
    )
