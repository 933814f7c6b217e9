"""Pages to submit, to see jobs and the cluster, and to sign in."""

from __future__ import annotations

from importlib.resources import files
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response

from service.jobs.permissions import may_submit
from service.jobs.records import UserRecord
from service.report.numbers import short
from service.web.access import identify
from service.web.pages.rendering import Visitor, render
from service.web.problems import not_found
from service.web.reading import JobId, job_for
from service.web.routes.jobs import shown
from service.web.services import Services, services_of

router = APIRouter(include_in_schema=False)
JOBS_SHOWN = 50


@router.get("/submit")
def submit_page(request: Request, identity: Visitor) -> HTMLResponse:
    """Show the editor."""
    services = services_of(request)
    return render(
        request,
        "submit.html",
        identity=identity,
        may_submit=may_submit(identity.user),
        ready=_ready(),
        spec="",
        priorities=services.settings.queue.priorities,
        quota=_quota(services, identity.user),
    )


@router.get("/submit/ready/{name}")
def ready_spec(name: str, identity: Visitor) -> Response:
    """Return a ready spec's text."""
    if name not in _ready():
        raise not_found("ready spec", name)
    return PlainTextResponse((files("search_spaces") / f"{name}.yaml").read_text(encoding="utf-8"))


@router.get("/jobs")
def jobs_page(
    request: Request, identity: Visitor, after: Annotated[str | None, Query(max_length=60)] = None
) -> HTMLResponse:
    """Show jobs, newest first."""
    services = services_of(request)
    if after is not None:
        job_for(services, identity, after)
    found = services.ledger.jobs(readable_by=identity.user, limit=JOBS_SHOWN + 1, before=after)
    jobs = [shown(services, job) for job in found[:JOBS_SHOWN]]
    more = jobs[-1].job_id if len(found) > JOBS_SHOWN else None
    return render(request, "jobs.html", identity=identity, jobs=jobs, next=more)


@router.get("/jobs/{job_id}")
def job_page(request: Request, identity: Visitor, job_id: JobId) -> Response:
    """Show a job: its search where it has one, else its place in the queue and its log."""
    services = services_of(request)
    job = job_for(services, identity, job_id)
    if job.search_id is not None:
        folder = "studies" if job.kind == "study" else "searches"
        return RedirectResponse(f"/{folder}/{job.search_id}", status_code=303)
    return render(request, "job.html", identity=identity, job=shown(services, job))


@router.get("/cluster")
def cluster_page(request: Request, identity: Visitor) -> HTMLResponse:
    """Show nodes and the queue."""
    services = services_of(request)
    cluster, live = services.manager.cluster(), services.ledger.live_jobs()
    waiting: dict[str, int] = {}
    for job in live:
        if job.state == "queued":
            waiting[job.priority] = waiting.get(job.priority, 0) + 1
    return render(
        request,
        "cluster.html",
        identity=identity,
        cluster=cluster,
        busy=sum(job.workers_busy for job in live),
        priorities=services.settings.queue.priorities,
        waiting=waiting,
    )


@router.get("/sign-in")
def sign_in_page(
    request: Request,
    next: Annotated[str, Query(max_length=500)] = "/",
    failed: bool = False,
) -> Response:
    """Show the form."""
    if identify(request) is not None:
        return RedirectResponse("/", status_code=303)
    return render(request, "sign_in.html", next=next, failed=failed, status=401 if failed else 200)


def _ready() -> list[str]:
    """Return the names of the ready specs."""
    folder = files("search_spaces")
    names = (path.name for path in folder.iterdir())
    return sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml"))


def _quota(services: Services, user: UserRecord) -> list[tuple[str, str]]:
    """Return what the user may hold, and how much of it is in use."""
    quota, used = services.manager.quota_of(user)
    return [
        (name.replace("_", " "), f"{short(used[name])} of {short(limit)} in use")
        for name, limit in quota.to_mapping().items()
    ]
