"""From a model's configuration to an `nn.Module`."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from trainers.config import ModelConfig
from trainers.errors import ConfigError, nearest
from trainers.losses import Task
from trainers.models.capsule import CapsuleNet
from trainers.models.cnn import Cnn
from trainers.models.dense import DenseNet
from trainers.models.local import LocalNet
from trainers.models.mlp import Mlp
from trainers.models.moe import MixtureOfExperts
from trainers.models.recurrent import Recurrent
from trainers.models.residual import ResCnn, ResMlp
from trainers.models.transformer import Transformer

_COMMON = ("depth", "width", "activation", "dropout")
_NORMALISED = (*_COMMON, "batch_norm", "bn_momentum")
_RESIDUAL = (*_NORMALISED, "skip", "scalars")
_ROUTING = ("kernel_size", "capsule_size", "class_capsule_size", "routing_iterations")
_SEQUENTIAL = (*_COMMON, "language_model")

BUILTIN: dict[str, tuple[Callable[..., nn.Module], tuple[str, ...]]] = {
    "mlp": (Mlp, _NORMALISED),
    "cnn": (Cnn, _NORMALISED),
    "local": (LocalNet, (*_NORMALISED, "tied", "kernel_size", "head_width")),
    "resmlp": (ResMlp, _RESIDUAL),
    "rescnn": (ResCnn, _RESIDUAL),
    "dense": (DenseNet, _NORMALISED),
    "capsule": (CapsuleNet, (*_NORMALISED, *_ROUTING)),
    "rnn": (partial(Recurrent, cell="rnn"), _SEQUENTIAL),
    "lstm": (partial(Recurrent, cell="lstm"), _SEQUENTIAL),
    "gru": (partial(Recurrent, cell="gru"), _SEQUENTIAL),
    "transformer": (Transformer, (*_SEQUENTIAL, "heads", "window")),
    "moe": (MixtureOfExperts, (*_COMMON, "num_experts", "top_k", "balance")),
}
"""Each kind's class, and the keys of the section `model` that it takes."""


def build_model(config: ModelConfig, input_shape: tuple[int, ...], num_outputs: int) -> nn.Module:
    """Build the model on the CPU in float32, without touching torch's global generator.

    Its weights are not a trial's yet: `trainers.initialisation.initialise` draws those. What a
    factory draws itself at construction is drawn from one fixed seed, so it repeats.

    Args:
        config: the section `model`.
        input_shape: shape of one row.
        num_outputs: classes, or target columns.

    Raises:
        ConfigError: where the model does not fit the data, or a factory cannot be imported,
            fails, or returns no module.

    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)  # torch.manual_seed would reseed CUDA too
        if config.factory is not None:
            return _build_by_factory(config, input_shape, num_outputs)
        make, keys = BUILTIN[config.kind]
        settings = {**dict(config), "bn_momentum": config.running_momentum}
        arguments = {key: settings[key] for key in keys}
        return make(tuple(input_shape), num_outputs, **arguments)


def check_task(config: ModelConfig, task: Task) -> None:
    """Raise ConfigError where a built-in model answers another question than the data asks."""
    if config.factory is None and config.language_model != (task == "language"):
        if task == "language":
            raise ConfigError(
                "data of task language needs `model.language_model: true` and `model.kind` rnn, "
                f"lstm, gru or transformer, but got {config.language_model} and {config.kind}"
            )
        raise ConfigError(
            f"`model.language_model` is for data of task language, but the task is {task}; "
            "leave it out, or use `data.name: stdlib-bytes`"
        )


def import_factory(path: str) -> Callable[..., Any]:
    """Import `package.module:function`.

    Raises:
        ConfigError: saying which part of the path is missing and what to do about it.

    """
    module_name, _, function_name = path.partition(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # the module is the user's code and may raise anything
        raise ConfigError(
            f"`model.factory` must be importable, but importing `{module_name}` of {path!r} "
            f"raised {type(error).__name__}: {error}; install the package into this environment "
            "(and into the workers'), or start isoflop in its folder with PYTHONPATH=."
        ) from error
    factory: Any = module
    for part in function_name.split("."):
        if not hasattr(factory, part):
            names = [name for name in vars(factory) if not name.startswith("_")]
            raise ConfigError(
                f"`model.factory` {path!r}: `{module_name}` has no `{part}`{nearest(part, names)}"
            )
        factory = getattr(factory, part)
    if not callable(factory):
        raise ConfigError(
            f"`model.factory` must name a function or class, but {path!r} is a "
            f"{type(factory).__name__}; name what builds the module"
        )
    return factory  # type: ignore[no-any-return]


def _build_by_factory(
    config: ModelConfig, input_shape: tuple[int, ...], num_outputs: int
) -> nn.Module:
    path = str(config.factory)
    factory = import_factory(path)
    # The built-in keys count as the factory's own only where the spec wrote them down.
    arguments = {
        name: value
        for name, value in config.model_dump(exclude_unset=True).items()
        if name not in ("kind", "factory")
    }
    try:
        model = factory(tuple(input_shape), num_outputs, **arguments)
    except Exception as error:  # the factory is the user's code and may raise anything
        given = ", ".join(f"{name}={value!r}" for name, value in sorted(arguments.items()))
        raise ConfigError(
            f"`model.factory` {path!r} was called with ({tuple(input_shape)}, {num_outputs}"
            f"{', ' + given if given else ''}) and raised {type(error).__name__}: {error}; it has "
            "to accept the input shape, the number of outputs and every other key under `model`"
        ) from error
    if not isinstance(model, nn.Module):
        raise ConfigError(
            f"`model.factory` must return a torch.nn.Module, but {path!r} returned a "
            f"{type(model).__name__}"
        )
    return model
