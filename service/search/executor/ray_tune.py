"""Ray Tune as the scheduler of segments: a searcher that pops a queue, and workers kept alive.

Tune keeps no state that we need. Its traps, each with a regression test in
`tests/service/search/executor/test_ray_traps.py`:

- at a barrier its actor cache keeps one actor and kills the rest: `KeepWorkers`;
- `suggest` blocks Tune's loop, and None from it while nothing runs makes Tune sleep in steps of
  one second: `ReadyQueue.suggest` blocks itself, but only while nothing runs;
- a searcher is pickled into Tune's state: `ReadyQueue.__getstate__` leaves everything out;
- a retry by Tune is not told to the searcher: `max_failures=0`, we retry.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray import cloudpickle, tune
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from service.search.executor.ray_cluster import WorkerShape

NO_LIMIT = 10**9
MAX_FAILED_STARTS = 6
"""In a row; from then on a worker starts only when a segment needs it, and says why it failed."""


@dataclass(frozen=True, kw_only=True)
class Ticket:
    """A segment in Tune's hands."""

    name: str
    """Short: it names a folder."""
    work: Any
    """Reference to a `ray_worker.Work`."""
    is_start: bool = False
    """No segment: a worker is to start, and to wait for the others."""


class ReadyQueue(Searcher):
    """Gives Tune the next ticket whenever a worker is free; never thinks."""

    def __init__(
        self,
        num_workers: int,
        on_end: Callable[[Ticket, BaseException | None], None],
        start_tickets: Callable[[], Sequence[Ticket]],
    ) -> None:
        """Prepare a queue that begins with one start ticket per worker.

        Args:
            num_workers: tickets in Tune's hands at the same time.
            on_end: called on Tune's thread with a ticket and, where Tune saw it fail, the error.
            start_tickets: makes one ticket per worker that ends when all workers are there. They
                run first, and again after a death, as soon as nothing else runs: Tune would
                rather put two segments on one worker in turn than wait for a second to start.

        """
        super().__init__()
        self._num_workers = num_workers
        self._on_end = on_end
        self._changed = threading.Condition()
        self._ready: deque[Ticket] = deque()
        self._running: dict[str, Ticket] = {}
        self._errors: dict[str, BaseException] = {}
        self._start_tickets = start_tickets
        self._worker_missing = True
        self._failed_starts = 0
        self._closed = False

    def __getstate__(self) -> dict[str, Any]:
        """Leave out locks and threads: nothing is ever restored from Tune's state."""
        return {}

    @property
    def idle_workers(self) -> int:
        """How many tickets would start at once."""
        with self._changed:
            return max(0, self._num_workers - len(self._running) - len(self._ready))

    @property
    def num_workers(self) -> int:
        """How many tickets may be in Tune's hands."""
        return self._num_workers

    @property
    def num_running(self) -> int:
        """How many are."""
        with self._changed:
            return len(self._running)

    def resize(self, num_workers: int) -> None:
        """Hand out so many tickets at a time from now on.

        Workers that come on top start when a ticket finds no free one, or all together as soon as
        nothing runs: to wait for that on purpose would leave the others idle.
        """
        with self._changed:
            if num_workers > self._num_workers:
                self._worker_missing = True
            self._num_workers = num_workers
            self._changed.notify_all()

    def put(self, ticket: Ticket) -> None:
        """Add a ticket to the end."""
        with self._changed:
            self._ready.append(ticket)
            self._changed.notify_all()

    def take_back_waiting(self) -> list[Ticket]:
        """Remove and return the tickets that Tune has not taken."""
        with self._changed:
            waiting = list(self._ready)
            self._ready.clear()
            return waiting

    def close(self) -> None:
        """Let Tune end as soon as nothing runs."""
        with self._changed:
            self._closed = True
            self._ready.clear()
            self._changed.notify_all()

    def suggest(self, trial_id: str) -> Any:
        """Return the next ticket as a Tune config, `FINISHED`, or None while all are busy."""
        with self._changed:
            if self._worker_missing and not self._running:
                self._ready.extendleft(self._start_tickets())
                self._worker_missing = False
            if not self._running:
                self._changed.wait_for(lambda: bool(self._ready) or self._closed)
            if self._closed:
                return Searcher.FINISHED
            if not self._ready or len(self._running) >= self._num_workers:
                return None
            ticket = self._running[trial_id] = self._ready.popleft()
        # One reference in a list: more in a config, or numbers in a result, cost Tune up to 90 ms.
        return {"segment": ticket.name, "work": [ticket.work]}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Free the worker's place and pass the end on."""
        with self._changed:
            ticket = self._running.pop(trial_id, None)
            if ticket is not None and ticket.is_start:
                self._failed_starts = self._failed_starts + 1 if error else 0
            if error and self._failed_starts < MAX_FAILED_STARTS:
                self._worker_missing = True
        cause = self._errors.pop(trial_id, None)
        if ticket is not None:
            self._on_end(ticket, cause)

    def note_error(self, trial_id: str, error: BaseException) -> None:
        """Remember why Tune is about to call a trial failed: it does not say so itself."""
        self._errors[trial_id] = error

    def save(self, checkpoint_path: str) -> None:
        """Keep nothing: the ledger is the only truth."""

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing: the ledger is the only truth."""


class KeepWorkers(FIFOScheduler):
    """First in, first out, and every worker survives a barrier.

    Tune caches as many idle actors as trials are pending, plus one; at a barrier none is pending.
    Raising that number by the number of workers keeps them all (2 processes for 12 segments over
    6 barriers instead of 5); lowering it lets workers go as their segments end. Sound only with one
    resource shape. The cache is a private attribute:
    where a newer Ray has none, workers restart at barriers, which is slow but right.
    """

    def __init__(self, queue: ReadyQueue) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._queue = queue
        self._shape: Any = None
        self._raised_by = 0

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Learn the workers' shape, and raise the cache's size."""
        super().on_trial_add(tune_controller, trial)
        self._shape = trial.placement_group_factory
        self._fit_cache(tune_controller)

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """Follow the queue's number of workers; Tune asks in each round of its loop."""
        self._fit_cache(tune_controller)
        return super().choose_trial_to_run(tune_controller)

    def _fit_cache(self, tune_controller: Any) -> None:
        cache = getattr(tune_controller, "_actor_cache", None)
        wanted = self._queue.num_workers
        if cache is not None and self._shape is not None and wanted != self._raised_by:
            cache.increase_max(self._shape, by=wanted - self._raised_by)
            self._raised_by = wanted

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """Hand the reason on to the queue."""
        super().on_trial_error(tune_controller, trial)
        path = trial.pickled_error_file
        if path is not None and os.path.exists(path):
            error = cloudpickle.loads(Path(path).read_bytes())
            self._queue.note_error(trial.trial_id, error)


def run_tune(worker: type[Any], queue: ReadyQueue, shape: WorkerShape, scratch: Path) -> None:
    """Run Tune's loop until the queue is closed; blocks.

    Tune shuffles its events with the global `random`: it consumes the calling process's global
    random state. Nothing in isoflop draws from that.
    """
    tuner = tune.Tuner(
        tune.with_resources(worker, shape.bundle),
        tune_config=tune.TuneConfig(
            search_alg=queue,
            scheduler=KeepWorkers(queue),
            num_samples=NO_LIMIT,
            reuse_actors=True,
            trial_name_creator=_name,
            trial_dirname_creator=_name,
        ),
        run_config=tune.RunConfig(
            name="search",
            storage_path=str(scratch),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=0),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    )
    tuner.fit()


def _name(trial: Any) -> str:
    return str(trial.config["segment"])
