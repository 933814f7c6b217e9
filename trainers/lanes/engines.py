"""Which tiers can train a model, and how each is made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn

from trainers.config import TrialConfig
from trainers.data import Dataset
from trainers.errors import ConfigError
from trainers.lanes.engine import Engine
from trainers.lanes.lane_by_lane import LaneByLane
from trainers.lanes.mlp_kernels import MlpKernels
from trainers.lanes.rule_engine import RuleEngine
from trainers.lanes.vmap_tier import VmapEngine
from trainers.losses import resolve_loss

Tier = Literal["kernels", "vmap", "lane_by_lane"]


def make_engine(
    tier: Tier, template: nn.Module, configs: Sequence[TrialConfig], dataset: Dataset
) -> Engine:
    """Return the engine of a tier for trials of one signature.

    Args:
        tier: As in the execution plan.
        template: The model as it was built, on the CPU, in the dtype that is trained in.
        configs: The trials' configurations.
        dataset: For the task.

    Raises:
        ConfigError: where the tier cannot train such a model.
    """
    config = configs[0]
    loss = resolve_loss(config.train.loss, dataset.task)
    precision = config.train.precision
    if tier not in supported_tiers(config):
        raise ConfigError(
            f"the plan's tier `{tier}` is written for an mlp in float32 or float64, but the model "
            f"is a {config.model.kind} in {precision}; make a plan for these trials"
        )
    if config.learning_rule.kind != "backprop":
        return RuleEngine(config, dataset, loss)
    if tier == "kernels":
        return MlpKernels(template, config.model, loss, torch_dtype(precision))
    make = VmapEngine if tier == "vmap" else LaneByLane
    return make(config.model, dataset, loss, precision)


def supported_tiers(config: TrialConfig) -> list[Tier]:
    """Return the tiers that could train this configuration, the fastest kind first.

    Written-out kernels know MLPs in float32 and float64; whether vmap may be used is for the
    probe to say; lane by lane always works. Learning rules are written out over lanes.
    """
    if config.learning_rule.kind != "backprop":
        return ["kernels"]
    is_mlp = config.model.kind == "mlp" and config.model.factory is None
    if is_mlp and config.train.precision != "bf16":
        return ["kernels", "vmap", "lane_by_lane"]
    return ["vmap", "lane_by_lane"]


def torch_dtype(precision: str) -> torch.dtype:
    """Return the dtype of parameters; bf16 keeps them in float32 and multiplies in bf16."""
    return torch.float64 if precision == "float64" else torch.float32


def resolve_device(device: str) -> tuple[str, str]:
    """Return (device, reason) for auto, cpu or cuda.

    Raises:
        ConfigError: where CUDA is asked for and torch sees none.
    """
    visible = torch.cuda.is_available()
    if device == "auto":
        if visible:
            return "cuda", f"auto: torch sees {torch.cuda.get_device_name()}"
        return "cpu", "auto: torch sees no CUDA device"
    if device == "cuda" and not visible:
        raise ConfigError(
            "device `cuda` needs a CUDA device and torch's CUDA build, but torch "
            f"{torch.__version__} sees none; use `auto` or `cpu`"
        )
    if device not in ("cpu", "cuda"):
        raise ConfigError(f"device must be auto, cpu or cuda, but got {device!r}")
    return device, f"asked for: {device}"
