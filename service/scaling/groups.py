"""A group: one recipe at one model size on one amount of data, with its budgets.

All trials of a group share a model and an epoch's rows, so they are lanes of the same packs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

from search_spaces import Choice
from service.ledger.records import TrialRecord
from service.scaling.facts import facts_of, group_key, key_of
from service.scaling.lengths import Lengths, choose_lengths, shared_warmup, updates_per_epoch
from service.scaling.study_spec import StudySpec, Values
from trainers.config import DataConfig, ModelConfig, TrialConfig
from trainers.data import load
from trainers.flops import count_params, flops_per_epoch
from trainers.models import build_model

_BATCHES_TO_COUNT = 1000
MOST_ERROR = 0.1
"""By which share a point's FLOPs may miss its budget; laws are fitted to the FLOPs as counted."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """One recipe, size and amount of data."""

    recipe: Values
    size: Values
    data_size: int | None
    params_all: int
    params_non_embedding: int
    tokens_per_row: int
    """Targets in a row: the context of a language, else 1."""
    num_train: int
    batch_size: int
    """Of an update; the largest one where it is tuned."""
    lengths: Lengths
    warmup_updates: int
    """Of forked runs, which share it."""
    budgets: tuple[float, ...]
    """Budgets in FLOPs that the limits allow, smallest first; some of them are tuned."""
    left_out: Mapping[float, str] = field(default_factory=dict)
    """Budgets that they do not, each with the reason."""
    planned: bool = True
    """False: the spec does not list it, and it was made to verify a prediction."""
    verified: tuple[float, ...] = ()
    """Budgets of `verify`: trained after they were predicted, and never fitted."""

    @cached_property
    def key(self) -> str:
        """The same text for the same group, whatever else the study has."""
        return group_key(self.recipe, self.size, self.data_size)

    @property
    def trained(self) -> tuple[float, ...]:
        """Budgets that have a point: of a size made to verify, only those."""
        return (*self.budgets, *self.verified) if self.planned else self.verified

    @property
    def name(self) -> str:
        """The group in words."""
        parts = [f"{path} {value}" for path, value in {**self.recipe, **self.size}.items()]
        return ", ".join(parts + ([f"{self.data_size} rows"] if self.data_size else []))

    @property
    def values(self) -> dict[str, Any]:
        """Everything the group sets in a trial's configuration."""
        data = {} if self.data_size is None else {"data.num_train": self.data_size}
        return {**self.size, **self.recipe, **data}

    def facts(self) -> dict[str, Any]:
        """Return what is written beside each trial, so that the ledger alone tells its point."""
        return {
            "recipe": dict(self.recipe),
            "size": dict(self.size),
            "data_size": self.data_size,
            "params_all": self.params_all,
            "params_non_embedding": self.params_non_embedding,
            "tokens_per_row": self.tokens_per_row,
            "num_train": self.num_train,
            "flops_per_row": self.lengths.flops_per_row,
            "rows_per_epoch": self.lengths.rows_per_epoch,
            "warmup_updates": self.warmup_updates,
            "planned": self.planned,
        }


def make_groups(
    spec: StudySpec,
    trials: Iterable[TrialRecord] = (),
    predictions: Sequence[Mapping[str, Any]] = (),
) -> list[Group]:
    """Return a study's groups, in the order recipe, size, data size; those to verify come last.

    Args:
        spec: the study.
        trials: those recorded: a group keeps the epochs that it began with, whatever budgets are
            added, so that what is there need not be trained again.
        predictions: payloads of `prediction` events: recipe, size, data_size, flops.
    """
    known: dict[str, Mapping[str, Any]] = {}
    for trial in trials:
        known.setdefault(key_of(trial), facts_of(trial))
    wanted: dict[str, tuple[Values, Values, int | None]] = {}
    for recipe in spec.recipe_values:
        for size in spec.size_values:
            for data_size in spec.data_sizes or (None,):
                wanted[group_key(recipe, size, data_size)] = (recipe, size, data_size)
    planned = set(wanted)
    verified: dict[str, set[float]] = {}
    for payload in predictions:
        place = (payload["recipe"], payload["size"], payload["data_size"])
        key = group_key(*place)
        wanted.setdefault(key, place)
        verified.setdefault(key, set()).add(float(payload["flops"]))
    return [
        _group(spec, *place, known.get(key), tuple(sorted(verified.get(key, ()))), key in planned)
        for key, place in wanted.items()
    ]


