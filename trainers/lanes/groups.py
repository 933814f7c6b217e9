"""A fuse group: W neighbouring lanes that go through every kernel call together.

A group trains a whole epoch before the next group starts, so that its rows stay in the cache.
A lane whose loss is not finite freezes at that update: its rows are put aside before the update
and put back after the epoch, so the other lanes run on undisturbed, in the same calls.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from trainers.data import Dataset
from trainers.lanes.engine import Engine
from trainers.lanes.measures import measure
from trainers.lanes.rule_engine import BoundRule
from trainers.lanes.stacked import StackedLanes
from trainers.lanes.statistics import LaneStatistics
from trainers.models.residual import SCALAR_NAMES
from trainers.noise import DropoutNoise, model_seed, rows_of_epoch
from trainers.optimizers import make_optimizer
from trainers.regularisation import LanePenalties
from trainers.schedules import factors


@dataclass(frozen=True, kw_only=True)
class PackData:
    """A data set as one engine reads it, on the device."""

    dataset: Dataset
    inputs: Tensor
    """[N, *row]"""
    targets: Tensor
    val_inputs: Tensor
    val_targets: Tensor
    batch_size: int
    rows_per_epoch: int

    @property
    def batch_rows(self) -> list[tuple[int, int]]:
        """(start, stop) of every step of an epoch, in rows of the visiting order."""
        return batch_borders(self.rows_per_epoch, self.batch_size)


def batch_borders(num_rows: int, batch_size: int) -> list[tuple[int, int]]:
    """Return (start, stop) of every step of an epoch.

    The rows left over after the full batches make a smaller step of their own, as torch's
    DataLoader does by default. A single row left over is dropped: it has no batch statistics.
    """
    borders = [
        (start, min(start + batch_size, num_rows)) for start in range(0, num_rows, batch_size)
    ]
    if len(borders) > 1 and batch_size > 1 and borders[-1][1] - borders[-1][0] == 1:
        borders.pop()
    return borders


@dataclass(frozen=True, kw_only=True)
class GroupEpoch:
    """What a group's lanes did in one epoch; sequences are [W]."""

    train_loss: Sequence[float]
    val_metrics: dict[str, list[float]]
    grad_norm: Sequence[float]
    lr: Sequence[float]
    """Of the last update."""
    diverged_at: Sequence[int | None]
    """The epoch's update, from 0, whose loss was not finite."""
    busy_s: float
    num_steps: int
    more_metrics: Sequence[dict[str, float]]
    """`cos_backprop` where a learning rule was used: its cosine with the true gradient in hidden
    layers, together and (`cos_backprop_1` and on) one by one; statistics, and `full_train_loss`,
    where a lane asked for them."""


