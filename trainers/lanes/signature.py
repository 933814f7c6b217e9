"""What must be equal inside a pack, as one hash; and what each lane may choose for itself."""

from __future__ import annotations

import hashlib
import inspect
import json
from functools import lru_cache
from typing import Any

from trainers.config import ModelConfig, TrialConfig
from trainers.data import Dataset
from trainers.errors import ConfigError
from trainers.learning_rule_config import PER_LANE_CONSTANTS
from trainers.models.build import import_factory

PER_LANE: dict[str, tuple[str, ...]] = {
    "model": ("dropout", "bn_momentum", "bn_decay"),
    "optimizer": ("lr", "momentum", "alpha", "beta1", "beta2", "eps", "weight_decay"),
    "train": ("epochs", "grad_clip_norm", "seed", "convergence_change"),
    "learning_rule": PER_LANE_CONSTANTS,
}
"""Keys of a section that may differ between the lanes of one pack. The whole sections `schedule`,
`init`, `regularisation` and `pruning` may differ too: schedules are closed forms evaluated per
lane, penalties of strength 0 change nothing, and each lane has its own mask."""


def signature(config: TrialConfig, dataset: Dataset) -> str:
    """Return sixteen hex digits that are equal exactly where trials may share a pack."""
    full = config.full_mapping()
    shared: dict[str, Any] = {
        section: {key: value for key, value in full[section].items() if key not in dropped}
        for section, dropped in PER_LANE.items()
    }
    shared["data"] = [dataset.sha256, list(dataset.input_shape), dataset.num_outputs]
    shared["code"] = _code_fingerprint(config.model)
    text = json.dumps(shared, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def check_one_signature(configs: list[TrialConfig], dataset: Dataset) -> str:
    """Return the pack's signature.

    Raises:
        ConfigError: where the trials differ in something that a pack has only once.
    """
    first, reference = signature(configs[0], dataset), configs[0].full_mapping()
    for config in configs[1:]:
        if signature(config, dataset) != first:
            raise ConfigError(
                "all trials of a pack must agree in what a pack has only once, but "
                f"{_first_difference(reference, config.full_mapping())}; "
                "put them into different packs"
            )
    return first


def _first_difference(one: dict[str, Any], other: dict[str, Any]) -> str:
    for section in ("data", "model", "optimizer", "train", "learning_rule"):
        dropped = PER_LANE.get(section, ())
        for key in sorted(one[section].keys() | other[section].keys()):
            left, right = one[section].get(key), other[section].get(key)
            if key not in dropped and left != right:
                return f"`{section}.{key}` is {left!r} in one and {right!r} in another"
    return "their models' code differs"


def _code_fingerprint(config: ModelConfig) -> str:
    """Hash the source of a factory's module, so that an edited model is another signature."""
    return _source_hash(config.factory) if config.factory is not None else config.kind


@lru_cache(maxsize=64)
def _source_hash(factory: str) -> str:
    module = inspect.getmodule(import_factory(factory))
    try:
        source = inspect.getsource(module) if module is not None else factory
    except (OSError, TypeError):
        source = factory  # built in C or typed into a prompt: there is no source to read
    return hashlib.sha256(source.encode()).hexdigest()[:16]
