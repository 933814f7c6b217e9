"""What a study's points say, worked out in processes of their own: the service answers meanwhile.

A law's fit takes a core for seconds, and most of it holds the interpreter, so that a thread would
stall every other answer.
"""

from __future__ import annotations

import pickle
import queue
import subprocess
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from service.child_process import read_frame, start_child, write_frame
from service.energy import Site
from service.ledger import Ledger
from service.scaling.analysis import Analysis
from service.scaling.study import ScalingStudy
from trainers.errors import IsoflopError, ScalingError, WorkerError

NUM_PROCESSES = 2
FIT_WITHIN_S = 180.0
"""A fit that takes longer is ended: somebody else's study waits behind it."""


@dataclass(frozen=True, kw_only=True)
class StudyLook:
    """What a study's points say at one moment."""

    num_points: int
    recipes: tuple[str, ...]
    study: ScalingStudy | None
    """None: there is no point yet."""
    analysis: Analysis | None
    why_no_law: str = ""
    """Why there is no law yet, or an empty string."""
    fitted_unix_s: float = field(default_factory=time.time)
    is_latest: bool = True
    """False: there is more in the ledger by now, and it is being fitted."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """Which study is to be looked at, and where."""

    ledger_url: str
    study_id: str
    recipe: str | None
    site: Site


class Fitter(Protocol):
    """Looks at studies."""

    def ask(self, question: Question) -> Future[StudyLook]:
        """Begin to look at a study."""
        ...

    def close(self) -> None:
        """Give up what is being fitted."""
        ...


def look_at(question: Question) -> StudyLook:
    """Read a study's points and fit its laws.

    Raises:
        DataError: there is no such recipe.
        LedgerError: there is no such study.

    """
    with Ledger.open(question.ledger_url, create=False) as ledger:
        try:
            study = ScalingStudy.open(question.study_id, ledger=ledger, site=question.site)
        except ScalingError as error:
            return StudyLook(
                num_points=0, recipes=(), study=None, analysis=None, why_no_law=str(error)
            )
    num_points, recipes = len(study.all_points), study.recipes
    if question.recipe is not None and question.recipe != study.recipe:
        study = study.of(question.recipe)
    try:
        analysis, why = study.analysis(), ""
    except ScalingError as error:
        analysis, why = None, str(error)
    return StudyLook(
        num_points=num_points, recipes=recipes, study=study, analysis=analysis, why_no_law=why
    )


class FittingPool:
    """Looks at studies in a few processes, which start when they are first needed.

    Threads may share it.
    """

    def __init__(
        self, num_processes: int = NUM_PROCESSES, *, within_s: float = FIT_WITHIN_S
    ) -> None:
        self._idle: queue.SimpleQueue[_FittingProcess] = queue.SimpleQueue()
        self._all = [_FittingProcess(within_s) for _ in range(num_processes)]
        for process in self._all:
            self._idle.put(process)
        self._threads = ThreadPoolExecutor(num_processes, thread_name_prefix="laws")

    def ask(self, question: Question) -> Future[StudyLook]:
        """Begin to look at a study; the answer may be a WorkerError where it takes too long."""
        return self._threads.submit(self._ask, question)

    def close(self) -> None:
        """End the processes; whoever waits gets a WorkerError."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for process in self._all:
            process.kill()

    def _ask(self, question: Question) -> StudyLook:
        process = self._idle.get()
        try:
            return process.answer(question)
        finally:
            self._idle.put(process)


class _FittingProcess:
    """One process, asked by one thread at a time; it is replaced when it dies."""

    def __init__(self, within_s: float) -> None:
        self._within_s = within_s
        self._child: subprocess.Popen[bytes] | None = None

    def answer(self, question: Question) -> StudyLook:
        """Return the process's answer; raise its error, or a WorkerError where it gave none."""
        if self._child is None or self._child.poll() is not None:
            self._child = start_child("service.web.fitting_child")
        child = self._child
        assert child.stdin is not None
        assert child.stdout is not None
        deadline = threading.Timer(self._within_s, child.kill)
        deadline.daemon = True
        deadline.start()
        begun_s = time.monotonic()
        try:
            with suppress(BrokenPipeError):
                write_frame(child.stdin, pickle.dumps(question))
            payload = read_frame(child.stdout)
        finally:
            deadline.cancel()
        if payload is None:
            self.kill()
            raise WorkerError(_why_no_answer(question, time.monotonic() - begun_s, self._within_s))
        answer: StudyLook | IsoflopError = pickle.loads(payload)
        if isinstance(answer, IsoflopError):
            raise answer
        return answer

    def kill(self) -> None:
        """End the process; it holds nothing that cannot be asked again."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.wait()
            for stream in (child.stdin, child.stdout):
                if stream is not None:
                    with suppress(BrokenPipeError):
                        stream.close()


def _why_no_answer(question: Question, took_s: float, within_s: float) -> str:
    name = question.study_id
    if took_s >= within_s:
        return (
            f"the laws of `{name}` were not fitted within {within_s:.0f} s; download its points "
            "and fit them where there is time: isoflop scale fit points.csv"
        )
    return (
        f"the process that fitted the laws of `{name}` ended before it answered (it may have run "
        "out of memory); it is tried again when the study is next looked at"
    )
