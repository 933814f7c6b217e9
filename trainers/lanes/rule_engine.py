"""The `kernels` tier of nets that learn by a rule of `trainers.learning_rules`.

Rows are in the canonical layout. What a rule keeps beside the weights (inverse nets and the like)
lies with the lanes' buffers, so checkpoints, lane surgery and freezing treat it as any buffer.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from trainers.config import ModelConfig, TrialConfig
from trainers.data import Dataset
from trainers.lanes.engine import LaneBuffers
from trainers.lanes.module_engine import ModuleEngine
from trainers.learning_rule_config import LearningRuleConfig
from trainers.learning_rules.connections import LayeredModel, connections_of, weight_layers
from trainers.learning_rules.credit import Backprop
from trainers.learning_rules.interface import Lanes, noise_generator
from trainers.learning_rules.making import constants_of, fixed_of, make_rule, start_state_of
from trainers.learning_rules.net import Net, Updates
from trainers.losses import LossKind
from trainers.trial import Trial

STATE = "rule."
"""Prefix of a rule's own buffers."""


class RuleEngine(ModuleEngine):
    """Everything that is the same for all groups of a pack.

    Args:
        config: The first trial's; what its rule shares with the others is read.
        dataset: On the CPU.
        loss: Which loss is trained on.

    """

    tier = "kernels"

    def __init__(self, config: TrialConfig, dataset: Dataset, loss: LossKind) -> None:
        super().__init__(config.model, dataset, loss, config.train.precision)
        self.rule = make_rule(config.learning_rule)
        self.loss_kind = loss
        self.num_outputs = dataset.num_outputs
        model = self.prepared(config.model).module
        assert isinstance(model, LayeredModel)  # `check_rule_fits` lets no other through
        self.layer_names = [name for name, _ in weight_layers(model)]
        self.layers = connections_of(model)

    def own_buffers(self, trial: Trial) -> dict[str, Tensor]:
        """Return the rule's state before the trial's first step."""
        state = start_state_of(self.rule, self.layers, trial.seed, self._dtype)
        return {STATE + name: values for name, values in state.items()}

    def inputs(self, x: Tensor) -> Tensor:
        """Return flat rows [N, D]."""
        return x.flatten(1).to(self._dtype).contiguous()

    def targets(self, y: Tensor) -> Tensor:
        """Return one-hot classes, or numbers, [N, C]."""
        if y.is_floating_point():
            return y.to(self._dtype)
        return torch.nn.functional.one_hot(y, self.num_outputs).to(self._dtype)

    def bind(
        self,
        params: Tensor,
        grads: Tensor,
        buffers: LaneBuffers,
        configs: Sequence[ModelConfig],
        smoothing: Sequence[float],
    ) -> BoundRule:
        """Return the rule over W lanes' rows."""
        return BoundRule(self, params, grads, buffers, configs[0], smoothing)


class BoundRule:
    """A rule over one group of W lanes, bound to views of their rows."""

    def __init__(
        self,
        engine: RuleEngine,
        params: Tensor,
        grads: Tensor,
        buffers: LaneBuffers,
        config: ModelConfig,
        smoothing: Sequence[float],
    ) -> None:
        self._engine = engine
        values, slopes = engine.layout.views(params), engine.layout.views(grads)
        names = engine.layer_names
        self._net = Net(
            layers=engine.layers,
            weights=[values[f"{name}.weight"].flatten(2) for name in names],
            biases=[values[f"{name}.bias"] for name in names],
            activation=config.activation,
            loss=engine.loss_kind,
        )
        self._grads = [slopes[f"{name}.{end}"] for end in ("weight", "bias") for name in names]
        self._lanes = Lanes(
            state={
                name.removeprefix(STATE): rows
                for name, rows in buffers.items()
                if name.startswith(STATE)
            }
        )
        self._smoothing = None
        if any(smoothing):
            self._smoothing = torch.tensor(smoothing, dtype=torch.float64)[:, None, None].to(params)
        self.alternates = engine.rule.alternates
        """Whether epochs train the rule's state (the even ones, from 0) and weights in turn."""
        self._measures_cosine = False
        self.cosines: dict[str, Tensor] = {}
        """Of each lane's update of its hidden layers with their true gradient, on the epoch's
        first batch, by metric, [W]; see `hidden_cosines`."""

    def begin_epoch(
        self, configs: Sequence[LearningRuleConfig], seeds: Sequence[int], epochs: Sequence[int]
    ) -> list[int]:
        """Take each lane's own numbers and noise; return the lanes whose weights rest this epoch.

        Args:
            configs: The lanes' sections `learning_rule`, [W].
            seeds: Of the lanes' trials, [W].
            epochs: The epoch each lane is in, from 0, [W].

        """
        like, lanes, rule = self._net.weights[0], self._lanes, self._engine.rule
        if not lanes.constants:
            lanes.constants = constants_of(configs, like)
            lanes.fixed = fixed_of(rule, self._engine.layers, seeds, like)
        pairs = zip(seeds, epochs, strict=True)
        lanes.generators = [noise_generator(seed, epoch) for seed, epoch in pairs]
        self._measures_cosine = True
        if not self.alternates:
            return []
        trains_state = [epoch % 2 == 0 for epoch in epochs]
        lanes.trains_state = torch.tensor(trains_state)[:, None, None].to(like)
        return [lane for lane, rests in enumerate(trains_state) if rests]

    def gradients(
        self, x: Tensor, target: Tensor, masks: Sequence[Tensor], seeds: Sequence[int] = ()
    ) -> Tensor:
        """Write the rule's updates into the flat rows; return losses [W]. See `BoundLanes`."""
        if self._smoothing is not None:
            target = target.lerp(torch.full_like(target, 1 / target.shape[-1]), self._smoothing)
        updates = self._engine.rule.updates(self._net, x, target, self._lanes)
        if self._measures_cosine:
            true = Backprop(LearningRuleConfig()).updates(self._net, x, target, self._lanes)
            self.cosines = hidden_cosines(updates, true)
            self._measures_cosine = False
        for row, update in zip(self._grads, (*updates.weights, *updates.biases), strict=True):
            row.copy_(update.view_as(row))
        return updates.loss

    def outputs(self, x: Tensor) -> Tensor:
        """Return every lane's outputs, [W, N, C], for shared x [N, D]."""
        return self._net.outputs(x.expand(len(self._net.weights[0]), -1, -1))

    def evaluate(self, x: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return outputs [W, N, C] and each row's loss [W, N]. See `BoundLanes`."""
        outputs = self.outputs(x)
        return outputs, self._net.row_losses(outputs, target)


def hidden_cosines(one: Updates, other: Updates) -> dict[str, Tensor]:
    """Return the cosines of two updates by metric, [W]; 0 where one of the two is 0.

    `cos_backprop` is that of all hidden layers together, `cos_backprop_1` that of the first one's
    weights and biases, and so on upwards.
    """
    layers = [
        tuple(torch.cat([w.flatten(1), b], 1) for w, b in zip(u.weights, u.biases, strict=True))[
            :-1
        ]
        for u in (one, other)
    ]
    pairs = {"cos_backprop": [torch.cat(rows, 1) for rows in layers]}
    for number, pair in enumerate(zip(*layers, strict=True), start=1):
        pairs[f"cos_backprop_{number}"] = list(pair)
    return {
        name: torch.nn.functional.cosine_similarity(a, b, dim=1, eps=1e-30)
        for name, (a, b) in pairs.items()
    }
