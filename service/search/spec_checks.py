"""Rules that hold between the parts of a search spec."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError

from search_spaces import Choice, Space
from search_spaces.constraints import METRICS
from service.search.spec_explain import check_path
from trainers.config import TrialConfig, flat, nested
from trainers.errors import ConfigError, SpaceError, nearest

if TYPE_CHECKING:
    from service.search.spec import SearchSpec

SECTIONS = tuple(TrialConfig.model_fields)
SPARSITY = "pruning.sparsity"
NUM_PROBES = 32
"""Random points of the space that are configured before a search starts."""

_SET_ELSEWHERE = {
    "train.epochs": "`rounds` and `train.epochs` set it",
    "train.seed": "`rounds` and `finalists` set `seeds`",
    "data.name": "results on different data cannot be compared",
    "data.val_fraction": "results on different validation rows cannot be compared",
    "data.test_fraction": "results on different validation rows cannot be compared",
    "data.split_seed": "results on different validation rows cannot be compared",
    "data.context": "results on different validation windows cannot be compared",
}


def check_name(name: str) -> str:
    """Return a search's name if it can stand in ids and file names.

    Raises:
        ValueError: with the rule, the name and one that would do.
    """
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,60}", name):
        return name
    better = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._")[:60] or "search"
    raise ValueError(
        "`name` takes letters, digits, `.`, `_` and `-`, at most 61 and a letter or digit first, "
        f"but got {name[:80]!r}; try {better!r}"
    )


def check_project(project: str) -> str:
    """Return a project's name if it is one line of at most 200 printable characters.

    Raises:
        ValueError: with the rule, the name and the next step.
    """
    if len(project) <= 200 and (project.isprintable() or not project):
        return project
    raise ValueError(
        "`project` is one line of at most 200 printable characters, but got "
        f"{project[:80]!r} of {len(project)}; shorten it, or leave out what cannot be printed"
    )


def trial_sections(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """Return the trial's own sections of a spec, nested; dotted keys are taken apart."""
    own = {key: value for key, value in mapping.items() if str(key).split(".")[0] in SECTIONS}
    if isinstance(own.get("data"), str):
        own["data"] = {"name": own["data"]}
    return nested(own)


def refuse_fixed_and_searched(
    fixed: Iterable[str], space: Iterable[str], derived: Iterable[str]
) -> None:
    """Refuse a path with two origins: it comes from a section, the space, or `derive`.

    Raises:
        SpaceError: naming the two places, so that their lines can be shown.

    """
    fixed, space, derived = set(fixed), set(space), set(derived)
    for path in sorted(space & fixed):
        raise SpaceError(
            f"a path is either fixed or searched, but `{path}` and `space.{path}` are both given; "
            "remove one"
        )
    for path in sorted(derived & (fixed | space)):
        other = path if path in fixed else f"space.{path}"
        raise SpaceError(
            f"a derived path has no other value, but `derive.{path}` and `{other}` are both "
            "given; remove one"
        )


def check_objectives(objectives: Mapping[str, str]) -> None:
    """Metrics must be known and directions must be `minimize` or `maximize`."""
    if not objectives:
        raise ConfigError("`objectives` needs a metric, but is empty; try {val_error: minimize}")
    for metric, direction in objectives.items():
        if metric not in METRICS:
            raise ConfigError(
                f"`objectives.{metric}`: unknown metric `{metric}`{nearest(metric, METRICS)}"
            )
        if direction not in ("minimize", "maximize"):
            raise ConfigError(
                f"`objectives.{metric}` must be minimize or maximize, but got {direction!r}"
                f"{nearest(str(direction), ('minimize', 'maximize'))}"
            )


def check_spec(spec: SearchSpec) -> None:
    """Check everything that takes more than one part of a spec; no data is read.

    Raises:
        ConfigError: naming rule, value and next step.

    """
    fixed = [path for path, _ in flat(spec.base.to_mapping())]
    spaces = [spec.space, *(r.space for r in spec.rounds if r.space is not None)]
    for space in spaces:
        refuse_fixed_and_searched(fixed, space, spec.derive)
        _check_space_paths(spec, space)
        _check_loss_is_comparable(spec, space)
        _check_sparsity_is_measured(spec, space)
    for path, rule in spec.derive_rules.items():
        has_factory = spec.base.model.factory is not None
        _refuse(check_path(path, "derive", has_factory=has_factory))
        for read in rule.paths:
            _refuse(check_path(read, "derive", has_factory=has_factory, reader=path))
    _check_rounds(spec)
    for space in spaces:
        _check_probes(spec, space)
    _check_start(spec)


