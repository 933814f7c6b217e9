"""Submitting, watching and steering jobs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from functools import partial
from typing import Annotated, Any, Literal

from anyio import to_thread
from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat

from service.jobs.records import LIVE_STATES, JobRecord
from service.web.access import Asking, Identity, address_of, require_role
from service.web.live import event_stream
from service.web.openapi import answers_with
from service.web.reading import JobId, Limit, job_for, own_job
from service.web.services import Services, services_of
from service.web.specs import spec_mapping
from service.web.views import JobView, PageView

router = APIRouter(tags=["jobs"])
LOG_BYTES = 65_536
LOG_POLL_S = 0.5


class Submission(BaseModel):
    """What to run."""

    model_config = ConfigDict(extra="forbid")
    spec: dict[str, Any] | str = Field(description="A spec as a mapping, or as YAML text.")
    priority: Annotated[str, Field(max_length=40)] = "normal"
    workers: Annotated[int, Field(ge=1, le=10_000)] | None = None
    webhook_url: Annotated[str, Field(max_length=500)] | None = None


class Extension(BaseModel):
    """What to add to a search (trials, epochs, space) or study (budgets, sizes) that ended."""

    model_config = ConfigDict(extra="forbid")
    trials: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    epochs: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    space: dict[str, Any] | None = None
    budgets_flops: Annotated[list[PositiveFloat], Field(max_length=1000)] | None = None
    sizes: dict[str, Annotated[list[Any], Field(max_length=1000)]] | None = None


class LogView(BaseModel):
    """A piece of a job's log."""

    text: str
    next_offset: int = Field(description="Byte to go on from.")
    ended: bool = Field(description="Whether nothing more will come.")


IdempotencyKey = Annotated[
    str | None,
    Header(alias="Idempotency-Key", max_length=200, description="One key makes one job."),
]


WAYS = {"session": "on a page", "token": "over the API"}
"""How a stop came, by how its user was known; a proxy's users may come either way."""


@router.post("/jobs", status_code=201, summary="Submit a search or study")
def submit(
    request: Request,
    response: Response,
    identity: Asking,
    submission: Submission,
    key: IdempotencyKey = None,
) -> JobView:
    """Queue a job. The same `Idempotency-Key` of the same user gives the first job again."""
    require_role(identity, "submitter", "admin")
    services = services_of(request)
    with spec_mapping(submission.spec) as mapping:
        job = services.manager.submit(
            identity.user,
            mapping,
            priority=submission.priority,
            idempotency_key=key,
            workers=submission.workers,
            webhook_url=submission.webhook_url,
        )
    _note(request, identity, "submit", job.job_id)
    response.headers["Location"] = f"/api/v1/jobs/{job.job_id}"
    return shown(services, job)


@router.get("/jobs", summary="Jobs, newest first")
def list_jobs(
    request: Request,
    identity: Asking,
    owner: Annotated[str | None, Query(max_length=100)] = None,
    state: Annotated[list[str] | None, Query(max_length=10)] = None,
    project: Annotated[str | None, Query(max_length=200)] = None,
    limit: Limit = 50,
    after: Annotated[str | None, Query(max_length=60, description="The last job's id.")] = None,
) -> PageView[JobView]:
    """List the jobs that you may see, page by page."""
    services = services_of(request)
    if after is not None:
        job_for(services, identity, after)
    found = services.ledger.jobs(
        owner=owner,
        states=state,
        project=project,
        readable_by=identity.user,
        limit=limit + 1,
        before=after,
    )
    items = [shown(services, job) for job in found[:limit]]
    return PageView(items=items, next=items[-1].job_id if len(found) > limit else None)


@router.get("/jobs/{job_id}", summary="One job")
def show(request: Request, identity: Asking, job_id: JobId) -> JobView:
    """Return state, place in the queue and the reason for waiting."""
    services = services_of(request)
    return shown(services, job_for(services, identity, job_id))


