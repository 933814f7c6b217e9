"""Refuse what cannot work before anything is started or written."""

from __future__ import annotations

import tempfile
from pathlib import Path

import psutil
import torch
from torch import nn

from search_spaces import Choice
from service.energy import Site
from service.search.outside import outside_evidence
from service.search.spec import SearchSpec
from trainers.config import TrialConfig
from trainers.data import Dataset, check_batch, load
from trainers.errors import ConfigError
from trainers.learning_rule_config import check_num_params
from trainers.models import build_model, check_task

BYTES_PER_PARAMETER = 16
"""Weight, gradient and two numbers of the optimizer, in float32."""


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
        check_config(config, dataset)
        _check_recipe(spec, config)
    outside_evidence(spec)
    check_writable(Path(out) if out is not None else Path("runs"))
    return spec


def check_config(config: TrialConfig, dataset: Dataset) -> None:
    """Refuse a configuration whose batch, model or memory does not fit the data or the machine.

    Raises:
        ConfigError: which rule is broken, by what, and what to do.

    """
    check_batch(load(config.data), config.train.batch_size)
    check_task(config.model, dataset.task)
    if config.model.factory is None:
        num_params = _check_size(config, dataset)
    else:
        model = build_model(config.model, dataset.input_shape, dataset.num_outputs)
        _check_forward(model, dataset, config.model.factory)
        num_params = sum(p.numel() for p in model.parameters())
    check_num_params(config.learning_rule, num_params)


def _check_size(config: TrialConfig, dataset: Dataset) -> int:
    """Refuse a model larger than this machine's memory; return its number of parameters."""
    with torch.device("meta"):  # shapes only: nothing is allocated
        model = build_model(config.model, dataset.input_shape, dataset.num_outputs)
    num_params = sum(p.numel() for p in model.parameters())
    needed = num_params * BYTES_PER_PARAMETER
    present = psutil.virtual_memory().total
    if needed > present:
        raise ConfigError(
            f"one trial must fit into memory, but `model.width` {config.model.width} and "
            f"`model.depth` {config.model.depth} need about {needed / 2**30:.3g} GiB and this "
            f"machine has {present / 2**30:.3g}; make the model smaller"
        )
    return num_params


def _check_forward(model: nn.Module, dataset: Dataset, factory: str) -> None:
    """Refuse a user's module that raises on two rows of the data or answers in another shape."""
    try:
        with torch.random.fork_rng(devices=[]):
            outputs = model.train()(dataset.x_train[:2])
    except Exception as error:  # the module is the user's code and may raise anything
        raise ConfigError(
            f"`model.factory` {factory!r} must make a module that takes rows of shape "
            f"{dataset.input_shape}, but on two of them it raised {type(error).__name__}: {error}"
        ) from error
    shape, wanted = tuple(getattr(outputs, "shape", ())), (2, dataset.num_outputs)
    if shape != wanted:
        raise ConfigError(
            f"`model.factory` {factory!r} must give one output per class or target column, so "
            f"{wanted} for two rows, but its module gave {shape or type(outputs).__name__}"
        )


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


def check_writable(folder: Path) -> None:
    """Refuse a folder that cannot be made or written."""
    existing = folder
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir():
        raise ConfigError(
            f"`--out` must be a folder, but `{existing}` is a file; name another folder"
        )
    try:
        with tempfile.TemporaryFile(dir=existing):  # permissions alone do not tell: see /proc
            return
    except OSError as error:
        raise ConfigError(
            f"`--out` must be writable, but `{existing}` is not ({error.strerror}); "
            "name another folder"
        ) from error
