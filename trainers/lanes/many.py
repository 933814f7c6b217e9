"""Measure many rows of weights of one model: grid points of a landscape, degrees of pruning.

Each row is a lane. Lanes are bound once and filled chunk by chunk, so memory does not grow with
their number. Shapes: n rows, P parameters of the model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from trainers.config import LearningRuleConfig, TrialConfig
from trainers.data import Dataset
from trainers.lanes.engines import Tier, make_engine, supported_tiers, torch_dtype
from trainers.lanes.measures import measure
from trainers.lanes.probe import probe

_LANES_AT_ONCE = 16


def measure_rows(
    row_at: Callable[[int], Tensor],
    count: int,
    module: nn.Module,
    config: TrialConfig,
    dataset: Dataset,
    part: Literal["train", "val", "test"],
    num_rows: int | None = None,
    buffers_at: Callable[[int], Mapping[str, Tensor]] | None = None,
) -> dict[str, list[float]]:
    """Return `loss` and the task's other metrics of each row of weights, [n] each.

    Args:
        row_at: Makes row i, [P] in the canonical layout of `module`.
        count: n.
        module: The model; its buffers serve where `buffers_at` gives none, its weights are not
            read.
        config: The trial's.
        dataset: The trial's data.
        part: train, val or test; looking at test is for finalists.
        num_rows: The first so many rows of the part; None: all.
        buffers_at: Makes row i's own buffers, by name.

    """
    config = config.model_copy(update={"learning_rule": LearningRuleConfig()})
    dtype = torch_dtype(config.train.precision)
    tier = _tier(module, config, dataset)
    engine = make_engine(tier, module, [config], dataset)
    data = dataset.to(torch.device("cpu"), dtype)
    x, y = (rows[:num_rows] for rows in data.part(part))
    width = 1 if tier == "lane_by_lane" else min(count, _LANES_AT_ONCE)
    found: dict[str, list[float]] = {}
    with torch.no_grad():
        inputs, targets = engine.inputs(x), engine.targets(y)
        params = engine.from_canonical(torch.zeros(width, engine.canonical.size, dtype=dtype))
        buffers = _repeated(module, width)
        grads = torch.zeros_like(params)
        lanes = engine.bind(params, grads, buffers, [config.model] * width, [0.0] * width)
        for first in range(0, count, width):
            places = range(first, min(first + width, count))
            rows = torch.stack([row_at(place) for place in places]).to(dtype)
            params[: len(places)] = engine.from_canonical(rows)
            if buffers_at is not None:
                for lane, place in enumerate(places):
                    for name, own in buffers_at(place).items():
                        buffers[name][lane] = own
            for name, values in measure(lanes, inputs, targets, y, data).items():
                found.setdefault(name, []).extend(values[: len(places)])
    return found


def _tier(module: nn.Module, config: TrialConfig, dataset: Dataset) -> Tier:
    """Return written-out kernels, or vmap where it is known to be right and to gain, or neither."""
    tier = supported_tiers(config)[0]
    if tier != "vmap":
        return tier
    # On the CPU fused convolutions lose against one after the other.
    has_convolutions = any(isinstance(part, _ConvNd) for part in module.modules())
    if has_convolutions or not probe(partial(make_engine, "vmap"), [config], dataset).equal:
        return "lane_by_lane"
    return "vmap"


def _repeated(module: nn.Module, width: int) -> Mapping[str, Tensor]:
    return {name: torch.stack([buffer] * width) for name, buffer in module.named_buffers()}
