"""One driver per search: a second one would issue the same segments again."""

from __future__ import annotations

import time

import psutil

from service.energy.processes import boot_id, host_name
from service.ledger import Ledger
from service.ledger.records import SearchRecord, SpanRecord
from trainers.errors import LedgerError

SILENT_S = 60.0
"""A driver writes about once a second; one on another host that was silent so long is gone."""
CLOCK_SLACK_S = 2.0


def refuse_second_driver(ledger: Ledger, record: SearchRecord) -> None:
    """Refuse to run a search that another living process is running.

    On this host the process itself is looked for; of another host only what it last wrote is
    known, which needs clocks that agree to some seconds.

    Raises:
        LedgerError: with the process, its host and what to do.

    """
    spans = ledger.spans(record.search_id)
    if record.state != "running" or not spans:
        return
    last = spans[-1]
    here = last.host == host_name()
    if is_alive(last) if here else _silent_s(last) < SILENT_S:
        where = f"process {last.pid}" if here else f"process {last.pid} on {last.host}"
        wait = "" if here else f", or wait {SILENT_S:.0f} s if it was killed"
        raise LedgerError(
            f"`{record.search_id}` is being run by {where}; "
            f"stop it first: isoflop stop {record.search_id}{wait}"
        )


def is_alive(span: SpanRecord) -> bool:
    """Say whether the process that opened a span on this host still runs.

    A process of another boot, a zombie, or one that began after the span did is not it.
    """
    if span.boot_id != boot_id():
        return False
    try:
        process = psutil.Process(span.pid)
        began_unix_s = process.create_time()
        return (
            process.status() != psutil.STATUS_ZOMBIE
            and began_unix_s <= span.started_unix_s + CLOCK_SLACK_S
        )
    except psutil.NoSuchProcess:
        return False


def _silent_s(span: SpanRecord) -> float:
    last_unix_s = span.started_unix_s + span.ended_s - span.started_s
    return time.time() - last_unix_s
