"""Refuse what cannot work before anything is started or written."""

from __future__ import annotations

import os
from pathlib import Path

from search_spaces import Choice
from service.energy import Site
from service.search.spec import SearchSpec
from trainers.config import TrialConfig
from trainers.data import check_batch, load
from trainers.errors import ConfigError
from trainers.learning_rule_config import check_num_params
from trainers.models import build_model, check_task


def prepare(spec: SearchSpec, out: str | Path | None) -> SearchSpec:
    """Check data, batch sizes, model, site and output folder; settle what the data decides.

    Raises:
        ConfigError: which rule is broken, by what, and what to do.

    """
    site = Site.from_environment()
    if spec.budget.kgco2e is not None:
        site.require_country("kgco2e")
    dataset = load(spec.base.data)
    spec = spec.for_task(dataset.task)
    for config in _extremes(spec):
        check_batch(load(config.data), config.train.batch_size)
        check_task(config.model, dataset.task)
        model = build_model(config.model, dataset.input_shape, dataset.num_outputs)
        check_num_params(config.learning_rule, sum(p.numel() for p in model.parameters()))
        _check_recipe(spec, config)
    _check_writable(Path(out) if out is not None else Path("runs"))
    return spec


def _check_recipe(spec: SearchSpec, config: TrialConfig) -> None:
    """Refuse the recipe's checks, which try learning rates, for a rule that has none."""
    if spec.recipe.checks and config.learning_rule.kind == "cma_es":
        raise ConfigError(
            "`recipe.checks` tries several learning rates, but `learning_rule.kind: cma_es` "
            "chooses its own steps; set `recipe.checks: false`, or use `learning_rule.kind: "
            "evolution`"
        )


def _extremes(spec: SearchSpec) -> list[TrialConfig]:
    """Return configurations that together reach every end of the space, and every choice.

    They are as long as the shortest round's trials: what these can do, longer ones can.
    """
    num, fewest = len(spec.space), min((r.epochs or 1 for r in spec.plan()), default=None)
    points = [[u] * num for u in (0.0, 0.5, 1.0)]
    for place, dimension in enumerate(spec.space.values()):
        values = dimension.count if isinstance(dimension, Choice) else 2
        for u in (i / max(values - 1, 1) for i in range(values)):
            points.append([0.5] * place + [u] + [0.5] * (num - place - 1))
    found = {
        config.fingerprint(): config
        for config in (
            spec.configure(spec.space.from_unit(point), epochs=fewest) for point in points
        )
    }
    return list(found.values())


def _check_writable(folder: Path) -> None:
    """Refuse a folder that cannot be made or written."""
    existing = folder
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir():
        raise ConfigError(
            f"`--out` must be a folder, but `{existing}` is a file; name another folder"
        )
    if not os.access(existing, os.W_OK):
        raise ConfigError(f"`--out` must be writable, but `{existing}` is not; name another folder")