class FuseGroup:
    """Lanes `start` to `stop` of a pack, bound to their rows."""

    def __init__(
        self,
        stacked: StackedLanes,
        start: int,
        stop: int,
        engine: Engine,
        data: PackData,
        grads: Tensor,
    ) -> None:
        self._engine, self._data = engine, data
        self.rows = range(start, stop)
        self._lanes = stacked.lanes[start:stop]
        self._configs = [lane.trial.config for lane in self._lanes]
        self._params = stacked.params[start:stop]
        self._grads = grads[: stop - start]
        self._slots = {name: rows[start:stop] for name, rows in stacked.slots.items()}
        self._buffers = {name: rows[start:stop] for name, rows in stacked.buffers.items()}
        configs = self._configs
        self._bound = engine.bind(
            self._params,
            self._grads,
            self._buffers,
            [config.model for config in configs],
            [config.regularisation.label_smoothing for config in configs],
        )
        self._rule = self._bound if isinstance(self._bound, BoundRule) else None
        self._pruned = None if stacked.pruned is None else stacked.pruned[start:stop]
        self._optimizer = make_optimizer(
            [config.optimizer for config in configs],
            self._params,
            self._grads,
            self._slots,
            slow=engine.layout.positions_of(SCALAR_NAMES),
        )
        self._penalties = LanePenalties(
            configs, self._params, self._grads, engine.layout.num_decaying
        )
        lane_rates = [engine.dropout_rates(config.model) for config in configs]
        self._dropout_rates = [list(rates) for rates in zip(*lane_rates, strict=True)]
        self._drops = any(any(rates) for rates in self._dropout_rates)
        self._batch_buffers: dict[int, tuple[Tensor, Tensor]] = {}
        self._statistics: LaneStatistics | None = None
        if configs[0].train.statistics:
            dataset = data.dataset
            self._statistics = LaneStatistics(engine, configs[0].model, dataset, self._params)
        self._before_last = self._params[:0]

    def run_epoch(self) -> GroupEpoch:
        """Train every lane for its next epoch, then measure it on the validation rows."""
        began = _clock(self._params.device)
        borders = self._data.batch_rows
        lr = self._rates(len(borders))
        resting = self._begin_rule()
        lr[:, list(resting)] = 0.0
        losses, grad_norm, diverged_at = self._train(borders, lr)
        for lane, slots in resting.items():
            for rows, kept in zip(self._slots.values(), slots, strict=True):
                rows[lane].copy_(kept)
        val_metrics = self._measure()
        more_metrics = self._more_metrics()
        busy_s = _clock(self._params.device) - began
        sizes = torch.tensor([stop - start for start, stop in borders], dtype=torch.float64)
        train_loss = (losses.double().cpu() * sizes[:, None]).sum(0) / sizes.sum()
        return GroupEpoch(
            train_loss=train_loss.tolist(),
            val_metrics=val_metrics,
            more_metrics=more_metrics,
            grad_norm=grad_norm.tolist(),
            lr=lr[-1].tolist(),
            diverged_at=diverged_at,
            busy_s=busy_s,
            num_steps=len(borders),
        )

    def _begin_rule(self) -> dict[int, list[Tensor]]:
        """Begin the learning rule's epoch, if there is one.

        Returns:
            Each lane whose weights rest in this epoch, with its optimizer's state, which has to be
            put back: a rate of 0 stops the weights, but not the optimizer's averages.

        """
        if self._rule is None:
            return {}
        resting = self._rule.begin_epoch(
            [config.learning_rule for config in self._configs],
            [lane.trial.seed for lane in self._lanes],
            [lane.epoch for lane in self._lanes],
        )
        return {lane: [rows[lane].clone() for rows in self._slots.values()] for lane in resting}

    def _updates_done(self, num_steps: int) -> list[int]:
        """Return the optimizer's updates of each lane so far; steps of resting epochs are none."""
        if self._rule is None or not self._rule.alternates:
            return [lane.step for lane in self._lanes]
        return [lane.epoch // 2 * num_steps for lane in self._lanes]

    def _rates(self, num_steps: int) -> np.ndarray:
        """Return the rate of every step and lane, float64 [S, W]."""
        columns = []
        for lane, config in zip(self._lanes, self._configs, strict=True):
            drops = int(lane.counters.get("plateau_drops", 0))
            total = config.train.epochs * num_steps
            factor = factors(config.schedule, lane.step, num_steps, total, drops)
            columns.append(config.optimizer.lr * factor)
        return np.stack(columns, axis=1)

    def _train(
        self, borders: Sequence[tuple[int, int]], lr: np.ndarray
    ) -> tuple[Tensor, Tensor, list[int | None]]:
        """Do the epoch's updates; return losses [S, W], last gradient norms [W], divergences."""
        order = np.stack(
            [
                rows_of_epoch(
                    lane.trial.seed, lane.epoch, len(self._data.inputs), self._data.rows_per_epoch
                )
                for lane in self._lanes
            ]
        )  # [W, rows of an epoch]
        noise = self._noise() if self._drops else None
        self._optimizer.begin_epoch(lr, self._updates_done(len(borders)))
        lr_columns = torch.from_numpy(lr)[:, :, None].to(self._params)  # [S, W, 1]
        losses = self._params.new_zeros(len(borders), len(self._lanes))
        grad_norm = self._params.new_zeros(len(self._lanes))
        diverged_at: list[int | None] = [None] * len(self._lanes)
        frozen: dict[int, list[Tensor]] = {}
        for step, (start, stop) in enumerate(borders):
            x, target = self._batch(order[:, start:stop])
            masks = noise.masks(stop - start) if noise is not None else []
            losses[step] = loss = self._bound.gradients(x, target, masks, self._seeds(step))
            if not math.isfinite(loss.sum().item()):
                self._freeze(loss, step, diverged_at, frozen)
                if len(frozen) == len(self._lanes):
                    break
            if self._pruned is not None:
                self._grads.masked_fill_(self._pruned, 0.0)
            if step == len(borders) - 1:
                grad_norm = torch.linalg.vector_norm(self._grads, dim=1)
            self._penalties.add_gradients()
            self._penalties.clip()
            if self._statistics is not None and step == len(borders) - 1:
                self._before_last = self._params.clone()
            self._penalties.before_update(lr_columns[step])
            self._optimizer.step(step)
            self._penalties.after_update(lr_columns[step])
            if self._pruned is not None:
                self._params.masked_fill_(self._pruned, 0.0)
        for lane, rows in frozen.items():
            for target_row, kept in zip(self._rows_of(lane), rows, strict=True):
                target_row.copy_(kept)
        return losses, grad_norm, diverged_at

    def _noise(self) -> DropoutNoise:
        return DropoutNoise(
            [lane.trial.seed for lane in self._lanes],
            [lane.epoch for lane in self._lanes],
            self._dropout_rates,
            self._engine.dropout_shapes,
            self._data.batch_size,
            self._params.dtype,
            self._params.device,
        )

    def _seeds(self, step: int) -> list[int]:
        """Return seeds for a model that draws from torch's global generator itself."""
        if not self._engine.draws:
            return []
        return [model_seed(lane.trial.seed, lane.epoch, step) for lane in self._lanes]

    def _batch(self, order: np.ndarray) -> tuple[Tensor, Tensor]:
        """Gather rows [W, B] of the data; the tensors are reused by the next step."""
        num_lanes, num_rows = order.shape
        index = torch.from_numpy(order.reshape(-1)).to(self._params.device)
        if num_rows not in self._batch_buffers:
            self._batch_buffers[num_rows] = tuple(  # type: ignore[assignment]
                source.new_empty(num_lanes * num_rows, *source.shape[1:])
                for source in (self._data.inputs, self._data.targets)
            )
        x, target = self._batch_buffers[num_rows]
        torch.index_select(self._data.inputs, 0, index, out=x)
        torch.index_select(self._data.targets, 0, index, out=target)
        return (
            x.view(num_lanes, num_rows, *x.shape[1:]),
            target.view(num_lanes, num_rows, *target.shape[1:]),
        )

    def _freeze(
        self,
        loss: Tensor,
        step: int,
        diverged_at: list[int | None],
        frozen: dict[int, list[Tensor]],
    ) -> None:
        """Put aside the rows of lanes whose loss is not finite, as they are before the update."""
        for lane, value in enumerate(loss.tolist()):
            if lane not in frozen and not math.isfinite(value):
                diverged_at[lane] = step
                frozen[lane] = [row.clone() for row in self._rows_of(lane)]

    def _rows_of(self, lane: int) -> list[Tensor]:
        stacks = [self._params, *self._slots.values(), *self._buffers.values()]
        return [rows[lane] for rows in stacks]

    def _measure(self) -> dict[str, list[float]]:
        data = self._data
        y = data.dataset.y_val
        return measure(self._bound, data.val_inputs, data.val_targets, y, data.dataset)

    def _more_metrics(self) -> list[dict[str, float]]:
        """Return what not every lane has measured; see `GroupEpoch`."""
        found: list[dict[str, float]] = [{} for _ in self._lanes]
        if self._statistics is not None:
            # Where all lanes diverged on the way there was no last update, and nothing counts.
            before = self._before_last if len(self._before_last) else self._params
            found = self._statistics.measure(self._params, before, self._buffers)
        if self._rule is not None:
            for name, cosines in self._rule.cosines.items():
                for lane, cosine in enumerate(cosines.tolist()):
                    found[lane][name] = cosine
        wanted = [config.train.convergence_change is not None for config in self._configs]
        if any(wanted):
            data = self._data
            y = data.dataset.y_train
            losses = measure(self._bound, data.inputs, data.targets, y, data.dataset)["loss"]
            for lane, loss in enumerate(losses):
                if wanted[lane]:
                    found[lane]["full_train_loss"] = loss
        return found


def _clock(device: torch.device) -> float:
    """Return seconds: of the processor, or of the wall once the GPU is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return time.perf_counter()
    # A step on several threads runs most of its time outside this one.
    return time.thread_time() if torch.get_num_threads() == 1 else time.process_time()
