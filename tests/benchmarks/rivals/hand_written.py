"""(d) A loop written by hand over two processes: what packing has to be compared with honestly."""

from __future__ import annotations

import multiprocessing
import time
from functools import partial

import torch

from tests.benchmarks.workload import (
    NUM_WORKERS,
    Outcome,
    Work,
    best_optimizer_options,
    digits,
    draw_configs,
    outcome_of,
    train_plainly,
)


def run(work: Work, *, best_options: bool = False) -> Outcome:
    """Train over a pool of two fresh processes of one thread each.

    With `best_options` the fastest of torch.optim's implementations is found out beforehand,
    which is not counted.
    """
    options = best_optimizer_options(work, digits()) if best_options else {}
    configs = list(enumerate(draw_configs(work)))
    began_s = time.perf_counter()
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(NUM_WORKERS + 1)
    with context.Pool(NUM_WORKERS, _prepare, (barrier,)) as pool:
        barrier.wait()
        started_s = time.perf_counter() - began_s
        trial = partial(_trial, work=work, options=options)
        errors = list(pool.imap_unordered(trial, configs))
        wall_s = time.perf_counter() - began_s
    return outcome_of(
        "hand-written, best torch.optim" if best_options else "hand-written",
        errors,
        wall_s=wall_s,
        started_s=started_s,
        notes=f"torch.optim.SGD({', '.join(f'{k}={v}' for k, v in options.items())})",
    )


def _prepare(barrier: multiprocessing.synchronize.Barrier) -> None:
    torch.set_num_threads(1)
    digits()
    barrier.wait()


def _trial(
    numbered: tuple[int, dict[str, float]], *, work: Work, options: dict[str, bool]
) -> float:
    number, config = numbered
    return train_plainly(config, work, digits(), seed=number, optimizer_options=options)
