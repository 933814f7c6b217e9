"""`isoflop submit`, `jobs`, `status`, `logs`, `fetch`: commands that talk to a running service."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.options import JsonOption, OutOption, emit
from trainers.errors import ScalingError, ServiceError

if TYPE_CHECKING:
    from service.api import SearchResult
    from service.scaling.study import ScalingStudy

UrlOption = Annotated[
    str | None,
    typer.Option("--url", envvar="ISOFLOP_URL", help="The service. Default: this machine's."),
]
TokenOption = Annotated[
    str | None,
    typer.Option("--token", envvar="ISOFLOP_TOKEN", help="Your token; better in ISOFLOP_TOKEN."),
]
JobArgument = Annotated[str, typer.Argument(help="A job, as `isoflop jobs` shows it.")]
JOB_PREFIX = "j-"


def submit(
    spec: Annotated[Path, typer.Argument(help="The spec file (YAML).")],
    priority: Annotated[str, typer.Option(help="Class: debug, normal, sweep, ...")] = "normal",
    workers: Annotated[int | None, typer.Option(min=1, help="Workers that it may use.")] = None,
    webhook: Annotated[str | None, typer.Option(help="URL that is told how it ended.")] = None,
    key: Annotated[
        str | None, typer.Option(help="Submitting twice with one key makes one job.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait, then fetch its files.")] = False,
    out: OutOption = None,
    url: UrlOption = None,
    token: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Hand a spec to the service, which queues and runs it.

    Example: isoflop submit search_spaces/demo.yaml --priority debug --wait
    """
    from service.client import Client

    with Client(url, token) as client:
        job = client.submit(
            spec, priority=priority, workers=workers, webhook_url=webhook, idempotency_key=key
        )
        status = job.status()
        if not wait:
            emit(as_json, status, _line(status))
            return
        if not as_json:
            typer.echo(_line(status), err=True)
        result = job.wait(out=out)
        folder, _, found = _what_it_says(result)
        emit(as_json, _record(result) if as_json else None, f"{found}\nfiles: {folder}")


def jobs(
    state: Annotated[list[str] | None, typer.Option(help="Only in this state.")] = None,
    owner: Annotated[str | None, typer.Option(help="Only this user's.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=500)] = 50,
    url: UrlOption = None,
    token: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the service's jobs, newest first, with their place in the queue."""
    from rich.table import Table

    from service.client import Client

    with Client(url, token) as client:
        found = client.jobs(state=state, owner=owner, limit=limit)
    table = Table("job", "search", "owner", "state", "place", "workers", "why")
    for job in found:
        table.add_row(
            job["job_id"],
            job["search_id"] or job["name"],
            job["owner"],
            job["state"],
            str(job["position"] or ""),
            f"{job['workers_busy']}/{job['workers_wanted']}",
            job["reason"],
        )
    emit(as_json, found, table)


def status(
    job_id: JobArgument,
    url: UrlOption = None,
    token: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one job: state, place in the queue, workers, and the search that it runs."""
    from service.client import Client

    with Client(url, token) as client:
        found = client.status(job_id)
        if found["search_id"] is not None:
            found["search"] = client.get(f"searches/{found['search_id']}")
    emit(as_json, found, _lines(found))


def logs(
    job_id: JobArgument,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Until the job ends.")] = False,
    url: UrlOption = None,
    token: TokenOption = None,
) -> None:
    """Print a job's log; it is kept after the cluster is gone."""
    from service.client import Client

    with Client(url, token) as client:
        for piece in client.log(job_id, follow=follow):
            typer.echo(piece, nl=False)


def fetch(
    job_or_search: Annotated[str, typer.Argument(help="A job or a search.")],
    out: OutOption = None,
    url: UrlOption = None,
    token: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Copy a search's report, tables, weights and its part of the ledger to this machine."""
    from service.client import Client

    with Client(url, token) as client:
        search_id = job_or_search
        if is_job(job_or_search):
            search_id = client.status(job_or_search)["search_id"]
            if search_id is None:
                raise ServiceError(f"job {job_or_search} has no search yet; `isoflop status` it")
        result = client.fetch(search_id, out)
    folder, ledger, found = _what_it_says(result)
    answer = {"search": search_id, "folder": str(folder), "ledger": ledger}
    emit(as_json, answer, f"{found}\nfiles: {folder}")


def _what_it_says(result: SearchResult | ScalingStudy) -> tuple[Path, str, str]:
    """Return the folder and ledger of what was fetched, and its verdict or sentence."""
    from service.api import SearchResult

    if isinstance(result, SearchResult):
        return result.out_dir, result.ledger_url, result.verdict
    found = result.recorded
    assert found is not None  # it was read from the ledger that was fetched
    try:
        sentence = result.analysis().sentence
    except ScalingError as error:
        sentence = f"no law yet: {error}"
    return found.out_dir, found.ledger_url, sentence


def _record(result: SearchResult | ScalingStudy) -> dict[str, Any]:
    """Return what `summary.json` or `study.json` holds."""
    from service.api import SearchResult
    from service.scaling.report.record import record

    return result.summary() if isinstance(result, SearchResult) else record(result.analysis())


def is_job(name: str) -> bool:
    """Say whether an id names a job of a service, and not a search in a ledger."""
    return name.startswith(JOB_PREFIX)


def act_on_job(job_id: str, action: str, as_json: bool, **more: Any) -> None:
    """Stop, resume, cancel or extend a job of the service that the environment names."""
    from service.client import Client

    with Client() as client:
        after = client.extend(job_id, **more) if action == "extend" else client.act(job_id, action)
    emit(as_json, after, _line(after))


def _line(job: dict[str, Any]) -> str:
    place = f", place {job['position']}" if job["position"] else ""
    why = f": {job['reason']}" if job["reason"] else ""
    return f"{job['job_id']} ({job['search_id'] or job['name']}) is {job['state']}{place}{why}"


def _lines(job: dict[str, Any]) -> str:
    lines = [_line(job)]
    if job["position"] and job["estimated_start_unix_s"]:
        wait_s = max(job["estimated_start_unix_s"] - time.time(), 0.0)
        lines.append(f"estimated to start in {wait_s / 60:.0f} min")
    lines.append(
        f"workers: {job['workers_busy']} busy, {job['workers_allowed']} allowed, "
        f"{job['workers_wanted']} wanted"
    )
    if "search" in job:
        search = job["search"]
        counts = ", ".join(f"{n} {state}" for state, n in search["trials"].items())
        lines.append(f"{search['search_id']}: {search['state']}, {counts}")
        lines.append(f"best {search['metric']}: {search['best']}")
    return "\n".join(lines)