def _group(
    spec: StudySpec,
    recipe: Values,
    size: Values,
    data_size: int | None,
    known: Mapping[str, Any] | None,
    verified: tuple[float, ...],
    planned: bool,
) -> Group:
    data = {} if data_size is None else {"data.num_train": data_size}
    config = base_config(spec, {**size, **recipe, **data})
    dataset = load(config.data)
    params_all, params_non_embedding = params_of(config)
    batch_size = _largest_batch(spec, config)
    per_row = flops_per_row(config)
    budgets, left_out = _allowed(spec, per_row, batch_size, dataset.num_train)
    if known is None:
        lengths = choose_lengths(per_row, batch_size, budgets or spec.budgets)
        shortest = lengths.epochs((budgets or spec.budgets)[0])
        updates = shortest * updates_per_epoch(lengths.rows_per_epoch, batch_size)
        warmup = shared_warmup(spec.schedule, updates)
    else:
        lengths = Lengths(
            rows_per_epoch=int(known["rows_per_epoch"]), flops_per_row=known["flops_per_row"]
        )
        warmup = int(known["warmup_updates"])
    for budget in budgets:
        if lengths.error(budget) > MOST_ERROR:
            left_out[budget] = (
                f"epochs of {lengths.rows_per_epoch} rows, which its earlier budgets have, miss it "
                f"by {lengths.error(budget):.0%}"
            )
    budgets = tuple(budget for budget in budgets if budget not in left_out)
    return Group(
        recipe=recipe,
        size=size,
        data_size=data_size,
        params_all=params_all,
        params_non_embedding=params_non_embedding,
        tokens_per_row=dataset.num_features if dataset.task == "language" else 1,
        num_train=dataset.num_train,
        batch_size=batch_size,
        lengths=lengths,
        warmup_updates=warmup,
        budgets=budgets,
        left_out=left_out,
        planned=planned,
        verified=verified,
    )


def _allowed(
    spec: StudySpec, per_row: float, batch_size: int, num_train: int
) -> tuple[tuple[float, ...], dict[float, str]]:
    """Return the budgets within the limits, and why the others are left out."""
    left_out: dict[float, str] = {}
    for budget in spec.budgets:
        rows = budget / per_row
        if rows / batch_size < spec.limits.min_updates:
            left_out[budget] = (
                f"{rows / batch_size:.3g} updates, and `limits.min_updates` is "
                f"{spec.limits.min_updates}"
            )
        elif rows / num_train > spec.limits.max_passes:
            left_out[budget] = (
                f"{rows / num_train:.3g} passes over {num_train:,} rows, and `limits.max_passes` "
                f"is {spec.limits.max_passes:g}"
            )
    return tuple(budget for budget in spec.budgets if budget not in left_out), left_out


def _largest_batch(spec: StudySpec, config: TrialConfig) -> int:
    """Return the most rows that an update of a group may have: an epoch holds whole batches."""
    tuned = spec.tune.space.get("train.batch_size") if spec.tune is not None else None
    if tuned is None:
        return config.train.batch_size
    if isinstance(tuned, Choice):
        return max(value for value in tuned.values if isinstance(value, int))
    return int(tuned.high if tuned.limits is None else tuned.limits[1])


def base_config(spec: StudySpec, values: Values) -> TrialConfig:
    """Return a group's configuration before tuning, at the middle of what is tuned."""
    middle: dict[str, Any] = {}
    if spec.tune is not None:
        space = spec.tune.space
        middle = space.from_unit([0.5] * len(space))
    return spec.as_search.configure({**middle, **values}, epochs=1)


def params_of(config: TrialConfig) -> tuple[int, int]:
    """Return (all parameters, those outside embeddings)."""
    structure = config.model.model_dump_json(exclude={"dropout", "bn_momentum", "bn_decay"})
    return _params_of(config.data, structure)


@lru_cache(maxsize=512)
def _params_of(data: DataConfig, model: str) -> tuple[int, int]:
    dataset = load(data)
    config = ModelConfig.model_validate_json(model)
    return count_params(build_model(config, dataset.input_shape, dataset.num_outputs))


def flops_per_row(config: TrialConfig) -> float:
    """Return the FLOPs of training on one row: forward and backward, products only."""
    rows = _BATCHES_TO_COUNT * config.train.batch_size
    counted = config.with_values({"train.rows_per_epoch": rows})
    return flops_per_epoch(counted, load(config.data)) / rows
