"""The process that runs one attempt of a job on the cluster: `isoflop search` under a manager.

    python -m service.jobs.driver JOB_ID ATTEMPT

The ledger is named by the environment (`ISOFLOP_LEDGER`, or a file that holds its URL in
`ISOFLOP_LEDGER_FILE`), so that no password stands in a command line. What is to be done stands in
the ledger. Whatever happens, running an attempt again goes on from the last saved epoch.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from service.cli.failures import (
    BAD_INPUT,
    DONE,
    INTERRUPTED,
    NOTHING_FINISHED,
    RECIPE_STOPPED,
    exit_code_of,
)
from service.cli.live import PlainLines
from service.jobs.allowance import Heartbeat, JobAllowance
from service.jobs.records import JobRecord
from service.jobs.runners import RUNNERS
from service.ledger import Ledger
from trainers.errors import (
    ChangedError,
    ConfigError,
    IsoflopError,
    LedgerError,
    MissingError,
    WorkerError,
)

PREDECESSOR_PATIENCE_S = 150.0
"""How long a killed predecessor's search may look alive: on another host it is 60 s of silence."""


def main(arguments: Sequence[str]) -> int:
    """Run one attempt and return its exit code."""
    if len(arguments) != 2 or not arguments[1].isdigit():
        print("usage: python -m service.jobs.driver JOB_ID ATTEMPT", file=sys.stderr)
        return BAD_INPUT
    job_id, attempt = arguments[0], int(arguments[1])
    try:
        with Ledger.open(ledger_url(os.environ), create=False) as ledger:
            return run_attempt(ledger, job_id, attempt)
    except IsoflopError as error:
        print(f"isoflop: {error}", file=sys.stderr, flush=True)
        return exit_code_of(error)


def ledger_url(environment: Mapping[str, str]) -> str:
    """Return where the ledger is.

    Raises:
        ConfigError: if neither variable is set, or the file cannot be read.

    """
    named = environment.get("ISOFLOP_LEDGER_FILE")
    if named:
        try:
            return Path(named).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise ConfigError(
                f"`ISOFLOP_LEDGER_FILE` must name a readable file, but {named} is not "
                f"({error.strerror}); mount it on the node that runs drivers"
            ) from None
    url = environment.get("ISOFLOP_LEDGER")
    if not url:
        raise ConfigError(
            "a driver finds its ledger by `ISOFLOP_LEDGER` or `ISOFLOP_LEDGER_FILE`, but neither "
            "is set; drivers are started by `isoflop serve`, not by hand"
        )
    return url


def run_attempt(ledger: Ledger, job_id: str, attempt: int) -> int:
    """Do what a job asks for, and record how it ended; an attempt that was overtaken does nothing.

    Raises:
        IsoflopError: what ended it, after it was recorded.

    """
    job = ledger.job(job_id)
    began = ledger.update_job(
        job_id,
        if_attempt=attempt,
        if_state=("starting", "running"),
        state="running",
        heartbeat_unix_s=time.time(),
        started_unix_s=job.started_unix_s or time.time(),
    )
    if not began:
        print(f"attempt {attempt} of job {job_id} is not wanted any more", flush=True)
        return INTERRUPTED
    allowance = JobAllowance(ledger, job_id, attempt, most=job.workers_wanted)
    with Heartbeat(allowance, ledger, job_id, attempt):
        try:
            search_id = _work(ledger, job, attempt, allowance)
        except IsoflopError as error:
            if _may_pass(error):  # left as it is, the manager finds the job lost and resumes it
                ledger.update_job(job_id, if_attempt=attempt, reason=_first_line(error))
            else:
                _end(ledger, job, attempt, "failed", _first_line(error), exit_code_of(error))
            raise
    return _record_end(ledger, job, attempt, search_id)


def _may_pass(error: IsoflopError) -> bool:
    """Say whether an error is the machinery's, so that another attempt may do better."""
    if isinstance(error, ChangedError | MissingError):
        return False
    return isinstance(error, WorkerError | LedgerError)


