"""The lanes of a pack in memory: stacked tensors, and each lane's own progress."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from trainers.errors import CheckpointError
from trainers.initialisation import initialise
from trainers.lanes.cutting import cut_share
from trainers.lanes.engine import Engine
from trainers.lanes.state import BEST, BUFFER, PARAMS, PRUNED, SLOT, LaneState
from trainers.optimizers import SLOTS
from trainers.trial import LaneStatus, Trial


@dataclass
class LaneProgress:
    """Where one trial is; changed in place as it trains."""

    trial: Trial
    epoch: int = 0
    """Epochs completed."""
    status: LaneStatus = "running"
    reason: str = ""
    counters: dict[str, float] = field(default_factory=lambda: {"step": 0.0})
    metrics: dict[str, float] = field(default_factory=dict)

    @property
    def step(self) -> int:
        """Updates done."""
        return int(self.counters["step"])

    @property
    def keeps_best(self) -> bool:
        """Whether the weights of the best epoch are kept beside the last ones."""
        return self.trial.config.regularisation.early_stopping.restore_best


class StackedLanes:
    """L lanes in rows: parameters, optimizer state, buffers, best weights.

    Rows stand in the order of `lanes`, which `arrange` may change; `states` and `in_order` always
    answer in the order of the trials given.
    """

    def __init__(
        self,
        trials: Sequence[Trial],
        start: Sequence[LaneState | None],
        engine: Engine,
        template: nn.Module,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self._engine = engine
        self._position = {trial.trial_id: index for index, trial in enumerate(trials)}
        canonical = torch.zeros(len(trials), engine.canonical.size, dtype=dtype)
        slot_names = SLOTS[trials[0].config.optimizer.kind]
        slots = {name: torch.zeros_like(canonical) for name in slot_names}
        self.buffers: dict[str, Tensor] = {
            name: torch.stack([buffer] * len(trials)) for name, buffer in template.named_buffers()
        }
        own = [engine.own_buffers(trial) for trial in trials]
        self.buffers |= {name: torch.stack([lane[name] for lane in own]) for name in own[0]}
        self.lanes = [LaneProgress(trial) for trial in trials]
        self.keeps_best = any(lane.keeps_best for lane in self.lanes)
        best = torch.zeros_like(canonical) if self.keeps_best else canonical[:0]
        self.best_buffers = (
            {name: buffer.clone() for name, buffer in self.buffers.items()}
            if self.keeps_best
            else {}
        )
        for row, (trial, state) in enumerate(zip(trials, start, strict=True)):
            if state is None:
                config = trial.config
                initialise(template, config.init, config.model.initial_activation, trial.seed)
                engine.canonical.read(template, canonical[row])
                for name, buffer in template.named_buffers():
                    self.buffers[name][row].copy_(buffer)
            else:
                _check_fits(state, trial, canonical.shape[1], slot_names)
                self._take_up(row, state, canonical, slots, best)
        self.params = engine.from_canonical(canonical).to(device)
        self.slots = {name: engine.from_canonical(rows).to(device) for name, rows in slots.items()}
        self.best_params = (
            engine.from_canonical(best).to(device) if self.keeps_best else self.params[:0]
        )
        self.pruned = self._pruned_rows(trials, start, device)
        """[L, P], True at weights that stay 0; None where no lane has or will have any."""
        self.buffers = {name: rows.to(device) for name, rows in self.buffers.items()}
        self.best_buffers = {name: rows.to(device) for name, rows in self.best_buffers.items()}

    def _take_up(
        self,
        row: int,
        state: LaneState,
        canonical: Tensor,
        slots: Mapping[str, Tensor],
        best: Tensor,
    ) -> None:
        """Copy a state into its row."""
        canonical[row].copy_(state.tensors[PARAMS])
        for name, rows in slots.items():
            rows[row].copy_(state.tensors[SLOT + name])
        for name, rows in self.buffers.items():
            rows[row].copy_(state.tensors[BUFFER + name])
        if BEST + PARAMS in state.tensors and self.lanes[row].keeps_best:
            best[row].copy_(state.tensors[BEST + PARAMS])
            for name, rows in self.best_buffers.items():
                rows[row].copy_(state.tensors[BEST + BUFFER + name])
        lane = self.lanes[row]
        lane.epoch, lane.status, lane.reason = state.epoch, state.status, state.reason
        if lane.status == "finished" and lane.epoch < lane.trial.config.train.epochs:
            lane.status, lane.reason = "running", ""  # a longer child of the trial that ended
        lane.counters, lane.metrics = dict(state.counters), dict(state.metrics)

    def _pruned_rows(
        self, trials: Sequence[Trial], start: Sequence[LaneState | None], device: torch.device
    ) -> Tensor | None:
        given = [None if state is None else state.tensors.get(PRUNED) for state in start]
        if all(row is None for row in given) and not any(t.config.pruning.sparsity for t in trials):
            return None
        canonical = torch.zeros(len(trials), self._engine.canonical.size, dtype=torch.bool)
        for row, cut in enumerate(given):
            if cut is not None:
                canonical[row] = cut
        return self._engine.from_canonical(canonical).to(device)

    def prune(self, row: int) -> None:
        """Cut a lane's smallest weights if its time has come; its best epoch is then to be found.

        What the optimizer remembers of a weight that is cut is forgotten, or it would move it.
        """
        lane = self.lanes[row]
        pruning = lane.trial.config.pruning
        if self.pruned is None or not pruning.sparsity or lane.epoch != pruning.after_epochs:
            return
        canonical = self._engine.to_canonical(self.params[row : row + 1])[0]
        cut = cut_share(self._engine.canonical, canonical, pruning.sparsity)
        self.pruned[row] |= self._engine.from_canonical(cut[None])[0]
        for rows in (self.params, *self.slots.values()):
            rows[row].masked_fill_(self.pruned[row], 0.0)
        for name in list(lane.counters):
            if name.startswith(("best_", "early_", "full_train_")):
                del lane.counters[name]

    def sparsity(self, row: int) -> float | None:
        """Return the share of a lane's weights that is cut; None where none ever is."""
        lane = self.lanes[row]
        if self.pruned is None:
            return None
        num_cut = int(self.pruned[row].sum())
        if not num_cut and not lane.trial.config.pruning.sparsity:
            return None
        return num_cut / max(self._engine.canonical.num_decaying, 1)

    def arrange(self, order: Sequence[int]) -> None:
        """Put the rows into this order of present row numbers."""
        if list(order) == list(range(len(self.lanes))):
            return
        index = torch.tensor(order, device=self.params.device)
        self.params = self.params.index_select(0, index)
        self.slots = {name: rows.index_select(0, index) for name, rows in self.slots.items()}
        self.buffers = {name: rows.index_select(0, index) for name, rows in self.buffers.items()}
        if self.pruned is not None:
            self.pruned = self.pruned.index_select(0, index)
        if self.keeps_best:
            self.best_params = self.best_params.index_select(0, index)
            self.best_buffers = {
                name: rows.index_select(0, index) for name, rows in self.best_buffers.items()
            }
        self.lanes = [self.lanes[row] for row in order]

    def keep_best(self, row: int) -> None:
        """Remember a lane's present weights as its best ones."""
        if self.lanes[row].keeps_best:
            self.best_params[row].copy_(self.params[row])
            for name, rows in self.best_buffers.items():
                rows[row].copy_(self.buffers[name][row])

    def in_order(self) -> list[LaneProgress]:
        """Return every lane's progress in the order of the trials given."""
        return sorted(self.lanes, key=lambda lane: self._position[lane.trial.trial_id])

    def states(self) -> list[LaneState]:
        """Return a copy of every lane on the CPU, in the order of the trials given."""
        canonical = self._engine.to_canonical
        stacks = {PARAMS: canonical(self.params).cpu()}
        stacks |= {SLOT + name: canonical(rows).cpu() for name, rows in self.slots.items()}
        # `clone`, because on the CPU `.cpu()` would return the rows that train on.
        stacks |= {BUFFER + name: rows.clone().cpu() for name, rows in self.buffers.items()}
        best: dict[str, Tensor] = {}
        if self.keeps_best:
            best[BEST + PARAMS] = canonical(self.best_params).cpu()
            best |= {
                BEST + BUFFER + name: rows.clone().cpu() for name, rows in self.best_buffers.items()
            }
        pruned = None if self.pruned is None else canonical(self.pruned).cpu()
        states = []
        for row, lane in enumerate(self.lanes):
            has_best = lane.keeps_best and "best_epoch" in lane.counters
            tensors = {name: rows[row] for name, rows in stacks.items()}
            if has_best:
                tensors |= {name: rows[row] for name, rows in best.items()}
            if pruned is not None and pruned[row].any():
                tensors[PRUNED] = pruned[row]
            states.append(
                LaneState(
                    trial_id=lane.trial.trial_id,
                    epoch=lane.epoch,
                    status=lane.status,
                    reason=lane.reason,
                    tensors=tensors,
                    counters=dict(lane.counters),
                    metrics=dict(lane.metrics),
                )
            )
        return sorted(states, key=lambda state: self._position[state.trial_id])


def _check_fits(state: LaneState, trial: Trial, size: int, slot_names: Sequence[str]) -> None:
    """Raise CheckpointError where a state belongs to another trial, model or optimizer."""
    if state.trial_id != trial.trial_id:
        raise CheckpointError(
            f"trial {trial.trial_id} must go on from its own state, but got one of trial "
            f"{state.trial_id}; pass the states in the order of the trials"
        )
    if len(state.tensors[PARAMS]) != size:
        raise CheckpointError(
            f"trial {trial.trial_id}'s model has {size} parameters, but its checkpoint has "
            f"{len(state.tensors[PARAMS])}; the model changed since: train the trial anew"
        )
    missing = [name for name in slot_names if SLOT + name not in state.tensors]
    if missing:
        raise CheckpointError(
            f"trial {trial.trial_id}'s optimizer needs the state {missing}, but its checkpoint "
            "has none; the optimizer changed since: train the trial anew"
        )
