"""Training that takes no time, so that what is left is the cost of scheduling and recording.

Everything else is the product's own: sampler, ledger, packer, conductor, executor, segments,
borders, checkpoints as rows (one small file a pack), the energy meter and the report.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from service.search.executor import Executor, InlineExecutor
from service.search.segment import Training
from service.search.session import Workers
from service.search.spec import SearchSpec
from trainers.data import Dataset, load
from trainers.lanes.pack import PackResult
from trainers.lanes.signature import signature
from trainers.trial import CheckpointRef, EpochReport, EpochRow, ExecutionPlan, Trial


class TrivialWorkers(Workers):
    """One inline worker that only pretends to train."""

    def open(self, spec: SearchSpec) -> Executor:
        return InlineExecutor(training=trivial_training)


def trivial_training() -> Training:
    """Return the trainer's three functions, with training left out."""
    return Training(load=load, make_plan=_plan, train_pack=_train_pack)


def _plan(trials: Sequence[Trial], dataset: Dataset, device: str) -> ExecutionPlan:
    return ExecutionPlan(
        signature=signature(trials[0].config, dataset),
        tier="kernels",
        fuse_width=8,
        max_lanes=64,
        num_threads=1,
        dtype="float32",
        device="cpu" if device == "auto" else device,
        reasons={"tier": "nothing is trained"},
    )


def _train_pack(
    trials: Sequence[Trial],
    start: Sequence[CheckpointRef | None],
    stop_epoch: int,
    on_epoch: Callable[[EpochReport], None],
    *,
    plan: ExecutionPlan,
    **_: Any,
) -> PackResult:
    """Report one finished epoch, whose error has its minimum inside the space."""
    now_s = time.monotonic()
    rows = [
        EpochRow(
            trial_id=trial.trial_id,
            epoch=stop_epoch,
            metrics=_metrics(trial),
            status="finished",
            reason="",
            busy_s=1e-6,
        )
        for trial in trials
    ]

    def save(path: Path) -> list[CheckpointRef]:
        path.write_bytes(b"nothing was trained")
        return [
            CheckpointRef(
                trial_id=trial.trial_id,
                epoch=stop_epoch,
                path=str(path),
                lane=lane,
                sha256="0" * 64,
                num_bytes=19,
            )
            for lane, trial in enumerate(trials)
        ]

    on_epoch(
        EpochReport(rows=rows, padding_s=0.0, started_s=now_s, ended_s=time.monotonic(), save=save)
    )
    return PackResult(rows=rows, states=(), plan=plan, interrupted=False)


def _metrics(trial: Trial) -> dict[str, float]:
    optimizer = trial.config.optimizer
    distance = abs(math.log10(optimizer.lr) + 2.0) / 4 + abs(optimizer.momentum - 0.6)
    return {
        "train_loss": distance,
        "val_loss": distance,
        "val_error": min(1.0, distance / 2),
        "lr": optimizer.lr,
        "grad_norm": 1.0,
    }
