"""Turn what a sampler proposes into trials of the ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from service.ledger.records import TrialRecord, TrialRole
from service.search.context import SearchContext
from service.search.spec import SearchSpec
from trainers.config import DataConfig, ModelConfig, TrialConfig
from trainers.data import load
from trainers.flops import count_params, flops_per_epoch
from trainers.models import build_model


@dataclass(frozen=True)
class Cost:
    """What is known of a configuration before it is trained."""

    num_params: int
    flops_per_epoch: float


@cache
def _num_params(data: DataConfig, model: str) -> int:
    dataset = load(data)
    config = ModelConfig.model_validate_json(model)
    return count_params(build_model(config, dataset.input_shape, dataset.num_outputs))[0]


def cost_of(config: TrialConfig) -> Cost:
    """Count parameters and FLOPs per epoch of a configuration."""
    structure = config.model.model_dump_json(exclude={"dropout", "bn_momentum", "bn_decay"})
    return Cost(_num_params(config.data, structure), flops_per_epoch(config, load(config.data)))


def trial_record(
    context: SearchContext,
    config: TrialConfig,
    *,
    trial_id: int,
    round_: int,
    batch: int,
    role: TrialRole,
    seed: int,
    params: Mapping[str, Any] | None = None,
    sampler_attrs: Mapping[str, Any] | None = None,
    parent_trial: int | None = None,
) -> TrialRecord:
    """Build a waiting trial with its costs counted."""
    cost = cost_of(config)
    return TrialRecord(
        trial_id=trial_id,
        round=round_,
        batch=batch,
        role=role,
        config=config.full_mapping(),
        params=dict(params or {}),
        config_id=config.fingerprint(),
        seed=seed,
        horizon_epochs=config.train.epochs,
        sampler_attrs=dict(sampler_attrs or {}),
        parent_trial=parent_trial,
        num_params=cost.num_params,
        flops_per_epoch=cost.flops_per_epoch,
    )


@dataclass(frozen=True)
class Refusal:
    """Refuses configurations by the constraints that are known before training.

    Picklable, so that a sampler in a process of its own can ask it.
    """

    spec: SearchSpec
    epochs: int

    def __call__(self, params: Mapping[str, Any]) -> str | None:
        """Return which constraint the configuration breaks, or None."""
        config = self.spec.configure(params, epochs=self.epochs)
        cost = cost_of(config)
        known = {
            "params": float(cost.num_params),
            "flops": cost.flops_per_epoch * config.train.epochs,
        }
        for constraint in self.spec.constraint_list:
            if constraint.metric in known and not constraint.satisfied(known[constraint.metric]):
                return f"{constraint.metric} = {known[constraint.metric]:g}, allowed {constraint}"
        return None


def seeds_of(
    trials: Sequence[TrialRecord],
) -> dict[str, list[TrialRecord]]:
    """Group trials by configuration, in order of first trial id."""
    groups: dict[str, list[TrialRecord]] = {}
    for trial in trials:
        groups.setdefault(trial.config_id, []).append(trial)
    return groups
