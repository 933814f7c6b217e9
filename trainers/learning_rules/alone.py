"""A rule applied to one ordinary module, outside of any pack."""

from __future__ import annotations

import torch
from torch import Tensor

from trainers.config import Activation
from trainers.learning_rule_config import LearningRuleConfig
from trainers.learning_rules.connections import LayeredModel
from trainers.learning_rules.interface import Lanes, noise_generator
from trainers.learning_rules.making import (
    constants_of,
    fixed_of,
    make_rule,
    start_state_of,
)
from trainers.learning_rules.net import Net, Updates
from trainers.losses import LossKind


def rule_updates(
    module: LayeredModel,
    x: Tensor,
    y: Tensor,
    rule: LearningRuleConfig,
    *,
    activation: Activation,
    loss: LossKind = "cross_entropy",
    seed: int = 0,
) -> Updates:
    """Return what a rule would put in the gradient's place, for one batch and one module.

    Fixed matrices, the start of the rule's state and its noise are those of a trial with this
    seed before its first step. The module is not changed.

    Args:
        module: A plain perceptron or locally connected net: no normalisation, no dropout.
        x: Inputs [B, *row].
        y: Classes [B] or numbers [B, C].
        rule: The section `learning_rule`.
        activation: The module's hidden activation.
        loss: Which loss is meant.
        seed: Of the trial.

    Returns:
        Updates with a leading lane axis of 1.

    """
    net = Net.of(module, activation, loss)
    made, like = make_rule(rule), net.weights[0]
    state = start_state_of(made, net.layers, seed, like.dtype)
    lanes = Lanes(
        constants=constants_of([rule], like),
        fixed=fixed_of(made, net.layers, [seed], like),
        state={name: values[None] for name, values in state.items()},
        generators=[noise_generator(seed, 0)],
    )
    target = y
    if not y.is_floating_point():
        target = torch.nn.functional.one_hot(y, net.biases[-1].shape[1])
    with torch.no_grad():
        return made.updates(net, x.flatten(1)[None], target.to(like)[None], lanes)