def _refuse(problem: str) -> None:
    if problem:
        raise ConfigError(problem)


def _check_rounds(spec: SearchSpec) -> None:
    if spec.rounds and spec.rounds[0].refine is not None:
        raise ConfigError(
            "`rounds.0.refine` needs a round before it, but it belongs to the first; remove it"
        )
    for index, round_ in enumerate(spec.plan()):
        if round_.sampler == "grid":
            (spec.space if round_.space is None else round_.space).grid()
        epochs, halving = round_.epochs or 1, round_.halving
        if halving is not None and halving.first_epoch >= epochs:
            raise ConfigError(
                f"`rounds.{index}.halving.first_epoch` must be < the round's epochs, but got "
                f"{halving.first_epoch} of {epochs}; halve earlier or train longer"
            )


def _check_space_paths(spec: SearchSpec, space: Space) -> None:
    for path, dimension in space.items():
        _refuse(check_path(path, "space", has_factory=spec.base.model.factory is not None))
        if path in _SET_ELSEWHERE:
            raise SpaceError(
                f"`space.{path}` cannot be searched: {_SET_ELSEWHERE[path]}; remove it"
            )
        values: tuple[Any, ...] = (
            dimension.values if isinstance(dimension, Choice) else (dimension.low, dimension.high)
        )
        for value in values:
            problem = _field_problem(spec.base, path, value)
            if problem:
                raise SpaceError(
                    f"`space.{path}` reaches {value!r}, but {problem}; "
                    f"change {dimension.to_mapping()}"
                )


def _field_problem(base: TrialConfig, path: str, value: Any) -> str:
    """Say what the field at `path` has against `value`; rules between fields are not asked."""
    try:
        TrialConfig.model_validate(nested({**dict(flat(base.to_mapping())), path: value}))
    except ValidationError as error:
        for fault in error.errors():
            if ".".join(str(part) for part in fault["loc"]) == path:
                return f"`{path}`: {fault['msg'][0].lower()}{fault['msg'][1:]}"
    return ""


def _check_loss_is_comparable(spec: SearchSpec, space: Space) -> None:
    if "train.loss" in space and any(
        metric in ("val_loss", "train_loss") for metric in spec.objectives
    ):
        raise SpaceError(
            "`space.train.loss` cannot be searched for the objective of a loss: values of "
            "different losses cannot be compared; use `objectives: {val_error: minimize}`"
        )


def _check_sparsity_is_measured(spec: SearchSpec, space: Space) -> None:
    """Refuse `sparsity` as a metric where a trial may have no pruning, and so no value of it."""
    used = "sparsity" in spec.objectives or "sparsity" in spec.constraints
    if not used or SPARSITY in spec.derive:
        return
    dimension = space.get(SPARSITY)
    if dimension is None:
        lowest = spec.base.pruning.sparsity
    elif isinstance(dimension, Choice):
        lowest = min((v for v in dimension.values if isinstance(v, int | float)), default=0.0)
    else:
        lowest = dimension.low
    if lowest <= 0:
        raise ConfigError(
            f"the metric `sparsity` exists where pruning is on, so `{SPARSITY}` must be > 0 in "
            f"every trial, but got {lowest:g}; search it e.g. in {{uniform: [0.5, 0.98]}}"
        )


def _check_probes(spec: SearchSpec, space: Space) -> None:
    """Configure corners and random points, so that `derive` fails now and not at trial 300."""
    rng = np.random.default_rng(0)
    corners = [space.from_unit([u] * len(space)) for u in (0.0, 1.0)]
    for params in [*corners, *(space.sample(rng) for _ in range(NUM_PROBES if space else 0))]:
        try:
            spec.configure(params)
        except ConfigError as error:
            raise SpaceError(f"{error} (at the point {params} of the space)") from None


def _check_start(spec: SearchSpec) -> None:
    """Check `start_from`: configs lie in the space, and the baseline uses the same data."""
    for index in range(len(spec.start_from.configs)):
        spec.start_config(index)
    baseline = spec.baseline_config()
    if baseline is not None and baseline.data != spec.base.data:
        raise ConfigError(
            "`start_from.baseline` must use the search's own `data`, or the gain over it means "
            f"nothing, but it has {baseline.data.model_dump(exclude_unset=True)}; remove its data"
        )
