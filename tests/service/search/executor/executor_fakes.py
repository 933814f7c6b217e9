"""A trainer made of arithmetic, and orders for it: what executors are tested with.

A trial's seed says what it does: most follow a closed form, some misbehave on purpose.
"""

import json
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from service.messages import Failed, Finished, Interrupted, SegmentOrder
from service.search.segment import Training
from trainers.config import TrialConfig
from trainers.trial import CheckpointRef, EpochReport, EpochRow, ExecutionPlan, Trial

KILLS_ITS_WORKER = 666
KILLED_BY_SIGKILL_AFTER_TWO_EPOCHS = 667
RAISES = 668
RUNS_OUT_OF_MEMORY = 669
DIVERGES_AT_EPOCH_2 = 670
EPOCH_S = 0.02
SLOW = 5000
"""Seeds from here on take 0.2 s an epoch."""

PLAN = ExecutionPlan(
    signature="fake",
    tier="kernels",
    fuse_width=8,
    max_lanes=64,
    num_threads=1,
    dtype="float32",
    device="cpu",
    reasons={},
)


def loss(seed, epoch):
    return 1.0 / (1 + epoch) + seed * 1e-3


def make_plan(trials, dataset, device="auto"):
    return PLAN


@dataclass
class Result:
    interrupted: bool


def load(config):
    return {"name": config.name, "rows": list(range(1000))}


def train_pack(
    trials, start, stop_epoch, on_epoch=None, *, dataset, plan, device, should_stop=lambda: False
):
    assert dataset["rows"][-1] == 999
    first = max((0 if ref is None else _read(ref)["epoch"] for ref in start), default=0)
    for epoch in range(first + 1, stop_epoch + 1):
        started_s = time.monotonic()
        rows = [_one_epoch(trial, epoch) for trial in trials]
        report = EpochReport(
            rows=[row for row in rows if row is not None],
            padding_s=0.001,
            started_s=started_s,
            ended_s=time.monotonic(),
            save=lambda path, epoch=epoch: _save(path, trials, epoch),
        )
        on_epoch(report)
        runs = any(row is not None and row.status == "running" for row in rows)
        if should_stop() and epoch < stop_epoch and runs:
            return Result(interrupted=True)
    return Result(interrupted=False)


def _one_epoch(trial, epoch):
    time.sleep(EPOCH_S * (10 if trial.seed >= SLOW else 1))
    if trial.seed == KILLS_ITS_WORKER:
        os._exit(1)
    if trial.seed == KILLED_BY_SIGKILL_AFTER_TWO_EPOCHS and epoch == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    if trial.seed == RAISES:
        raise ValueError("the model's width must be even, but got 3")
    if trial.seed == RUNS_OUT_OF_MEMORY:
        raise MemoryError("9 GB asked for")
    diverges = trial.seed == DIVERGES_AT_EPOCH_2
    if diverges and epoch > 2:
        return None
    return EpochRow(
        trial_id=trial.trial_id,
        epoch=epoch,
        metrics={"val_loss": loss(trial.seed, epoch)},
        status="diverged" if diverges and epoch == 2 else "running",
        reason="",
        busy_s=0.01,
    )


def _save(path: Path, trials, epoch):
    path.write_text(json.dumps({"epoch": epoch}))
    return [
        CheckpointRef(
            trial_id=trial.trial_id,
            epoch=epoch,
            path=str(path),
            lane=lane,
            sha256="0" * 64,
            num_bytes=path.stat().st_size,
        )
        for lane, trial in enumerate(trials)
    ]


def _read(ref):
    return json.loads(Path(ref.path).read_text())


def fake_training() -> Training:
    return Training(
        load=load,
        make_plan=make_plan,
        train_pack=train_pack,
        ship=lambda dataset: list(dataset["rows"]),
        unship=lambda rows: {"rows": rows},
    )


def order(directory, segment_id="r0b0s0", seeds=(1, 2), stop_epoch=3, **changes) -> SegmentOrder:
    fields = {
        "search_id": "fake-1",
        "segment_id": segment_id,
        "attempt": 1,
        "trials": tuple(
            Trial(trial_id=number, config=TrialConfig(), seed=seed)
            for number, seed in enumerate(seeds)
        ),
        "start": (None,) * len(seeds),
        "stop_epoch": stop_epoch,
        "checkpoint_dir": str(directory / "checkpoints"),
        "plan": PLAN,
        **changes,
    }
    return SegmentOrder(**fields)


@dataclass
class Told:
    """Everything an executor said until each of `count` orders was answered."""

    messages: list

    def of(self, kind, segment_id=None):
        return [
            message
            for message in self.messages
            if isinstance(message, kind) and segment_id in (None, message.segment_id)
        ]

    def rows(self, segment_id=None):
        from service.messages import Border

        return [row for border in self.of(Border, segment_id) for row in border.rows]


def listen(executor, count=1, timeout_s=30.0, until=lambda message: False) -> Told:
    told, answered, deadline_s = Told([]), 0, time.monotonic() + timeout_s
    while answered < count:
        message = executor.next_message(0.5)
        if message is not None:
            told.messages.append(message)
            answered += isinstance(message, Finished | Failed | Interrupted)
            if until(message):
                return told
        assert time.monotonic() < deadline_s, f"{answered} of {count} answered: {told.messages}"
    return told
