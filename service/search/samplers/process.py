"""Asking in a process of its own, so that nobody trains less because a sampler thinks.

Requests and answers are pickles over the child's stdin and stdout; see `service.child_process`.
"""

from __future__ import annotations

import pickle
import subprocess
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from search_spaces import Space
from service.child_process import read_frame, start_child, write_frame
from service.search.objectives import Objective
from service.search.samplers.asking import DEFAULT_OBJECTIVES, ask
from service.search.samplers.choosing import INLINE, resolve_sampler
from service.search.samplers.told import Asked, Told
from service.search.samplers.wire import Answer, Request
from trainers.errors import ConfigError, IsoflopError, WorkerError


@dataclass(frozen=True)
class Handle:
    """One batch that is being asked for."""

    future: Future[Asked]
    process: SamplerProcess

    def done(self) -> bool:
        """Say whether `result` would return at once."""
        return self.future.done()

    def result(self, timeout_s: float | None = None) -> Asked:
        """Wait for the batch; the time is added to the process's `waited_s`.

        Raises:
            ConfigError: what `ask` raises for a wrong space or sampler.
            WorkerError: if the sampler's process died or raised.
            TimeoutError: if it takes longer than `timeout_s`.

        """
        started_s = time.perf_counter()
        try:
            return self.future.result(timeout_s)
        finally:
            self.process.waited_s += time.perf_counter() - started_s


class SamplerProcess:
    """Runs `ask` for the model-based samplers in one child process.

    Grid, random and Sobol answer at once in this process; the child starts with the first ask
    that needs it. Requests are answered in order. Not shared between threads.
    """

    def __init__(self) -> None:
        self.waited_s = 0.0
        """Time the caller has spent blocked in `Handle.result`."""
        self.asking_s = 0.0
        """Time spent asking, wherever it ran."""
        self._child: subprocess.Popen[bytes] | None = None
        self._next_number = 0
        self._listener: threading.Thread | None = None
        self._lock = threading.Lock()
        self._pending: dict[int, Future[Asked]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """The child's process id, for the energy accounts; None while there is no child."""
        return self._child.pid if self._child is not None else None

    def ask_async(
        self,
        sampler: str,
        space: Space,
        told: Sequence[Told],
        n: int,
        seed: int,
        objectives: Sequence[Objective] = DEFAULT_OBJECTIVES,
        **options: Any,
    ) -> Handle:
        """Start asking for a batch; the arguments are those of `ask`.

        Raises:
            ConfigError: for an unknown sampler, or a `refuse` that cannot be pickled by name.

        """
        handle = Handle(Future(), self)
        args = (sampler, space, list(told), n, seed, tuple(objectives))
        if resolve_sampler(sampler, space, objectives)[0] in INLINE:
            self._ask_here(handle.future, args, options)
            return handle
        request = Request(number=self._next_number, args=args, options=options)
        self._next_number += 1
        try:
            payload = pickle.dumps(request)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise ConfigError(
                f"what a sampler is asked with must be picklable, but {error}; "
                "define `refuse` at the top level of a module"
            ) from error
        self._send(request.number, handle.future, payload)
        return handle

    def close(self) -> None:
        """End the child; what is still being asked is given up with a WorkerError."""
        child, self._child = self._child, None
        if child is None:
            return
        child.kill()  # it holds no state: every answer can be asked for again
        child.wait()
        if self._listener is not None:
            self._listener.join()
        for stream in (child.stdin, child.stdout):
            if stream is not None:
                with suppress(BrokenPipeError):  # an unsent request: given up with the rest
                    stream.close()

    def _ask_here(
        self, future: Future[Asked], args: tuple[Any, ...], options: dict[str, Any]
    ) -> None:
        try:
            asked = ask(*args, **options)
        except IsoflopError as error:
            future.set_exception(error)
            return
        self.asking_s += asked.seconds
        future.set_result(asked)

    def _send(self, number: int, future: Future[Asked], payload: bytes) -> None:
        if self._child is None or self._child.poll() is not None:
            self.close()  # a dead child's pipes
            self._child = self._start()
        assert self._child is not None
        assert self._child.stdin is not None
        with self._lock:
            self._pending[number] = future
        try:
            write_frame(self._child.stdin, payload)
        except OSError:
            with self._lock:
                unanswered = self._pending.pop(number, None)
            if unanswered is not None:  # else the listener has seen the death first
                unanswered.set_exception(_death(self._child))

    def _start(self) -> subprocess.Popen[bytes]:
        child = start_child("service.search.samplers.child")
        self._listener = threading.Thread(
            target=self._listen, args=(child,), name="sampler answers", daemon=True
        )
        self._listener.start()
        return child

    def _listen(self, child: subprocess.Popen[bytes]) -> None:
        """Hand each answer to its future until the child ends."""
        assert child.stdout is not None
        while (payload := read_frame(child.stdout)) is not None:
            answer: Answer = pickle.loads(payload)
            with self._lock:
                future = self._pending.pop(answer.number)
            if answer.asked is not None:
                self.asking_s += answer.asked.seconds
                future.set_result(answer.asked)
            else:
                future.set_exception(answer.error or WorkerError("the sampler gave no answer"))
        child.wait()
        with self._lock:
            orphans, self._pending = self._pending, {}
        for future in orphans.values():
            future.set_exception(_death(child))


def _death(child: subprocess.Popen[bytes]) -> WorkerError:
    return WorkerError(
        f"the sampler's process ended before it answered (exit code {child.poll()}; -9 is a kill, "
        "often for lack of memory); nothing is lost: run `isoflop resume`"
    )
