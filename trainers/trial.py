"""The words that trainer and service share: trial, epoch row, checkpoint reference, plan."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from trainers.config import TrialConfig

LaneStatus = Literal["running", "finished", "diverged", "stopped_early"]
"""running: may go on; finished: at its horizon; stopped_early: by its own early stopping."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One configuration with one seed; `config.train.epochs` is its schedule horizon."""

    trial_id: int
    config: TrialConfig
    seed: int


@dataclass(frozen=True, kw_only=True)
class EpochRow:
    """What one trial did in one epoch."""

    trial_id: int
    epoch: int
    """Epochs completed, from 1."""
    metrics: Mapping[str, float]
    """train_loss, val_loss, val_error (classes), val_rmse and val_r2 (numbers) or val_error and
    val_bits_per_byte (a language), lr, grad_norm.
    With restore-best, best_val_loss and best_epoch as well."""
    status: LaneStatus
    reason: str
    """Why the status is not `running`, else empty."""
    busy_s: float
    """Processor (or GPU) seconds this trial was given in this epoch, by measured time of its
    fuse group; energy is attributed by it."""


@dataclass(frozen=True, kw_only=True)
class CheckpointRef:
    """Where one lane's state lies: a file of a whole pack, and the lane's own checksum."""

    trial_id: int
    epoch: int
    path: str
    lane: int
    sha256: str
    num_bytes: int


@dataclass(frozen=True, kw_only=True)
class ExecutionPlan:
    """How packs of one signature are run on one kind of machine, and why.

    Written to the ledger at first use and reused on retry, on resume and on other hosts.
    """

    signature: str
    tier: Literal["kernels", "vmap", "lane_by_lane"]
    fuse_width: int
    max_lanes: int
    """Largest pack within the memory limit."""
    num_threads: int
    dtype: str
    device: str
    reasons: Mapping[str, str]
    """A sentence for each choice: tier, fuse_width, max_lanes, num_threads, device."""
    measured: Mapping[str, float] = field(default_factory=dict)
    """Numbers behind the choices, e.g. {"fuse_width 8, lane-steps/s": 6900.0}."""


@dataclass(frozen=True, kw_only=True)
class EpochReport:
    """One epoch of a whole pack, given to `on_epoch` when the epoch is complete for all lanes."""

    rows: Sequence[EpochRow]
    padding_s: float
    """Processor seconds spent on lanes that were already frozen: nobody's result."""
    started_s: float
    ended_s: float
    """time.monotonic() at both ends, so that energy windows can be cut by overlap."""
    save: Callable[[Path], Sequence[CheckpointRef]]
    """Write the pack's present state to one file, durable when the call returns."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Metrics of one trial's weights on one part of the data, and its predictions."""

    trial_id: int
    part: Literal["train", "val", "test"]
    metrics: Mapping[str, float]


PlanLike = Mapping[str, Any]
