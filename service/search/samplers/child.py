"""The sampler's own process: reads requests from stdin, writes answers to stdout, in order."""

from __future__ import annotations

import os
import pickle
import queue
import signal
import threading
import traceback
from typing import IO

from service.child_process import own_pipes, read_frame, write_frame
from service.search.samplers.asking import ask
from service.search.samplers.wire import Answer, Request
from trainers.errors import IsoflopError, WorkerError


def main() -> None:
    """Answer until the parent closes stdin, or dies, which closes it too."""
    # Ctrl-C reaches the whole terminal group; the parent decides when this process ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    requests, answers = own_pipes()
    inbox: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(requests, inbox), daemon=True).start()
    while True:
        write_frame(answers, pickle.dumps(_answer(pickle.loads(inbox.get()))))


def _read(requests: IO[bytes], inbox: queue.SimpleQueue[bytes]) -> None:
    """Queue requests; end the process when they end, even in the middle of an answer."""
    while (payload := read_frame(requests)) is not None:
        inbox.put(payload)
    os._exit(0)


def _answer(request: Request) -> Answer:
    try:
        return Answer(request.number, ask(*request.args, **request.options), None)
    except IsoflopError as error:
        return Answer(request.number, None, error)
    except Exception as error:  # the boundary of a process: the parent shows it and goes on
        detail = "".join(traceback.format_exception(error)).strip()
        return Answer(
            request.number,
            None,
            WorkerError(
                f"the sampler raised {type(error).__name__}: {error}; "
                f"resume with `--set sampler=random` or report this:\n{detail}"
            ),
        )


if __name__ == "__main__":
    main()
