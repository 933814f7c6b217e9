"""isoflop: one random round through `run_search`, with everything it does on the way.

Ledger, energy meter, checkpoints and report are on, as for any user.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from search_spaces import log_uniform, uniform
from service import SearchSpec, run_search
from service.search.context import SearchContext
from service.search.display import Silent
from service.search.executor import ray_executor  # noqa: F401 - imports are not timed
from service.search.executor.ray_cluster import Cluster, WorkerShape
from tests.benchmarks.workload import (
    LR,
    MOMENTUM,
    NUM_WORKERS,
    WEIGHT_DECAY,
    Outcome,
    Work,
    digits,
    outcome_of,
)
from trainers.trial import EpochRow


def spec_of(work: Work) -> SearchSpec:
    """Return the work as one random round, without the recipe's checks and without finalists."""
    return SearchSpec(
        name="speed",
        data="digits",
        model={"kind": "mlp", "depth": 2, "width": work.width},
        train={"batch_size": work.batch_size, "epochs": work.epochs},
        optimizer={"kind": "momentum"},
        init={"kind": "torch"},
        space={
            "optimizer.lr": log_uniform(*LR),
            "optimizer.momentum": uniform(*MOMENTUM),
            "optimizer.weight_decay": log_uniform(*WEIGHT_DECAY),
        },
        rounds=[{"sampler": "random", "trials": work.num_trials, "epochs": work.epochs}],
        finalists={"trials": 0},
        recipe={"checks": False, "max_rounds": 1},
        seed=work.seed,
    )


class StartWatch(Silent):
    """Notes when the first worker took up its first segment, and when the first epochs came."""

    def __init__(self) -> None:
        self.began_s = time.perf_counter()
        self.started_s = 0.0
        self.last_epoch_s = 0.0

    def epochs(self, rows: Sequence[EpochRow]) -> None:
        self.last_epoch_s = time.perf_counter() - self.began_s

    def tick(self, context: SearchContext) -> None:
        if not self.started_s and context.executor.pids():
            self.started_s = time.perf_counter() - self.began_s


def run(work: Work, *, num_workers: int = NUM_WORKERS) -> Outcome:
    """Run a search on a Ray that is already up, started as isoflop starts it."""
    digits()  # in memory before the clock starts, as it is for the rivals
    cluster = Cluster(num_workers, WorkerShape(), None) if num_workers > 1 else None
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        watch = StartWatch()
        result = run_search(
            spec_of(work),
            workers=num_workers,
            ledger=out / "isoflop.db",
            out=out / "out",
            display=watch,
        )
        wall_s = time.perf_counter() - watch.began_s
        trials = result.trials()
    if cluster is not None:
        cluster.close()
    errors = [error for error in trials["val_error"] if error == error]
    after_s = wall_s - watch.last_epoch_s
    return outcome_of(
        "isoflop",
        errors,
        wall_s=wall_s,
        started_s=watch.started_s,
        notes=f"{after_s:.2f} s from the last epoch to the result (report included)",
    )
