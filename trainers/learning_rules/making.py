"""From the section `learning_rule` to a rule, and from many lanes' sections to their constants."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from trainers.learning_rule_config import LearningRuleConfig
from trainers.learning_rules.connections import Connections
from trainers.learning_rules.credit import (
    Backprop,
    DirectFeedbackAlignment,
    FeedbackAlignment,
    ForwardOnly,
)
from trainers.learning_rules.hebbian import Hebbian
from trainers.learning_rules.interface import (
    LearningRule,
    fixed_generator,
    state_generator,
)
from trainers.learning_rules.perturbing import (
    CmaEs,
    Evolution,
    NodePerturbation,
    WeightPerturbation,
)
from trainers.learning_rules.predictive import PredictiveCoding
from trainers.learning_rules.targets import TargetPropagation

Tensors = dict[str, Tensor]

RULES: Mapping[str, Callable[[LearningRuleConfig], LearningRule]] = {
    "backprop": Backprop,
    "lecture_backprop": Backprop,
    "feedback_alignment": FeedbackAlignment,
    "direct_feedback_alignment": DirectFeedbackAlignment,
    "dtp": TargetPropagation,
    "sdtp": TargetPropagation,
    "ao_sdtp": TargetPropagation,
    "predictive_coding": PredictiveCoding,
    "oja": Hebbian,
    "sanger": Hebbian,
    "competitive": Hebbian,
    "forward_only": ForwardOnly,
    "weight_perturbation": WeightPerturbation,
    "node_perturbation": NodePerturbation,
    "evolution": Evolution,
    "cma_es": CmaEs,
}

_CONSTANTS: Mapping[str, Callable[[LearningRuleConfig], float]] = {
    "feedback_scale": lambda config: config.feedback_scale,
    "target_step": lambda config: config.target_step,
    "noise": lambda config: config.noise,
    "inverse_lr": lambda config: config.inverse_lr,
    "inference_rate": lambda config: config.inference_rate,
    "hidden_rate": lambda config: config.hidden_rate,
    "anti_hebbian": lambda config: config.anti_hebbian,
}


def make_rule(config: LearningRuleConfig) -> LearningRule:
    """Return the rule with what a pack shares of its settings."""
    return RULES[config.kind](config)


def fixed_of(
    rule: LearningRule, layers: Sequence[Connections], seeds: Sequence[int], like: Tensor
) -> Tensors:
    """Return the fixed random tensors of trials with these seeds, stacked, as `like` is."""
    drawn = [rule.fixed(layers, fixed_generator(seed)) for seed in seeds]
    return {name: torch.stack([own[name] for own in drawn]).to(like) for name in drawn[0]}


def start_state_of(
    rule: LearningRule, layers: Sequence[Connections], seed: int, dtype: torch.dtype
) -> Tensors:
    """Return one trial's state before training, not stacked."""
    if rule.keeps_float64:
        dtype = torch.float64
    state = rule.start_state(layers, state_generator(seed))
    return {name: values.to(dtype) for name, values in state.items()}


def constants_of(configs: Sequence[LearningRuleConfig], like: Tensor) -> dict[str, Tensor]:
    """Return each lane's own numbers by name, [W, 1, 1], where and as `like` is."""
    return {
        name: torch.tensor([read(config) for config in configs], dtype=torch.float64)
        .view(-1, 1, 1)
        .to(like.device, like.dtype)
        for name, read in _CONSTANTS.items()
    }
