"""Webhooks: tell a host that the admin allowed how a job ended, or that its budget runs out.

A delivery is a row before it is a request, so that none is lost when the service is killed; a
receiver may see one twice, and knows it by job and event.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal

from service.jobs.records import JobRecord
from service.ledger import Ledger
from service.ledger.deliveries import Delivery
from service.search.spec import SearchSpec
from trainers.errors import IsoflopError

log = logging.getLogger("isoflop.webhooks")
Event = Literal["finished", "failed", "budget"]
EVERY_S = 2.0
TIMEOUT_S = 10.0
NEARLY = 0.9
"""Share of a budget whose use is told."""
BUDGET_EVERY_S = 60.0
"""Energy is folded from windows, so it is not asked for in every turn."""
RETRY_S = (10.0, 60.0, 300.0, 1800.0)
"""Waits between tries; after the last the delivery is given up and says why."""
Post = Callable[[str, Mapping[str, Any]], None]


class Webhooks:
    """Watches jobs that name a webhook, and delivers. One thread of its own."""

    def __init__(
        self, ledger: Ledger, *, post: Post | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        """Prepare; `start()` begins.

        Args:
            ledger: where jobs and deliveries are.
            post: sends one message and raises where that fails; None: over HTTP.
            clock: seconds since 1970.

        """
        self._ledger, self._post, self._clock = ledger, post or _post, clock
        self._looked: dict[str, float] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="webhooks", daemon=True)

    def start(self) -> None:
        """Take turns until `close()`."""
        self._thread.start()

    def close(self) -> None:
        """Take no more turns; what is due is delivered by the next service."""
        self._ended.set()
        self._thread.join(TIMEOUT_S + EVERY_S)

    def turn(self) -> None:
        """Note what happened to live and just ended jobs, then send what is due."""
        for job in self._ledger.jobs_with_webhook(since_unix_s=self._clock() - 86_400):
            event = self._event_of(job)
            if event is not None and self._ledger.note_delivery(job.job_id, event, self._clock()):
                log.info("job %s: webhook %s is due", job.job_id, event)
        for delivery in self._ledger.due_deliveries(self._clock()):
            self._send(delivery)

    def _event_of(self, job: JobRecord) -> Event | None:
        if job.state in ("finished", "failed"):
            return "failed" if job.state == "failed" else "finished"
        return "budget" if self._is_nearly_spent(job) else None

    def _is_nearly_spent(self, job: JobRecord) -> bool:
        now = self._clock()
        looked = self._looked.get(job.job_id, float("-inf"))
        if job.search_id is None or job.state != "running" or now - looked < BUDGET_EVERY_S:
            return False
        self._looked[job.job_id] = now
        return spent_share(self._ledger, job.search_id) >= NEARLY

    def _send(self, delivery: Delivery) -> None:
        job = self._ledger.job(delivery.job_id)
        assert job.webhook_url is not None
        try:
            self._post(job.webhook_url, message(job, delivery.event, delivery.noted_unix_s))
        except (OSError, IsoflopError) as error:
            tries = delivery.tries + 1
            wait = RETRY_S[tries - 1] if tries <= len(RETRY_S) else None
            log.warning("job %s: webhook %s failed: %s", job.job_id, delivery.event, error)
            self._ledger.delivery_failed(
                delivery, str(error), None if wait is None else self._clock() + wait
            )
        else:
            self._ledger.delivered(delivery, self._clock())

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                self.turn()
            except Exception:  # one bad job must not silence the others' webhooks
                log.exception("webhooks")
            self._ended.wait(EVERY_S)


def message(job: JobRecord, event: str, unix_s: float) -> dict[str, Any]:
    """Return what is sent: enough to know what happened, and nothing of what was found."""
    return {
        "event": event,
        "job_id": job.job_id,
        "search_id": job.search_id,
        "name": job.name,
        "project": job.project,
        "owner": job.owner,
        "state": job.state,
        "reason": job.reason,
        "unix_s": unix_s,
    }


def spent_share(ledger: Ledger, search_id: str) -> float:
    """Return the largest share of a search's budgets that is spent: time, energy, CO2."""
    from service.energy import Site, accounts

    search = ledger.search(search_id)
    budget = SearchSpec.from_mapping(dict(search.spec)).budget
    shares = [0.0]
    if budget.seconds is not None:
        shares.append(search.seconds / budget.seconds)
    if budget.kwh is not None or budget.kgco2e is not None:
        site = Site.from_environment()
        own_kwh = accounts(ledger, search_id).own_kwh
        if budget.kwh is not None:
            shares.append(site.facility_kwh(own_kwh) / budget.kwh)
        if budget.kgco2e is not None:
            shares.append((site.co2e_kg(own_kwh) or 0.0) / budget.kgco2e)
    return max(shares)


def _post(url: str, content: Mapping[str, Any]) -> None:
    import httpx

    try:
        answer = httpx.post(
            url, json=dict(content), timeout=TIMEOUT_S, follow_redirects=False, trust_env=False
        )
        answer.raise_for_status()
    except httpx.HTTPError as error:
        raise OSError(f"{type(error).__name__}: {error}") from error
