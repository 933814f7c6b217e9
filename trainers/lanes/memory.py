"""How much memory a lane takes, and how many lanes a device holds."""

from __future__ import annotations

import copy

import psutil
import torch
from torch import nn

from trainers.config import TrialConfig
from trainers.data import Dataset
from trainers.errors import ConfigError
from trainers.learning_rules.connections import LayeredModel, connections_of
from trainers.learning_rules.interface import state_generator
from trainers.learning_rules.making import make_rule
from trainers.optimizers import SLOTS

MOST_LANES = 1024
"""More lanes in a pack gain nothing: a fuse group holds a few dozen at most."""

_SHARE_OF_FREE = 0.5
_COPIES_OF_A_LANE = 2
"""The rows themselves, and the copy that a checkpoint is written from."""
_TENSORS_PER_OUTPUT = 4
"""Of each layer's output: itself, its gradient, and what normalisation and dropout keep."""


def free_bytes(device: str) -> int:
    """Return half of what is free on the device, which leaves room for data and neighbours."""
    if device == "cuda":
        free, _ = torch.cuda.mem_get_info()
        return int(_SHARE_OF_FREE * free)
    return int(_SHARE_OF_FREE * psutil.virtual_memory().available)


def lane_bytes(module: nn.Module, config: TrialConfig, dataset: Dataset) -> tuple[int, int]:
    """Return (bytes of one lane's rows, bytes of one lane's work in a step).

    Rows are parameters, optimizer state, best weights and buffers. The work is a gradient row and
    what the layers put out for one batch.
    """
    itemsize = 8 if config.train.precision == "float64" else 4
    num_params = sum(p.numel() for p in module.parameters())
    num_buffers = sum(b.numel() for b in module.buffers())
    best = int(config.regularisation.early_stopping.restore_best)
    num_tensors = 1 + len(SLOTS[config.optimizer.kind]) + best
    rows = itemsize * (num_tensors * num_params + (1 + best) * num_buffers)
    rows += (1 + best) * _rule_bytes(module, config, itemsize)
    outputs = _outputs_per_row(module, dataset) * config.train.batch_size
    work = itemsize * (num_params + _TENSORS_PER_OUTPUT * outputs)
    return _COPIES_OF_A_LANE * rows, work


def _rule_bytes(module: nn.Module, config: TrialConfig, itemsize: int) -> int:
    """Return the bytes of what a learning rule keeps of one lane, and of its fixed matrices."""
    if config.learning_rule.kind == "backprop":
        return 0
    rule = make_rule(config.learning_rule)
    assert isinstance(module, LayeredModel)  # `check_rule_fits` lets no other through
    layers = connections_of(module)
    state, fixed = (draw(layers, state_generator(0)) for draw in (rule.start_state, rule.fixed))
    own = sum(values.numel() for values in state.values())
    return own * (8 if rule.keeps_float64 else itemsize) + itemsize * sum(
        values.numel() for values in fixed.values()
    )


def hot_bytes(module: nn.Module, config: TrialConfig) -> int:
    """Return the bytes of one lane that every step touches: its row, gradient and state."""
    itemsize = 8 if config.train.precision == "float64" else 4
    num_params = sum(p.numel() for p in module.parameters())
    return max(1, itemsize * num_params * (2 + len(SLOTS[config.optimizer.kind])))


def most_lanes(
    per_lane: int, work: int, fuse_width: int, limit_bytes: int, device: str
) -> tuple[int, str]:
    """Return (largest pack, reason).

    Raises:
        ConfigError: where not even one trial fits.
    """
    if per_lane + work > limit_bytes:
        raise ConfigError(
            f"one trial must fit into the memory of one device, but it needs about "
            f"{_megabytes(per_lane + work)} and {_megabytes(limit_bytes)} may be used on "
            f"{device}; lower `model.width`, `model.depth` or `train.batch_size`, or free memory"
        )
    count = min(MOST_LANES, max(1, (limit_bytes - work * fuse_width) // per_lane))
    return int(count), (
        f"a trial takes {_megabytes(per_lane)} and {_megabytes(work)} of work; "
        f"{_megabytes(limit_bytes)} may be used on {device}; at most {MOST_LANES} in any case"
    )


def _outputs_per_row(module: nn.Module, dataset: Dataset) -> int:
    """Count the numbers that the innermost modules put out for one row."""
    twin = copy.deepcopy(module).eval()
    counts: list[int] = []

    def count(_module: nn.Module, _inputs: object, output: object) -> None:
        if isinstance(output, torch.Tensor):
            counts.append(output.numel())

    for part in twin.modules():
        if not list(part.children()):
            part.register_forward_hook(count)
    dtype = next((p.dtype for p in module.parameters()), torch.float32)
    with torch.no_grad(), torch.random.fork_rng():
        twin(dataset.x_train[:1].cpu().to(dtype))
    return sum(counts)


def _megabytes(count: int) -> str:
    return f"{count / 2**20:.1f} MiB"
