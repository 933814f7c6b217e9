"""How packs of one signature are run on this machine, and why."""

from __future__ import annotations

from collections.abc import Sequence

from trainers.data import Dataset
from trainers.lanes.engines import Tier, resolve_device
from trainers.lanes.signature import signature
from trainers.trial import ExecutionPlan, Trial


def make_plan(
    trials: Sequence[Trial],
    dataset: Dataset,
    device: str = "auto",
    memory_limit_bytes: int | None = None,
) -> ExecutionPlan:
    """Return the plan."""
    chosen, why = resolve_device(device)
    return ExecutionPlan(
        signature=signature(trials[0].config, dataset),
        tier="kernels",
        fuse_width=16,
        max_lanes=256,
        num_threads=1,
        dtype=trials[0].config.train.precision,
        device=chosen,
        reasons={"device": why},
    )


def fixed_plan(
    trials: Sequence[Trial], dataset: Dataset, *, tier: Tier, fuse_width: int, device: str = "cpu"
) -> ExecutionPlan:
    """Return a plan with the tier and the width that the caller chose."""
    return ExecutionPlan(
        signature=signature(trials[0].config, dataset),
        tier=tier,
        fuse_width=fuse_width,
        max_lanes=len(trials),
        num_threads=1,
        dtype=trials[0].config.train.precision,
        device=device,
        reasons={"tier": "asked for", "fuse_width": "asked for"},
    )
