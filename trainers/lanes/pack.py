"""Train a pack: many trials of one signature, each as if it were alone."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from trainers.data import Dataset, load
from trainers.data.dataset import check_batch
from trainers.errors import ConfigError
from trainers.lanes.checkpoint import load_lanes, save_pack
from trainers.lanes.engines import make_engine, torch_dtype
from trainers.lanes.groups import FuseGroup, GroupEpoch, PackData
from trainers.lanes.plan import make_plan
from trainers.lanes.signature import check_one_signature
from trainers.lanes.stacked import LaneProgress, StackedLanes
from trainers.lanes.state import LaneState
from trainers.models import build_model, check_task
from trainers.regularisation import should_stop_early, update_best, why_converged
from trainers.schedules import update_plateau
from trainers.trial import CheckpointRef, EpochReport, EpochRow, ExecutionPlan, Trial

OnEpoch = Callable[[EpochReport], object]


@dataclass(frozen=True, kw_only=True)
class PackResult:
    """What became of a pack's trials, in the order they were given."""

    rows: Sequence[EpochRow]
    """Each trial's last epoch; none for a trial that has not trained at all."""
    states: Sequence[LaneState]
    plan: ExecutionPlan
    interrupted: bool
    """Whether `should_stop` ended the pack before its stop epoch."""


def train_pack(
    trials: Sequence[Trial],
    start: Sequence[CheckpointRef | LaneState | None] | None,
    stop_epoch: int,
    on_epoch: OnEpoch | None = None,
    *,
    dataset: Dataset | None = None,
    plan: ExecutionPlan | None = None,
    device: str = "auto",
    should_stop: Callable[[], bool] | None = None,
) -> PackResult:
    """Train trials of one signature along the lane axis, up to `stop_epoch`.

    Packing never changes a result: a trial's order, initial weights and noise come from its own
    seed and its place in its own horizon. A trial ends at its horizon (`config.train.epochs`),
    when its loss is not finite, or by its own early stopping; the others go on.

    Args:
        trials: Any number of one signature (see `signature`).
        start: Where each trial goes on: a checkpoint, a state, or None for its initial weights;
            None instead of a list starts all of them.
        stop_epoch: Epochs completed when the call returns, unless the trial ended before.
        on_epoch: Called after each epoch of the whole pack with an `EpochReport`.
        dataset: What `trainers.data.load` gives for the trials' section `data`; loaded if None.
        plan: How to run; None: measured here, see `make_plan`.
        device: auto, cpu or cuda; a plan's device wins.
        should_stop: Asked after each epoch; True ends the call with what is done.

    Raises:
        ConfigError: where the trials do not fit together, the data or the device.
        CheckpointError: where a checkpoint is damaged or belongs to something else.
    """
    if not trials:
        raise ConfigError("a pack needs at least one trial, but got none; pass trials to train")
    configs = [trial.config for trial in trials]
    dataset = dataset if dataset is not None else load(configs[0].data)
    check_one_signature(configs, dataset)
    check_batch(dataset, configs[0].train.batch_size)
    check_task(configs[0].model, dataset.task)
    if plan is None:
        plan = make_plan(trials, dataset, device)
    with _threads(plan.num_threads), torch.no_grad():
        pack = Pack(trials, _states(trials, start), dataset, plan)
        interrupted = False
        while pack.has_work(stop_epoch):
            report = pack.run_epoch(stop_epoch)
            if on_epoch is not None:
                on_epoch(report)
            if should_stop is not None and should_stop() and pack.has_work(stop_epoch):
                interrupted = True
                break
        lanes = pack.stacked.in_order()
        rows = [_row(lane, busy_s=0.0) for lane in lanes if lane.metrics]
        return PackResult(
            rows=rows, states=pack.stacked.states(), plan=plan, interrupted=interrupted
        )


