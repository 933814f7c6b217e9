"""Where the ledger and the cluster disagree about a job, and what follows. Pure rules.

| ledger says | cluster says | what it is |
|---|---|---|
| starting | never heard of it | its submission was lost: send it again, for a while |
| starting, running | forgot it, or it ended without a word | lost: resume it |
| starting | pending for too long | stuck: end it, try again |
| running | running, but silent for too long | stuck: end it, resume it |
| stopping | ended, or forgot it | stopped: what was saved is safe |
| stopping | still running after some patience | end it by signal |
| ended, or a later attempt | running | orphaned: end it |

Ages are differences of this host's clock and the driver's, so the limits are generous.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from service.jobs.backend import TERMINAL_RUNS, Run
from service.jobs.records import STARTED_STATES, JobRecord

SUBMIT_LIMIT_S = 120.0
PENDING_LIMIT_S = 600.0
"""Ray itself gives up after 15 minutes, and not always (ray#62766)."""
FIRST_WORD_LIMIT_S = 300.0
SILENT_LIMIT_S = 120.0
STOP_PATIENCE_S = 90.0
"""A driver asked through the ledger finishes its epochs; then it is asked by SIGTERM."""
MAX_ATTEMPTS = 5
_OURS = re.compile(r"(j-[a-z2-7]+)-(\d+)")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What is wrong with a job."""

    kind: Literal["unsent", "lost", "stuck", "stopped", "unheeded"]
    reason: str

    @property
    def must_be_ended(self) -> bool:
        """Whether something still runs that must not."""
        return self.kind in ("stuck", "unheeded")


def submission_id(job_id: str, attempt: int) -> str:
    """Return the cluster's name for an attempt."""
    return f"{job_id}-{attempt}"


def examine(job: JobRecord, run: Run, now_unix_s: float) -> Finding | None:
    """Compare a job that has begun with what the cluster says of its present attempt."""
    silent_s = now_unix_s - (job.heartbeat_unix_s or job.started_unix_s or now_unix_s)
    ended = run.state in TERMINAL_RUNS
    if job.state == "stopping":
        return _examine_stopping(job, run, now_unix_s, ended)
    if run.state == "unknown" and job.state == "starting" and silent_s < SUBMIT_LIMIT_S:
        return Finding(kind="unsent", reason="the cluster has not heard of it")
    if run.state == "unknown":
        return Finding(kind="lost", reason="the cluster knows nothing of it any more")
    if ended:
        code = "" if run.exit_code is None else f" with exit code {run.exit_code}"
        said = job.reason or f"without a word: {run.message or 'the cluster gives no reason'}"
        return Finding(kind="lost", reason=f"its driver ended{code}, {said}")
    if run.state == "pending" and silent_s > PENDING_LIMIT_S:
        return Finding(kind="stuck", reason=f"the cluster did not start it for {silent_s:.0f} s")
    limit_s = FIRST_WORD_LIMIT_S if job.state == "starting" else SILENT_LIMIT_S
    if run.state == "running" and silent_s > limit_s:
        return Finding(kind="stuck", reason=f"its driver has said nothing for {silent_s:.0f} s")
    return None


def _examine_stopping(job: JobRecord, run: Run, now_unix_s: float, ended: bool) -> Finding | None:
    if ended:
        return Finding(
            kind="stopped", reason=f"{job.reason or 'stopped'}; what was saved can be resumed"
        )
    if now_unix_s - (job.stopping_unix_s or now_unix_s) > STOP_PATIENCE_S:
        return Finding(kind="unheeded", reason="it did not stop when asked through the ledger")
    return None


def orphans(runs: Mapping[str, Run], known: Mapping[str, JobRecord]) -> list[str]:
    """Return submissions that the cluster runs and the ledger does not want.

    Only jobs that this ledger knows: another service may share the cluster.
    """
    found = []
    for name, run in runs.items():
        match = _OURS.fullmatch(name)
        if match is None or run.state in TERMINAL_RUNS or match[1] not in known:
            continue
        job = known[match[1]]
        if job.state not in STARTED_STATES or job.attempt != int(match[2]):
            found.append(name)
    return found


def job_ids(runs: Mapping[str, Run]) -> list[str]:
    """Return the job ids in submissions that still run and are named as ours are."""
    alive = (name for name, run in runs.items() if run.state not in TERMINAL_RUNS)
    return sorted({match[1] for match in map(_OURS.fullmatch, alive) if match})
