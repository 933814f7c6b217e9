"""Copying drivers' logs into the ledger, so that they are there when the cluster is gone."""

from __future__ import annotations

from dataclasses import dataclass

from service.jobs.backend import JobBackend
from service.jobs.records import JobRecord
from service.ledger import Ledger

MAX_LOG_BYTES = 2**20
"""Of one attempt. What a driver prints in a day is a tenth of it."""
SLICE_BYTES = 65_536


@dataclass(frozen=True, kw_only=True)
class LogSlice:
    """A piece of a job's log."""

    text: str
    next_offset: int
    """Where to go on reading: bytes from the beginning of the job's first attempt."""
    ended: bool
    """Whether nothing more will come."""


def copy_log(
    ledger: Ledger,
    backend: JobBackend,
    job: JobRecord,
    *,
    final: bool,
    max_bytes: int = MAX_LOG_BYTES,
) -> None:
    """Add what the present attempt has printed since the last copy.

    Whole lines only, until the last time: the cluster may have half of a character. A log longer
    than `max_bytes` is cut there, and says so.

    Raises:
        ClusterError: if the cluster does not answer; nothing is lost, it is asked again.

    """
    have = ledger.log_bytes(job.job_id, job.attempt)
    if job.submission_id is not None and have < max_bytes:
        printed = backend.logs(job.submission_id).encode()
        if not final:
            printed = printed[: printed.rfind(b"\n") + 1]
        if len(printed) > max_bytes:
            kept = printed[:max_bytes].decode(errors="ignore")
            cut = f"\n[the log is cut here, at {max_bytes / 1024:.0f} kB; the cluster has the rest]"
            printed = f"{kept}{cut}\n".encode()
        ledger.append_log(
            job.job_id, job.attempt, printed[have:].decode(errors="replace"), at_byte=have
        )
    if final:
        ledger.update_job(job.job_id, if_attempt=job.attempt, log_open=False)


def read_slice(ledger: Ledger, job_id: str, offset: int) -> LogSlice:
    """Return the log from a byte on, at most 64 KiB.

    Raises:
        MissingError: for an unknown job.

    """
    job = ledger.job(job_id)  # before the log: what is printed after that is not missed
    text, next_offset = ledger.read_log(job_id, offset=offset, limit_bytes=SLICE_BYTES)
    complete = job.has_ended and not job.log_open
    return LogSlice(text=text, next_offset=next_offset, ended=complete and not text)
