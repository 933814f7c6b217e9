"""Rules that hold between the parts of a study's spec; no data is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from service.search.spec_explain import check_path
from trainers.config import flat
from trainers.errors import ConfigError, nearest

if TYPE_CHECKING:
    from service.scaling.study_spec import StudySpec

_SET_BY_THE_STUDY = {
    "train.epochs": "`budgets_flops` decide how long a point is trained",
    "train.rows_per_epoch": "it follows from `budgets_flops`",
    "train.seed": "`seeds` say how many there are",
    "data.num_train": "`data_sizes` list the rows to train on",
}
_LOSSES = ("val_loss", "val_error", "val_rmse", "val_bits_per_byte", "train_loss")
_ENDS_EARLY = (
    "regularisation.early_stopping.patience_epochs",
    "regularisation.early_stopping.restore_best",
    "train.convergence_change",
)


def check_study(spec: StudySpec) -> None:
    """Check everything that takes more than one part of a spec.

    Raises:
        ConfigError: naming rule, value and next step.

    """
    fixed = dict(flat(spec.own_sections()))
    _check_fixed(fixed, bool(spec.data_sizes))
    _check_listed("sizes", spec.sizes, spec)
    _check_listed("compare", spec.compare, spec)
    _check_sizes(spec)
    _check_origins(spec, set(fixed))
    _check_schedule(spec)
    _check_objective(spec.objectives)
    for values in spec.size_values:
        for recipe in spec.recipe_values:
            point: dict[str, Any] = {}
            if spec.tune is not None:
                space = spec.tune.space
                point = {path: value for path, value in space.from_unit([0.5] * len(space)).items()}
            spec.as_search.configure({**point, **values, **recipe})
    if spec.verify is not None and spec.verify.flops <= spec.budgets[-1]:
        raise ConfigError(
            "`verify.flops` must be larger than every budget, or nothing is predicted, but got "
            f"{spec.verify.flops:g} and a budget of {spec.budgets[-1]:g}; raise it"
        )


def _check_fixed(fixed: Mapping[str, Any], has_data_sizes: bool) -> None:
    for path, why in _SET_BY_THE_STUDY.items():
        if path in fixed and (path != "data.num_train" or has_data_sizes):
            raise ConfigError(f"`{path}` cannot be fixed in a study: {why}; remove it")
    for path in _ENDS_EARLY:
        if fixed.get(path):
            raise ConfigError(
                f"`{path}` would end a point before its budget, and laws compare points by what "
                f"they used, but got {fixed[path]!r}; remove it"
            )


def _check_listed(role: str, lists: Mapping[str, tuple[Any, ...]], spec: StudySpec) -> None:
    """Paths must exist, and their values differ."""
    for path, values in lists.items():
        problem = check_path(path, role, has_factory=spec.model.factory is not None)
        if problem:
            raise ConfigError(problem)
        if path in _SET_BY_THE_STUDY:
            raise ConfigError(
                f"`{role}.{path}` is not possible: {_SET_BY_THE_STUDY[path]}; remove it"
            )
        if len(values) < 2:
            raise ConfigError(
                f"`{role}.{path}` needs at least 2 values, but got {list(values)}; add one"
            )
        if role == "compare" and len(set(map(repr, values))) < len(values):
            raise ConfigError(
                f"`{role}.{path}` lists a value twice: {list(values)}; keep one of them"
            )


def _check_sizes(spec: StudySpec) -> None:
    if not spec.sizes:
        raise ConfigError("`sizes` needs a path, but is empty; try {model.width: [32, 64, 128]}")
    lengths = {path: len(values) for path, values in spec.sizes.items()}
    if len(set(lengths.values())) > 1:
        raise ConfigError(
            "`sizes` reads its lists side by side, so they must be equally long, but got "
            f"{', '.join(f'{path}: {length}' for path, length in lengths.items())}; "
            "make them equal, or use `derive`"
        )
    rows = [tuple(map(repr, values.values())) for values in spec.size_values]
    if len(set(rows)) < len(rows):
        raise ConfigError(f"`sizes` lists a size twice: {dict(spec.sizes)}; keep one of them")
    if spec.data_sizes and len(set(spec.data_sizes)) < len(spec.data_sizes):
        raise ConfigError(
            f"`data_sizes` lists a number twice: {list(spec.data_sizes)}; keep one of them"
        )


def _check_origins(spec: StudySpec, fixed: set[str]) -> None:
    """Refuse a path with two origins: section, `sizes`, `compare`, `tune.space`, `derive`."""
    tuned = set(spec.tune.space) if spec.tune is not None else set()
    origins = {
        "": fixed,
        "sizes.": set(spec.sizes),
        "compare.": set(spec.compare),
        "tune.space.": tuned,
        "derive.": set(spec.derive),
    }
    seen: dict[str, str] = {}
    for prefix, paths in origins.items():
        for path in sorted(paths):
            if path in seen:
                raise ConfigError(
                    f"a path has one origin, but `{seen[path]}{path}` and `{prefix}{path}` are "
                    "both given; remove one"
                )
            seen[path] = prefix


def _check_schedule(spec: StudySpec) -> None:
    if not spec.fork_budgets:
        return
    if spec.schedule.kind != "wsd":
        raise ConfigError(
            "`schedule.fork_budgets` forks cool-downs from a run's stable part, which only "
            f"`schedule.kind: wsd` has, but got {spec.schedule.kind!r}; use wsd, or leave it out"
        )
    tune = spec.tune
    if tune is not None and tune.smooth_path is None and (tune.per == "point" or tune.budgets > 1):
        raise ConfigError(
            "`tune` must give a size the same values at all its budgets where "
            "`schedule.fork_budgets` is on, because forks share one run's schedule and rate, but "
            f"got `per: {tune.per}` with {tune.budgets} budgets; use `per: size` and 1, or "
            "`use: smooth`"
        )
    tuned = set(spec.tune.space) if spec.tune is not None else set()
    listed = {*tuned, *spec.compare, *spec.sizes}
    for path in sorted(path for path in listed if path.startswith("schedule.")):
        raise ConfigError(
            f"`{path}` must be fixed where `schedule.fork_budgets` is on, because forks share "
            "one run's schedule, but it varies; fix it in `schedule`"
        )


def _check_objective(objectives: Mapping[str, str]) -> None:
    if len(objectives) > 1:
        raise ConfigError(
            f"a study fits one metric, but `objectives` has {list(objectives)}; keep the first"
        )
    for metric, direction in objectives.items():
        if metric not in _LOSSES:
            raise ConfigError(
                f"`objectives.{metric}`: a study fits a loss{nearest(metric, _LOSSES)}"
            )
        if direction != "minimize":
            raise ConfigError(
                f"`objectives.{metric}` must be minimize, because laws are of a loss that falls, "
                f"but got {direction!r}; use a loss or an error"
            )
