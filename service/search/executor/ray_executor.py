"""Segments on Ray workers: Ray Tune schedules them, a mailbox carries what they say."""

from __future__ import annotations

import os
import pickle
import queue
import shutil
import tempfile
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from service.messages import AnyMessage, Began, Failed, Finished, Interrupted, SegmentOrder
from service.search.executor.mailbox import Mailbox
from service.search.executor.ray_cluster import Cluster, WorkerShape
from service.search.executor.ray_tune import ReadyQueue, Ticket, run_tune
from service.search.executor.ray_worker import Meeting, SegmentWorker, Work
from service.search.segment import Training, isoflop_training, name_of
from trainers.errors import WorkerError

COLLECT_TIMEOUT_S = 0.5
CLOSE_PATIENCE_S = 20.0


@dataclass(frozen=True)
class _Ended:
    """The driver's own word in the mailbox: Tune is done with this ticket.

    It queues behind everything the worker had posted, so no border is lost where the worker died.
    """

    ticket_name: str
    error: str
    """Why Tune calls it failed; empty where the worker died or nothing failed."""


@dataclass
class _Open:
    """An order that is not answered yet."""

    order: SegmentOrder
    began: Began | None = None


class RayExecutor:
    """Several workers, on this machine or on a cluster, behind the interface of `Executor`.

    What an executor says is in memory until the ledger has it: a killed driver loses what it had
    not applied, and the next attempt says it again.
    """

    def __init__(
        self,
        num_workers: int,
        *,
        address: str | None = None,
        shape: WorkerShape | None = None,
        training: Callable[[], Training] = isoflop_training,
        worker: type[SegmentWorker] = SegmentWorker,
        start_with: int | None = None,
    ) -> None:
        """Start or join Ray, and begin to start the workers in the background.

        Args:
            num_workers: segments at the same time; fewer where the cluster holds fewer.
            address: a running cluster (`host:port` of its head, or `auto`); None: Ray is started
                on this machine and stopped by `close()`, unless this process is already connected.
            shape: what each worker occupies; None: one CPU.
            training: returns the functions that train a pack; called on the workers.
            worker: the Tune trainable.
            start_with: hold only so many at first, see `resize`; None: all.

        Raises:
            ConfigError: if no node could ever hold one worker.
            WorkerError: if Ray does not start or the address does not answer.

        """
        self._shape = shape or WorkerShape()
        self._cluster = Cluster(num_workers, self._shape, address)
        self._most = self._cluster.num_workers
        self.num_workers = self._most if start_with is None else min(start_with, self._most)
        # Tune suggests one trial at a time unless told how many may wait for an actor.
        os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(self._most)
        self._training, self._worker = training, worker
        self._scratch = Path(tempfile.mkdtemp(prefix="isoflop-tune-"))
        self._messages: queue.SimpleQueue[AnyMessage] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._open: dict[str, _Open] = {}
        self._datasets: dict[str, Any] = {}
        self._pids: set[int] = set()
        self._stopping = self._closed = False
        self._broken: BaseException | None = None
        self._mailbox = self._start_mailbox()
        self._meetings = 0
        self._queue = ReadyQueue(self.num_workers, self._on_end, self._start_tickets)
        self._tune_thread: threading.Thread | None = None
        self._mailbox_thread = threading.Thread(target=self._collect, name="mailbox", daemon=True)
        self._mailbox_thread.start()
        if self.num_workers > 0:
            self._start_tune()

    @property
    def idle_workers(self) -> int:
        """How many orders would start at once."""
        with self._lock:
            return max(0, self.num_workers - len(self._open))

    def submit(self, order: SegmentOrder) -> None:
        """Queue an order; the first with its data loads them and puts them into Ray's store.

        Raises:
            DataError: if the data cannot be loaded.
            WorkerError: after `close()`.

        """
        if self._closed:
            raise WorkerError(
                f"an executor takes no orders after close(), but got `{order.segment_id}`; "
                "make a new one"
            )
        if self._stopping:
            self._messages.put(Interrupted(**name_of(order)))
            return
        ticket = Ticket(name=_ticket_name(order), work=self._put_work(order))
        with self._lock:
            self._open[ticket.name] = _Open(order)
        self._queue.put(ticket)

    def next_message(self, timeout_s: float) -> AnyMessage | None:
        """Return the next message, or None after `timeout_s` seconds without one.

        Raises:
            WorkerError: if Ray or Ray Tune itself ended; the search can be resumed.

        """
        try:
            return self._messages.get(timeout=max(timeout_s, 0.0))
        except queue.Empty:
            if self._broken is not None and not self._closed:
                reason = (str(self._broken).strip() or repr(self._broken)).splitlines()[0]
                raise WorkerError(
                    f"Ray ended while the search ran: {reason}; what was saved is in the ledger, "
                    "go on with `isoflop resume`"
                ) from self._broken
            return None

    def interrupt(self) -> None:
        """End running segments after their epoch; a second call ends the workers at once."""
        first, self._stopping = not self._stopping, True
        for ticket in self._queue.take_back_waiting():
            self._answer(ticket.name, Interrupted)
        if first:
            self._mailbox.ask_to_stop.remote(True)
            return
        with self._lock:
            names = list(self._open)
        for name in names:
            self._answer(name, Interrupted)
        self._kill_workers()

    def proceed(self) -> None:
        """Take orders again after an interrupt that has been answered."""
        if self._stopping and not self._closed:
            ray.get(self._mailbox.ask_to_stop.remote(False))
            self._stopping = False

    def resize(self, num_workers: int) -> None:
        """Let workers go as their segments end, or take some on again.

        Without any worker Tune itself ends, once nothing runs: it would keep what they occupied.
        """
        self.num_workers = min(num_workers, self._most)
        self._queue.resize(self.num_workers)
        if self._closed or self._broken is not None:
            return
        if self.num_workers > 0 and self._tune_thread is None:
            self._start_tune()
        elif self.num_workers == 0 and self._queue.num_running == 0:
            self._end_tune()

    def pids(self) -> frozenset[int]:
        """Return the process ids of all workers that ever took up an order."""
        with self._lock:
            return frozenset(self._pids)

    def describe(self) -> Mapping[str, str]:
        """Say what runs the segments."""
        return {
            "executor": f"ray tune, {self._cluster.kind}",
            "workers": str(self.num_workers),
            "worker": f"{self._shape.cpus:g} CPUs, {self._shape.gpus:g} GPUs",
            "ray": ray.__version__,
        }

    def close(self) -> None:
        """Give up what still runs, and stop the workers, and Ray where we started it."""
        if self._closed:
            return
        self._closed = True
        self._queue.close()
        if self._broken is None:
            with self._lock:
                anything_runs = bool(self._open)
            if anything_runs:
                self._kill_workers()
            self._end_tune()
            ray.kill(self._mailbox)
        self._mailbox_thread.join(CLOSE_PATIENCE_S)
        self._cluster.close()
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _start_mailbox(self) -> Any:
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        return ray.remote(Mailbox).options(num_cpus=0, scheduling_strategy=here).remote()

    def _put_work(self, order: SegmentOrder) -> Any:
        dataset = (self._dataset(order),)
        work = Work(mailbox=self._mailbox, training=self._training, order=order, dataset=dataset)
        return ray.put(work)

    def _start_tickets(self) -> list[Ticket]:
        self._meetings += 1
        meeting = Meeting(name=str(self._meetings), num_workers=self.num_workers)
        work = ray.put(Work(mailbox=self._mailbox, training=self._training, meeting=meeting))
        return [
            Ticket(name=f"start{meeting.name}.{number}", work=work, is_start=True)
            for number in range(self.num_workers)
        ]

    def _dataset(self, order: SegmentOrder) -> Any:
        """Return a reference to the order's data: one copy per search in Ray's store."""
        config = order.trials[0].config.data
        key = config.model_dump_json()
        if key not in self._datasets:
            training = self._training()
            self._datasets[key] = ray.put(training.ship(training.load(config)))
        return self._datasets[key]

    def _tune_runs(self) -> bool:
        thread = self._tune_thread
        return thread is not None and thread.is_alive()

    def _start_tune(self) -> None:
        self._tune_thread = threading.Thread(target=self._run_tune, name="tune", daemon=True)
        self._tune_thread.start()

    def _end_tune(self) -> None:
        """End Tune and its workers; what waits is kept for the next one."""
        if self._tune_thread is None:
            return
        waiting = [ticket for ticket in self._queue.take_back_waiting() if not ticket.is_start]
        self._queue.close()
        self._mailbox.adjourn.remote(str(self._meetings))
        self._tune_thread.join(CLOSE_PATIENCE_S)
        self._tune_thread = None
        self._queue = ReadyQueue(self.num_workers, self._on_end, self._start_tickets)
        for ticket in waiting:
            self._queue.put(ticket)

    def _run_tune(self) -> None:
        try:
            folder = Path(tempfile.mkdtemp(dir=self._scratch))  # Tune never meets its own past
            run_tune(self._worker, self._queue, self._shape, folder)
        except Exception as error:  # whatever ends Tune ends the search, on the caller's thread
            self._broken = error

    def _on_end(self, ticket: Ticket, error: BaseException | None) -> None:
        if ticket.is_start:
            if error is not None:
                self._mailbox.adjourn.remote(str(self._meetings))
            return
        died = error is None or isinstance(error, RayActorError)
        self._mailbox.post.remote(pickle.dumps(_Ended(ticket.name, "" if died else str(error))))

    def _collect(self) -> None:
        while not self._closed or self._tune_runs():
            try:
                posted = ray.get(self._mailbox.collect.remote(COLLECT_TIMEOUT_S))
            except RayError as error:
                self._broken = self._broken or error
                return
            for blob in posted:
                self._hear(pickle.loads(blob))

    def _hear(self, message: AnyMessage | _Ended) -> None:
        if isinstance(message, _Ended):
            self._answer(message.ticket_name, Failed, message.error)
            return
        name = _ticket_name(message)
        if isinstance(message, Finished | Failed | Interrupted):
            with self._lock:
                known = self._open.pop(name, None)
        else:
            with self._lock:
                known = self._open.get(name)
                if known is not None and isinstance(message, Began):
                    known.began = message
                    self._pids.add(message.pid)
        if known is not None:
            self._messages.put(message)

    def _answer(self, name: str, kind: type[Failed] | type[Interrupted], error: str = "") -> None:
        """Answer an open order on behalf of a worker that did not."""
        with self._lock:
            open_order = self._open.pop(name, None)
        if open_order is None:
            return
        if kind is Interrupted:
            self._messages.put(Interrupted(**name_of(open_order.order)))
            return
        began = open_order.began
        where = f" (process {began.pid} on {began.host})" if began else ""
        if error:
            reason = f"the worker{where} failed: {error.strip().splitlines()[-1]}\n{error}"
        else:
            reason = f"the worker{where} died; too little memory is the most frequent reason"
        self._messages.put(
            Failed(
                **name_of(open_order.order),
                error=reason,
                worker_died=True,
                began=began is not None,
            )
        )

    def _kill_workers(self) -> None:
        for reference in ray.get(self._mailbox.workers.remote()):
            with suppress(RayError):  # a reference is lost with its worker, which is dead then
                ray.kill(ray.get(reference))


def _ticket_name(message: SegmentOrder | AnyMessage) -> str:
    return f"{message.segment_id}.{message.attempt}"
