"""What a lane is between two epochs, and lane surgery: select lanes, join lanes of many packs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from trainers.errors import CheckpointError
from trainers.trial import LaneStatus

PARAMS = "params"
SLOT = "slot."
BUFFER = "buffer."
BEST = "best."
PRUNED = "pruned"


@dataclass(frozen=True, kw_only=True, eq=False)
class LaneState:
    """Everything needed to go on with one trial, whoever trained it so far.

    No generator state is in it: order and noise follow from the seed, the epoch and the step.
    """

    trial_id: int
    epoch: int
    """Epochs completed."""
    status: LaneStatus
    reason: str
    """Why the status is not `running`, else empty."""
    tensors: Mapping[str, Tensor]
    """`params` [P] in the canonical layout of `FlatLayout`; `slot.<name>` [P] of the optimizer;
    `buffer.<name>`; where restore-best is on `best.params` and `best.buffer.<name>`; and where
    weights were cut `pruned`, bool [P], True at those that stay 0."""
    counters: Mapping[str, float]
    """`step` (updates done) and what plateau, early stopping and restore-best count."""
    metrics: Mapping[str, float]
    """Of the last epoch, as in its `EpochRow`."""

    @property
    def step(self) -> int:
        """Updates done."""
        return int(self.counters.get("step", 0))

    def weights(self) -> tuple[Tensor, dict[str, Tensor]]:
        """Return (params [P], buffers): the best epoch's where restore-best is on, else the last.

        This is what the trial reports and what a user loads.
        """
        prefix = BEST if BEST + PARAMS in self.tensors else ""
        start = prefix + BUFFER
        buffers = {
            name.removeprefix(start): tensor
            for name, tensor in self.tensors.items()
            if name.startswith(start)
        }
        return self.tensors[prefix + PARAMS], buffers


def select(states: Iterable[LaneState], trial_ids: Sequence[int]) -> list[LaneState]:
    """Return the states of these trials, in this order.

    Raises:
        CheckpointError: where a trial is not among the states.
    """
    by_id = {state.trial_id: state for state in states}
    missing = [trial_id for trial_id in trial_ids if trial_id not in by_id]
    if missing:
        raise CheckpointError(
            f"every selected trial must be among the states, but {missing} are not; "
            f"there are {sorted(by_id)}"
        )
    return [by_id[trial_id] for trial_id in trial_ids]


def join(*packs: Iterable[LaneState]) -> list[LaneState]:
    """Put the lanes of several packs into one, in order.

    Raises:
        CheckpointError: where a trial occurs twice.
    """
    states = [state for pack in packs for state in pack]
    ids = [state.trial_id for state in states]
    twice = sorted({trial_id for trial_id in ids if ids.count(trial_id) > 1})
    if twice:
        raise CheckpointError(
            f"a trial may be one lane of a pack only, but trials {twice} occur more than once; "
            "select one state of each"
        )
    return states
