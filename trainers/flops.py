"""Floating-point operations and parameters, counted on the model itself rather than estimated."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from trainers.config import ModelConfig, TrialConfig
from trainers.data import Dataset
from trainers.learning_rule_config import PER_LANE_CONSTANTS, LearningRuleConfig
from trainers.learning_rules import rule_updates
from trainers.learning_rules.connections import LayeredModel
from trainers.models import build_model
from trainers.models.mlp import Mlp

WITHOUT_FLOPS = {"dropout", "bn_momentum", "bn_decay"}
"""Keys of a model that change no product; left out, all trials of a pack share one count."""


@dataclass(frozen=True, kw_only=True)
class ModelFlops:
    """FLOPs of one batch; a multiplication and an addition count as two.

    Only products of matrices and convolutions are counted, as `torch.utils.flop_counter` does.
    """

    forward: int
    backward: int
    batch_size: int

    @property
    def total(self) -> int:
        """Forward and backward: what one training step of one batch costs."""
        return self.forward + self.backward


def count_params(model: nn.Module) -> tuple[int, int]:
    """Return (all parameters, those outside embeddings); a tied tensor counts once.

    Scaling laws differ in which of the two they mean (Kaplan et al., 2020 leave embeddings out;
    Hoffmann et al., 2022 count them).
    """
    embeddings = {
        id(module.weight)
        for module in model.modules()
        if isinstance(module, (nn.Embedding, nn.EmbeddingBag))
    }
    sizes = {id(parameter): parameter.numel() for parameter in model.parameters()}
    total = sum(sizes.values())
    return total, total - sum(sizes[key] for key in embeddings)


def count_flops(model: nn.Module, input_shape: tuple[int, ...], batch_size: int) -> ModelFlops:
    """Count one training step's FLOPs by running it once on a copy of the model.

    The backward pass does not reach the inputs, so the first layer costs less than the others.

    Args:
        model: any module from [B, *input_shape] to a tensor; it is not changed.
        input_shape: shape of one row.
        batch_size: rows B, at least 1.

    """
    model = copy.deepcopy(model).train()
    first = next(model.parameters())
    # Batch normalisation cannot train on one row; FLOPs are proportional to rows.
    rows = max(batch_size, 2)
    x = torch.zeros(rows, *input_shape, device=first.device, dtype=first.dtype)
    # Dropout draws from the global generators; the caller's are left where they were.
    devices = [first.device] if first.device.type == "cuda" else []
    with torch.random.fork_rng(devices), FlopCounterMode(display=False) as counter:
        outputs = model(x)
        forward = counter.get_total_flops()
        outputs.sum().backward()
        backward = counter.get_total_flops() - forward
    return ModelFlops(
        forward=forward * batch_size // rows,
        backward=backward * batch_size // rows,
        batch_size=batch_size,
    )


def flops_per_epoch(config: TrialConfig, dataset: Dataset) -> int:
    """Return the FLOPs of training for one epoch; validation is not included.

    An epoch is `train.rows_per_epoch` rows, by default every training row once.
    """
    num_rows = config.train.rows_per_epoch or dataset.num_train
    flops = _flops_of(
        config.model.model_dump_json(exclude_unset=True, exclude=WITHOUT_FLOPS),
        config.learning_rule.model_dump_json(exclude=set(PER_LANE_CONSTANTS)),
        dataset.input_shape,
        dataset.num_outputs,
        config.train.batch_size,
    )
    return math.ceil(flops.total / flops.batch_size * num_rows)


@lru_cache(maxsize=1024)
def _flops_of(
    model_json: str,
    rule_json: str,
    input_shape: tuple[int, ...],
    num_outputs: int,
    batch_size: int,
) -> ModelFlops:
    config = ModelConfig.model_validate_json(model_json)
    rule = LearningRuleConfig.model_validate_json(rule_json)
    model = build_model(config, input_shape, num_outputs)
    if rule.kind != "backprop" and isinstance(model, LayeredModel):
        return _rule_flops(model, input_shape, config, rule, batch_size)
    if isinstance(model, Mlp):
        return _mlp_flops(model, batch_size)
    return count_flops(model, input_shape, batch_size)


def _rule_flops(
    model: LayeredModel,
    input_shape: tuple[int, ...],
    config: ModelConfig,
    rule: LearningRuleConfig,
    batch_size: int,
) -> ModelFlops:
    """Count one step of a learning rule by taking it; what cmaes does in numpy is not seen."""
    x = torch.zeros(batch_size, *input_shape)
    y = torch.zeros(batch_size, dtype=torch.int64)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(x)
        forward = counter.get_total_flops()
    with FlopCounterMode(display=False) as counter:
        rule_updates(model, x, y, rule, activation=config.activation)
    rest = counter.get_total_flops() - forward
    return ModelFlops(forward=forward, backward=rest, batch_size=batch_size)


def _mlp_flops(model: Mlp, batch_size: int) -> ModelFlops:
    """Return what `count_flops` finds for a multilayer perceptron, without running it.

    The first use of torch's counter imports its compiler, which takes over a second of a
    search's start; an MLP's products are known without it.
    """
    products = [
        module.in_features * module.out_features
        for module in model.modules()
        if isinstance(module, nn.Linear)
    ]
    forward = 2 * batch_size * sum(products)
    return ModelFlops(
        forward=forward,
        backward=2 * forward - 2 * batch_size * products[0],
        batch_size=batch_size,
    )