class Pack:
    """The lanes of one pack and the groups they train in."""

    def __init__(
        self,
        trials: Sequence[Trial],
        start: Sequence[LaneState | None],
        dataset: Dataset,
        plan: ExecutionPlan,
    ) -> None:
        config = trials[0].config
        device, dtype = torch.device(plan.device), torch_dtype(config.train.precision)
        template = build_model(config.model, dataset.input_shape, dataset.num_outputs).to(dtype)
        self._plan = plan
        self._engine = make_engine(plan.tier, template, [t.config for t in trials], dataset)
        self.stacked = StackedLanes(trials, start, self._engine, template, device, dtype)
        on_device = dataset.to(device, dtype)
        self._data = PackData(
            dataset=on_device,
            inputs=self._engine.inputs(on_device.x_train),
            targets=self._engine.targets(on_device.y_train),
            val_inputs=self._engine.inputs(on_device.x_val),
            val_targets=self._engine.targets(on_device.y_val),
            batch_size=config.train.batch_size,
            rows_per_epoch=config.train.rows_per_epoch or dataset.num_train,
        )
        width = min(plan.fuse_width, len(trials))
        # One buffer for all groups: gradients are used up within a step, and it stays in cache.
        self._grads = torch.zeros(width, self._engine.layout.size, dtype=dtype, device=device)
        self._groups: list[FuseGroup] = []
        self._grouped: tuple[int, ...] = ()

    def has_work(self, stop_epoch: int) -> bool:
        """Whether any lane has an epoch to train before `stop_epoch`."""
        return any(_is_active(lane, stop_epoch) for lane in self.stacked.lanes)

    def run_epoch(self, stop_epoch: int) -> EpochReport:
        """Train every lane that has work for one epoch, group after group."""
        started_s = time.monotonic()
        self._regroup(stop_epoch)
        rows: dict[int, EpochRow] = {}
        padding_s = 0.0
        for group in self._groups:
            for row in group.rows:
                self.stacked.prune(row)
            epoch = group.run_epoch()
            per_step_s = epoch.busy_s / (len(group.rows) * epoch.num_steps)
            for index, row in enumerate(group.rows):
                lane = self.stacked.lanes[row]
                died = epoch.diverged_at[index]
                num_own = epoch.num_steps if died is None else died + 1
                self._finish_epoch(row, epoch, index)
                rows[lane.trial.trial_id] = _row(lane, busy_s=per_step_s * num_own)
                padding_s += per_step_s * (epoch.num_steps - num_own)
        in_order = [
            rows[lane.trial.trial_id]
            for lane in self.stacked.in_order()
            if lane.trial.trial_id in rows
        ]
        return EpochReport(
            rows=in_order,
            padding_s=padding_s,
            started_s=started_s,
            ended_s=time.monotonic(),
            save=self.save,
        )

    def train_once_more(self) -> float:
        """Train every lane for one epoch, count nothing, and return the busy seconds it took.

        They are the processor's, so that neighbours on a shared machine do not mislead a plan.
        """
        self._regroup(stop_epoch=self.stacked.lanes[0].epoch + 1)
        return sum(group.run_epoch().busy_s for group in self._groups)

    def save(self, path: Path) -> Sequence[CheckpointRef]:
        """Write the present state of all lanes to one file, durable when it returns."""
        return save_pack(path, self.stacked.states())

    def _regroup(self, stop_epoch: int) -> None:
        """Put lanes that have work first and bind groups to them, where that changed.

        Lanes that ended are left out of every later call: they cost nothing.
        """
        lanes = self.stacked.lanes
        active = [row for row, lane in enumerate(lanes) if _is_active(lane, stop_epoch)]
        ids = tuple(lanes[row].trial.trial_id for row in active)
        if ids == self._grouped:
            return
        self._grouped = ids
        self.stacked.arrange(active + [row for row in range(len(lanes)) if row not in set(active)])
        width = self._plan.fuse_width
        self._groups = [
            FuseGroup(
                self.stacked,
                first,
                min(first + width, len(active)),
                self._engine,
                self._data,
                self._grads,
            )
            for first in range(0, len(active), width)
        ]

    def _finish_epoch(self, row: int, epoch: GroupEpoch, index: int) -> None:
        """Count the epoch for one lane and decide whether it goes on."""
        lane = self.stacked.lanes[row]
        lane.epoch += 1
        val = {f"val_{name}": values[index] for name, values in epoch.val_metrics.items()}
        lane.metrics = {
            "train_loss": epoch.train_loss[index],
            **val,
            "lr": epoch.lr[index],
            "grad_norm": epoch.grad_norm[index],
        }
        lane.metrics |= epoch.more_metrics[index]
        sparsity = self.stacked.sparsity(row)
        if sparsity is not None:
            lane.metrics["sparsity"] = sparsity
        died = epoch.diverged_at[index]
        lane.counters["step"] += epoch.num_steps if died is None else died
        measured = (val["val_loss"], lane.metrics.get("full_train_loss", 0.0))
        if died is not None or not all(map(math.isfinite, measured)):
            _diverge(lane, died)
            return
        self._count_val_loss(row, val)
        converged = why_converged(
            lane.trial.config.train.convergence_change, lane.counters, lane.metrics
        )
        if converged and lane.status == "running":
            lane.status, lane.reason = "stopped_early", converged
        if lane.epoch >= lane.trial.config.train.epochs and lane.status == "running":
            lane.status = "finished"
            lane.reason = f"reached its horizon of {lane.trial.config.train.epochs} epochs"

    def _count_val_loss(self, row: int, val: dict[str, float]) -> None:
        """Feed the lane's own counters: best weights, plateau schedule, early stopping."""
        lane = self.stacked.lanes[row]
        config, counters = lane.trial.config, lane.counters
        val_loss = val["val_loss"]
        if lane.keeps_best:
            if update_best(counters, lane.epoch, val_loss):
                counters |= {f"best_{name}": value for name, value in val.items()}
                self.stacked.keep_best(row)
            lane.metrics |= {k: v for k, v in counters.items() if k.startswith("best_")}
        update_plateau(config.schedule, counters, val_loss)
        if should_stop_early(config.regularisation, counters, val_loss):
            lane.status = "stopped_early"
            patience = config.regularisation.early_stopping.patience_epochs
            lane.reason = (
                f"validation loss did not fall below {counters['early_best']:.6g} "
                f"for {patience} epochs"
            )