def _work(ledger: Ledger, job: JobRecord, attempt: int, allowance: JobAllowance) -> str:
    """Run, resume or extend the job's search or study; return its id."""
    runner = RUNNERS[job.kind]
    means: dict[str, Any] = {
        "ledger": ledger.url,
        "workers": job.workers_wanted,
        # Ray names itself to the drivers that it starts; without it this machine does the work.
        "address": "auto" if os.environ.get("RAY_ADDRESS") else None,
        "display": PlainLines(),
        "allowance": allowance,
    }
    named, options = _asked(job)
    if job.search_id is None and named is None:
        folder = Path(os.environ.get("ISOFLOP_STORAGE", "runs"))
        print(f"attempt {attempt} of job {job.job_id}", flush=True)
        return runner.run(
            job.spec, folder=folder, owner=job.owner, of_job=(job.job_id, attempt), **means
        )
    search_id = job.search_id or str(named)
    print(f"attempt {attempt} of job {job.job_id}: {job.kind} {search_id}", flush=True)
    _wait_for_predecessor(ledger, search_id)
    means["accept_changes"] = bool(options.pop("accept_changes", False))
    if "extend" in job.action and not _is_extended(ledger, search_id, job):
        return runner.extend(search_id, of_job=(job.job_id, attempt), **options, **means)
    return runner.resume(search_id, **means)


def _asked(job: JobRecord) -> tuple[str | None, dict[str, Any]]:
    """Return the search that an action names, if any, and the action's further options."""
    action = dict(job.action)
    for kind in ("resume", "extend"):
        if kind in action:
            return str(action.pop(kind)), action
    return None, {}


def _is_extended(ledger: Ledger, search_id: str, job: JobRecord) -> bool:
    """Say whether an earlier attempt has extended the search already: it is done then."""
    return any(
        event.payload.get("job_id") == job.job_id for event in ledger.events(search_id, "extension")
    )


def _wait_for_predecessor(ledger: Ledger, search_id: str) -> None:
    """Wait until a killed driver's search looks like nobody's.

    Raises:
        LedgerError: if somebody else goes on working on it.

    """
    from service.search.single_driver import refuse_second_driver

    deadline_s = time.monotonic() + PREDECESSOR_PATIENCE_S
    while True:
        try:
            refuse_second_driver(ledger, ledger.search(search_id))
            return
        except LedgerError:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(1.0)


def _record_end(ledger: Ledger, job: JobRecord, attempt: int, search_id: str) -> int:
    """Turn the search's end into the job's; a driver that the cluster ended says nothing.

    What was interrupted without anybody asking is found by the manager, and resumed.
    """
    search = ledger.search(search_id)
    if search.state in ("interrupted", "stopped"):
        asked = search.state == "stopped" or ledger.job(job.job_id).state == "stopping"
        print(f"{search.reason}; what was done is saved", flush=True)
        if asked:
            _end(ledger, job, attempt, "stopped", search.reason, INTERRUPTED)
        return INTERRUPTED
    if search.state == "recipe_stopped":
        _end(ledger, job, attempt, "finished", search.reason, RECIPE_STOPPED)
        return RECIPE_STOPPED
    if not ledger.trials(search_id, states=["complete"]):
        why = search.reason or "no trial reached its end"
        _end(ledger, job, attempt, "failed", why, NOTHING_FINISHED)
        return NOTHING_FINISHED
    _end(ledger, job, attempt, "finished", search.reason, DONE)
    return DONE


def _end(
    ledger: Ledger, job: JobRecord, attempt: int, state: str, reason: str, exit_code: int
) -> None:
    ledger.update_job(
        job.job_id,
        if_attempt=attempt,
        if_state=("running", "stopping"),
        state=state,
        reason=reason,
        exit_code=exit_code,
        finished_unix_s=time.time(),
        workers_allowed=0,
        workers_busy=0,
    )
    print(f"job {job.job_id} has {state}{f': {reason}' if reason else ''}", flush=True)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
