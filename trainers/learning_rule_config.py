"""The section `learning_rule`: how errors become updates, and which models a rule can use."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from trainers.errors import ConfigError
from trainers.sections import Positive, Section

LearningRuleKind = Literal[
    "backprop",
    "lecture_backprop",
    "feedback_alignment",
    "direct_feedback_alignment",
    "dtp",
    "sdtp",
    "ao_sdtp",
    "predictive_coding",
    "oja",
    "sanger",
    "competitive",
    "forward_only",
    "weight_perturbation",
    "node_perturbation",
    "evolution",
    "cma_es",
]
DEFAULT_NOISE_STD: dict[str, float] = {
    "dtp": 0.2,
    "sdtp": 0.2,
    "ao_sdtp": 0.2,
    "weight_perturbation": 1e-3,
    "node_perturbation": 1e-3,
    "evolution": 0.02,
    "cma_es": 0.1,
}
MODEL_KINDS = ("mlp", "local")
"""What every rule but backprop can train: layers of linear maps and activations, one by one."""
MOST_CMA_PARAMS = 999
"""CMA-ES keeps a covariance of the square of the parameters, and decomposes it at every update."""


class LearningRuleConfig(Section):
    """How a net's weights learn from its errors (lecture, p. 25-34)."""

    kind: LearningRuleKind = "backprop"
    """backprop: the true gradient, by the fastest code there is. lecture_backprop: the same by the
    lecture's equations (p. 25, 30), with its cosine recorded as for all other rules. Every rule but
    backprop needs a plain mlp or a locally connected net (also tied, which is a conv net): at least
    one hidden layer, no normalisation, no dropout."""
    feedback_scale: Positive = 1.0
    """feedback_alignment and direct_feedback_alignment: multiplies the fixed random matrices."""
    mode: Literal["parallel", "alternating"] = "parallel"
    """Target propagation: train forward and inverse nets at every step, or one epoch each in turn,
    the inverse nets first."""
    target_step: Positive = 0.1
    """dtp: step of the first target down the gradient of one sample's loss (the paper's alpha)."""
    noise_std: Positive | None = None
    """Standard deviation of what is added: to activations under target propagation (0.2), to
    weights or pre-activations under perturbation (0.001), evolution (0.02) and cma_es (0.1)."""
    inverse_lr: Positive = 1e-3
    """Target propagation: the rate of the Adam that trains the inverse nets."""
    num_auxiliary: Annotated[int, Field(ge=1)] = 128
    """ao_sdtp: fixed random features beside the output, whose targets are their own values."""
    prediction: Literal["strict", "fixed"] = "strict"
    """predictive_coding: strict recomputes predictions at every sweep; fixed holds them at the
    forward pass, which gives backprop exactly at inference_rate 1 and one sweep per layer."""
    num_sweeps: Annotated[int, Field(ge=1)] = 20
    """predictive_coding: updates of the activities before the weights are updated."""
    inference_rate: Positive = 0.1
    """predictive_coding: step of each such update."""
    hidden_rate: Positive = 1.0
    """oja, sanger, competitive: factor on the hidden layers' updates; the readout has 1."""
    competition_rank: Annotated[int, Field(ge=2)] = 2
    """competitive: which unit, by response, is pushed away from the input."""
    anti_hebbian: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.4
    """competitive: how strongly it is pushed away; the winner is pulled with 1."""
    num_directions: Annotated[int, Field(ge=1)] = 16
    """Directions tried at each step: perturbations, or antithetic pairs under evolution."""

    @property
    def noise(self) -> float:
        """The standard deviation, the rule's own default where none was given."""
        return DEFAULT_NOISE_STD.get(self.kind, 0.0) if self.noise_std is None else self.noise_std


PER_LANE_CONSTANTS = (
    "feedback_scale",
    "target_step",
    "noise_std",
    "inverse_lr",
    "inference_rate",
    "hidden_rate",
    "anti_hebbian",
)
"""What may differ between the lanes of one pack."""


def check_rule_fits(
    rule: LearningRuleConfig,
    *,
    model_kind: str,
    depth: int,
    width: int,
    dropout: float,
    batch_norm: str,
    precision: str,
    optimizer_kind: str,
    optimizer_lr: float,
    schedule_kind: str,
) -> None:
    """Refuse a rule on a model that it cannot train.

    Raises:
        ValueError: naming the rule, the value and what would work.

    """
    kind = rule.kind
    if kind == "backprop":
        return
    otherwise = "or use `learning_rule.kind: backprop`"
    if model_kind == "cnn":
        raise ValueError(
            f"`learning_rule.kind: {kind}` has no rule for the max pooling of `model.kind: cnn`; "
            "use `model.kind: local` with `model.tied: true`, a conv net with strides in place of "
            f"pooling, {otherwise}"
        )
    if model_kind not in MODEL_KINDS:
        raise ValueError(
            f"`learning_rule.kind: {kind}` is written for layers of linear maps and activations, "
            f"but `model.kind` is {model_kind!r}; use `model.kind: mlp` or `local`, {otherwise}"
        )
    if depth < 1:
        raise ValueError(
            f"`learning_rule.kind: {kind}` says how hidden layers learn, but `model.depth` is "
            f"{depth}; use a depth of at least 1, {otherwise}"
        )
    if dropout or batch_norm != "none":
        raise ValueError(
            f"`learning_rule.kind: {kind}` has no rule for dropout or normalisation, but got "
            f"`model.dropout` {dropout} and `model.batch_norm` {batch_norm!r}; "
            f"use 0 and none, {otherwise}"
        )
    if precision == "bf16":
        raise ValueError(
            f"`learning_rule.kind: {kind}` computes in float32 or float64, but `train.precision` "
            f"is bf16; use float32, {otherwise}"
        )
    if kind == "competitive" and rule.competition_rank > width:
        raise ValueError(
            f"`learning_rule.competition_rank` must be at most `model.width`, but got "
            f"{rule.competition_rank} of {width} units; lower it, {otherwise}"
        )
    if kind == "cma_es" and (
        optimizer_kind != "sgd" or optimizer_lr != 1.0 or schedule_kind != "constant"
    ):
        raise ValueError(
            "`learning_rule.kind: cma_es` chooses its own steps, so it needs `optimizer.kind: sgd` "
            f"with `optimizer.lr: 1` and `schedule.kind: constant`, but got {optimizer_kind!r}, "
            f"{optimizer_lr} and {schedule_kind!r}; set those, or use `learning_rule.kind: "
            "evolution`, which leaves the step to the optimizer"
        )


def check_num_params(rule: LearningRuleConfig, num_params: int) -> None:
    """Refuse CMA-ES on a model with a thousand parameters or more.

    Raises:
        ConfigError: with the number and what would work.

    """
    if rule.kind == "cma_es" and num_params > MOST_CMA_PARAMS:
        raise ConfigError(
            "`learning_rule.kind: cma_es` needs a model of fewer than "
            f"{MOST_CMA_PARAMS + 1} parameters, for its memory grows with their square, but this "
            f"one has {num_params}; lower `model.width`, or use `learning_rule.kind: evolution`"
        )