def _diverge(lane: LaneProgress, died: int | None) -> None:
    """Mark a lane as diverged; its numbers say nothing any more, so they are NaN."""
    lane.status = "diverged"
    if died is None:
        part = "training" if math.isfinite(lane.metrics["val_loss"]) else "validation"
        lane.reason = f"{part} loss is not finite after epoch {lane.epoch}"
    else:
        lane.reason = f"training loss is not finite at update {lane.step + 1} (epoch {lane.epoch})"
    kept = {name: lane.metrics[name] for name in ("lr",)}
    lane.metrics = {**dict.fromkeys(lane.metrics, math.nan), **kept}


def _is_active(lane: LaneProgress, stop_epoch: int) -> bool:
    return lane.status == "running" and lane.epoch < min(stop_epoch, lane.trial.config.train.epochs)


def _row(lane: LaneProgress, busy_s: float) -> EpochRow:
    return EpochRow(
        trial_id=lane.trial.trial_id,
        epoch=lane.epoch,
        metrics=dict(lane.metrics),
        status=lane.status,
        reason=lane.reason,
        busy_s=busy_s,
    )


def _states(
    trials: Sequence[Trial], start: Sequence[CheckpointRef | LaneState | None] | None
) -> list[LaneState | None]:
    """Read checkpoints, each file once, and leave states as they are."""
    given = [None] * len(trials) if start is None else list(start)
    if len(given) != len(trials):
        raise ConfigError(
            f"`start` needs one entry per trial, but got {len(given)} for {len(trials)} trials; "
            "use None for a trial that starts from its initial weights"
        )
    refs = [entry for entry in given if isinstance(entry, CheckpointRef)]
    loaded = iter(load_lanes(refs))
    return [next(loaded) if isinstance(entry, CheckpointRef) else entry for entry in given]


@contextmanager
def _threads(num_threads: int) -> Iterator[None]:
    """Run torch on so many threads, and give the caller's number back."""
    before = torch.get_num_threads()
    if before != num_threads:
        torch.set_num_threads(num_threads)
    try:
        yield
    finally:
        if torch.get_num_threads() != before:
            torch.set_num_threads(before)
