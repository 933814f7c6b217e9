"""A process that looks at studies: questions on stdin, answers on stdout, in order."""

from __future__ import annotations

import os
import pickle
import signal

from service.child_process import own_pipes, read_frame, write_frame
from service.web.fitting import Question, StudyLook, look_at
from trainers.errors import IsoflopError, WorkerError

NICENESS = 5
"""The service's answers go first."""


def main() -> None:
    """Answer until the service closes stdin, or dies, which closes it too."""
    # Ctrl-C reaches the whole terminal group; the service decides when this process ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(NICENESS)
    questions, answers = own_pipes()
    while (payload := read_frame(questions)) is not None:
        write_frame(answers, pickle.dumps(answer(pickle.loads(payload))))


def answer(question: Question) -> StudyLook | IsoflopError:
    """Return what the points say, or the error that says why not."""
    try:
        return look_at(question)
    except IsoflopError as error:
        return error
    except Exception as error:  # the boundary of a process: the service shows it and goes on
        return WorkerError(
            f"fitting `{question.study_id}` raised {type(error).__name__}: {error}; "
            "please report it with the study's points"
        )


if __name__ == "__main__":
    main()
