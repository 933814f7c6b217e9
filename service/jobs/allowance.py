"""What a driver asks the ledger while it works: how many workers, and whether it is wanted."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from service.ledger import Ledger
from service.ledger.jobs import JobOrders
from trainers.errors import LedgerError

ASK_EVERY_S = 1.0
HEARTBEAT_S = 5.0


class JobAllowance:
    """The share of the cluster that the queue gives to one attempt of a job."""

    def __init__(
        self,
        ledger: Ledger,
        job_id: str,
        attempt: int,
        *,
        most: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger, self._job_id, self._attempt = ledger, job_id, attempt
        self._most, self._clock = most, clock
        self._orders: JobOrders | None = None
        self._asked_s = 0.0
        self.num_busy = 0
        """Workers in use, as the search last said; the heartbeat passes it on."""

    def orders(self) -> JobOrders:
        """Return what the job is to do, at most a second old. One read by key."""
        now = self._clock()
        if self._orders is None or now - self._asked_s >= ASK_EVERY_S:
            self._orders, self._asked_s = self._ledger.job_orders(self._job_id), now
        return self._orders

    def workers(self, num_busy: int) -> int:
        """Return how many workers the search may hold now."""
        self.num_busy = min(num_busy, self._most)  # one segment more may wait for a free worker
        return self.orders().workers_allowed

    def reason_to_stop(self) -> str:
        """Return why this process must leave the search alone: asked to, or overtaken."""
        orders = self.orders()
        if orders.attempt != self._attempt:
            return (
                f"attempt {orders.attempt} of job {self._job_id} has taken over from this one, "
                f"which is attempt {self._attempt}"
            )
        return (orders.reason or "its job was asked to stop") if orders.state == "stopping" else ""


class Heartbeat:
    """Tells the ledger every few seconds that a driver's process lives. Use as a context."""

    def __init__(self, allowance: JobAllowance, ledger: Ledger, job_id: str, attempt: int) -> None:
        self._allowance, self._ledger = allowance, ledger
        self._job_id, self._attempt = job_id, attempt
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> Heartbeat:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(HEARTBEAT_S)

    def _beat(self) -> None:
        while True:
            try:
                self._ledger.update_job(
                    self._job_id,
                    if_attempt=self._attempt,
                    heartbeat_unix_s=time.time(),
                    workers_busy=self._allowance.num_busy,
                )
            except LedgerError as error:  # a database that is away now is asked again
                print(f"heartbeat: {error}", flush=True)
            if self._ended.wait(HEARTBEAT_S):
                return