@router.post("/jobs/{job_id}/extend", status_code=202, summary="Add to a finished search")
def extend(request: Request, identity: Asking, job_id: JobId, extension: Extension) -> JobView:
    """Queue a job that adds to what this one finished; what it has not is trained, no more."""
    services = services_of(request)
    own_job(services, identity, job_id)
    wanted = extension.model_dump(exclude_none=True)
    job = services.manager.extend(identity.user, job_id, **wanted)
    _note(request, identity, "extend", job_id)
    return shown(services, job)


@router.post("/jobs/{job_id}/{action}", status_code=202, summary="Stop, cancel or resume a job")
def act(
    request: Request,
    identity: Asking,
    job_id: JobId,
    action: Literal["stop", "cancel", "resume"],
) -> JobView:
    """Steer a job.

    stop: the running epoch is finished and saved, and the job can be resumed. cancel: one that
    has not begun never does. resume: goes on where the last saved epoch was.
    """
    services = services_of(request)
    job = own_job(services, identity, job_id)
    manager = services.manager
    steps: Mapping[str, Any] = {
        "stop": partial(manager.stop, how=WAYS.get(identity.via, "")),
        "cancel": manager.cancel,
        "resume": manager.resume,
    }
    after = steps[action](identity.user, job.job_id)
    _note(request, identity, action, job_id)
    return shown(services, after)


@router.get("/jobs/{job_id}/log", summary="A piece of the log")
def log(
    request: Request,
    identity: Asking,
    job_id: JobId,
    offset: Annotated[int, Query(ge=0, le=2**53)] = 0,
) -> LogView:
    """Return the log from a byte on: at most 64 KiB at a time."""
    services = services_of(request)
    job_for(services, identity, job_id)
    piece = services.manager.log(job_id, offset)
    return LogView(text=piece.text, next_offset=piece.next_offset, ended=piece.ended)


@router.get(
    "/jobs/{job_id}/log/stream",
    summary="The log as it grows (server-sent events)",
    response_class=StreamingResponse,
    responses=answers_with("text/event-stream"),
)
def log_stream(
    request: Request,
    identity: Asking,
    job_id: JobId,
    offset: Annotated[int, Query(ge=0, le=2**53)] = 0,
    last_event_id: Annotated[str | None, Header(alias="Last-Event-ID", max_length=30)] = None,
) -> StreamingResponse:
    """Stream `log` events (`data`: JSON text of a piece), and `end` when nothing more comes.

    A client that reconnects sends the last event's id, and misses and repeats nothing.
    """
    services = services_of(request)
    job_for(services, identity, job_id)
    start = int(last_event_id) if last_event_id and last_event_id.isdigit() else offset
    return event_stream(_log_events(services, job_id, start))


async def _log_events(
    services: Services, job_id: str, offset: int
) -> AsyncGenerator[tuple[str, str, str]]:
    while True:
        piece = await to_thread.run_sync(services.manager.log, job_id, offset)
        offset = piece.next_offset
        if piece.text:
            yield "log", str(offset), json.dumps(piece.text)
        elif piece.ended:
            yield "end", str(offset), "{}"
            return
        else:
            yield "", "", ""
            await asyncio.sleep(LOG_POLL_S)


def shown(services: Services, job: JobRecord) -> JobView:
    """Show a job with its place in the queue."""
    if job.state not in LIVE_STATES:
        return JobView.of(job)
    place = services.manager.place_of(job.job_id)
    if place is None:
        return JobView.of(job)
    shown = JobView.of(
        job, position=place.position, estimated_start_unix_s=place.estimated_start_unix_s
    )
    return shown.model_copy(update={"reason": place.waits_because or job.reason})


def _note(request: Request, identity: Identity, action: str, target: str) -> None:
    services_of(request).ledger.audit(
        identity.user.user_id, action, target, address=address_of(request)
    )
