"""Measure trained trials on a part of the data, all in one pass, and load them as modules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from trainers.data import Dataset
from trainers.lanes.checkpoint import load_lanes
from trainers.lanes.engine import BoundLanes, Engine
from trainers.lanes.engines import make_engine, resolve_device, supported_tiers, torch_dtype
from trainers.lanes.flat import FlatLayout
from trainers.lanes.measures import measure
from trainers.lanes.signature import check_one_signature
from trainers.lanes.state import LaneState
from trainers.models import build_model
from trainers.trial import CheckpointRef, Evaluation, Trial

Part = Literal["train", "val", "test"]
_LANES_AT_ONCE = 16


def evaluate(
    states: Sequence[LaneState | CheckpointRef],
    trials: Sequence[Trial],
    dataset: Dataset,
    part: Part,
    *,
    device: str = "auto",
) -> list[Evaluation]:
    """Return each trial's metrics on one part, e.g. `test_loss` and `test_error`.

    Where restore-best is on, the weights of the best epoch are measured, as they are what the
    trial reports. Looking at `test` is for finalists; the caller counts each look.

    Args:
        states: States or checkpoints, one per trial, of one signature.
        trials: In the same order.
        dataset: The trials' data.
        part: train, val or test.
        device: auto, cpu or cuda.

    Raises:
        ConfigError: where the trials are not of one signature.
        CheckpointError: where a checkpoint is damaged.
    """
    if not trials:
        return []
    configs = [trial.config for trial in trials]
    check_one_signature(configs, dataset)
    target = torch.device(resolve_device(device)[0])
    dtype = torch_dtype(configs[0].train.precision)
    template = build_model(configs[0].model, dataset.input_shape, dataset.num_outputs).to(dtype)
    tier = supported_tiers(configs[0])[0]
    engine = make_engine("lane_by_lane" if tier == "vmap" else tier, template, configs, dataset)
    on_device = dataset.to(target, dtype)
    x, y = on_device.part(part)
    results: list[Evaluation] = []
    with torch.no_grad():
        inputs, targets = engine.inputs(x), engine.targets(y)
        for first in range(0, len(trials), _LANES_AT_ONCE):
            some = trials[first : first + _LANES_AT_ONCE]
            loaded = _loaded(states[first : first + _LANES_AT_ONCE])
            lanes = _bind(engine, loaded, some, target)
            metrics = measure(lanes, inputs, targets, y, on_device)
            results += [
                Evaluation(
                    trial_id=trial.trial_id,
                    part=part,
                    metrics={f"{part}_{name}": values[i] for name, values in metrics.items()},
                )
                for i, trial in enumerate(some)
            ]
    return results


def to_module(state: LaneState | CheckpointRef, trial: Trial, dataset: Dataset) -> nn.Module:
    """Return the trial's ordinary module with its weights, in evaluation, on the CPU.

    Where restore-best is on, the weights are those of the best epoch.
    """
    (loaded,) = _loaded([state])
    module = build_model(trial.config.model, dataset.input_shape, dataset.num_outputs)
    module = module.to(torch_dtype(trial.config.train.precision))
    params, buffers = loaded.weights()
    FlatLayout.of(module).write(module, params)
    with torch.no_grad():
        for name, buffer in module.named_buffers():
            buffer.copy_(buffers[name])
    return module.eval()


def _loaded(states: Sequence[LaneState | CheckpointRef]) -> list[LaneState]:
    loaded = iter(load_lanes([state for state in states if isinstance(state, CheckpointRef)]))
    return [next(loaded) if isinstance(state, CheckpointRef) else state for state in states]


def _bind(
    engine: Engine, states: Sequence[LaneState], trials: Sequence[Trial], device: torch.device
) -> BoundLanes:
    weights = [state.weights() for state in states]
    params = engine.from_canonical(torch.stack([params for params, _ in weights])).to(device)
    buffers: dict[str, Tensor] = {
        name: torch.stack([own[name] for _, own in weights]).to(device) for name in weights[0][1]
    }
    configs = [trial.config.model for trial in trials]
    return engine.bind(params, torch.zeros_like(params), buffers, configs, [0.0] * len(trials))
