"""What users ask of the service: submit, watch, stop, resume, extend. The queue does the rest."""

from __future__ import annotations

import logging
import threading

from service.jobs.backend import JobBackend
from service.jobs.environment import driver_environment
from service.jobs.logs import LogSlice, read_slice
from service.jobs.queue import Decision
from service.jobs.scheduler import Scheduler
from service.jobs.settings import ServiceSettings
from service.jobs.steering import Steering
from service.jobs.submissions import Submissions
from service.ledger import Ledger
from trainers.errors import LedgerError

log = logging.getLogger("isoflop.jobs")
TURN_EVERY_S = 2.0


class JobManager(Submissions, Steering):
    """The service's jobs. Threads may share it."""

    def __init__(self, ledger: Ledger, backend: JobBackend, settings: ServiceSettings) -> None:
        """Prepare; `start()` begins to move jobs on."""
        environment = driver_environment(ledger, settings)
        super().__init__(ledger, settings, Scheduler(ledger, backend, settings.queue, environment))
        self._backend = backend
        self._turn = threading.Lock()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Take turns every two seconds, in a thread, until `close()`."""
        self._scheduler.look()  # so that the first job to come knows how many workers there are
        self._thread = threading.Thread(target=self._run, name="jobs", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Take no more turns, and end a cluster of our own. Jobs on another one go on."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join(30.0)
        self._backend.close()

    def tick(self) -> None:
        """Take one turn: reconcile, copy logs, share workers out, start jobs."""
        with self._turn:
            self._scheduler.turn()

    def log(self, job_id: str, offset: int = 0) -> LogSlice:
        """Return a job's log from a byte on; `next_offset` of the answer continues it exactly."""
        return read_slice(self._ledger, job_id, offset)

    def place_of(self, job_id: str) -> Decision | None:
        """Return a live job's place, as of the last turn; None: it was submitted since then."""
        return self._scheduler.decisions.get(job_id)

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                self.tick()
            except LedgerError as error:
                log.error("the ledger does not answer: %s", error)
            except Exception:  # a bug must not end the service: the next turn may do better
                log.exception("a turn failed")
            self._ended.wait(TURN_EVERY_S)
