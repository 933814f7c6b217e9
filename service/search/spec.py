"""What to search: one validated object, the same from YAML, from Python and from the ledger."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, PrivateAttr, ValidationError, model_validator

from search_spaces import Constraint, Derived, Params, Space, parse_constraints
from search_spaces.derive import derive
from service.search.objectives import Objective, parse_objectives
from service.search.spec_checks import (
    SECTIONS,
    check_name,
    check_objectives,
    check_project,
    check_spec,
    trial_sections,
)
from service.search.spec_explain import explain_spec, refuse_other_kind
from service.search.spec_overrides import apply_overrides
from service.search.spec_plan import plan_rounds
from service.search.spec_sections import (
    BudgetSpec,
    FinalistsSpec,
    HalvingSpec,
    RecipeSpec,
    RefineSpec,
    ResourcesSpec,
    RoundSpec,
    SamplerName,
    SpaceField,
    SpecSection,
    StartFromSpec,
)
from service.search.yaml_loading import YamlDocument, dump_yaml, parse_yaml, read_yaml
from trainers.config import (
    DataConfig,
    InitConfig,
    LearningRuleConfig,
    ModelConfig,
    OptimizerConfig,
    PruningConfig,
    RegularisationConfig,
    ScheduleConfig,
    TrainConfig,
    TrialConfig,
    explain,
    flat,
    valid_paths,
)
from trainers.errors import ConfigError, SpaceError

__all__ = [
    "BudgetSpec",
    "FinalistsSpec",
    "HalvingSpec",
    "RecipeSpec",
    "RefineSpec",
    "ResourcesSpec",
    "RoundSpec",
    "SearchSpec",
    "StartFromSpec",
]

DEFAULT_MAX_ROUNDS = 6
_MISSING_METRICS = {
    "classification": ("val_rmse", "val_r2", "val_bits_per_byte"),
    "regression": ("val_error", "val_bits_per_byte"),
    "language": ("val_rmse", "val_r2"),
}
_OTHER_OBJECTIVES = {"regression": "val_loss", "language": "val_bits_per_byte"}
"""Where a spec names no objective and `val_error` is not what the task is about."""
_METRICS_TO_USE = {
    "classification": "val_error",
    "regression": "val_rmse or val_loss",
    "language": "val_bits_per_byte or val_error",
}


class SearchSpec(SpecSection):
    """A search: one trial's sections, the space around them, and what may be spent.

    Raises:
        ConfigError: for an unknown key (with the nearest valid one) or a broken rule; every
            message states the rule, the actual value and the next step.

    """

    kind: Literal["search"] = "search"
    name: Annotated[str, AfterValidator(check_name)] = "search"
    """Start of the search's id; by default made of the data's and the model's name."""
    project: Annotated[str, AfterValidator(check_project)] = ""
    """What energy and quotas are booked on."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    mode: Literal["deterministic", "asynchronous"] = "deterministic"

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    train: TrainConfig = TrainConfig()
    init: InitConfig = InitConfig()
    regularisation: RegularisationConfig = RegularisationConfig()
    learning_rule: LearningRuleConfig = LearningRuleConfig()
    pruning: PruningConfig = PruningConfig()

    space: SpaceField = Space()
    derive: Mapping[str, Any] = Field(default_factory=dict)
    """Dotted path -> arithmetic over paths."""
    constraints: Mapping[str, Any] = Field(default_factory=dict)
    objectives: Mapping[str, str] = Field(default_factory=lambda: {"val_error": "minimize"})
    """Metric -> minimize or maximize; the first is the primary one."""
    start_from: StartFromSpec = StartFromSpec()
    sampler: SamplerName = "auto"
    """Sampler of the rounds that name none."""
    rounds: tuple[RoundSpec, ...] = ()
    finalists: FinalistsSpec = FinalistsSpec()
    budget: BudgetSpec = BudgetSpec()
    resources: ResourcesSpec = ResourcesSpec()
    recipe: RecipeSpec = RecipeSpec()

    _notes: tuple[str, ...] = PrivateAttr(default=())

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise ConfigError(explain_spec(error, type(self))) from None
        check_spec(self)

    @model_validator(mode="before")
    @classmethod
    def _normalise(cls, values: Any) -> Any:
        """Take dotted keys apart, name the search, and read a baseline given as a file."""
        sections = trial_sections(values)
        rest = {k: v for k, v in values.items() if str(k).split(".")[0] not in SECTIONS}
        start_from = rest.get("start_from")
        if isinstance(start_from, Mapping) and isinstance(start_from.get("baseline"), str | Path):
            document = read_yaml(start_from["baseline"])
            rest["start_from"] = {**start_from, "baseline": trial_sections(document.mapping)}
        if "name" not in rest:
            data, model = sections.get("data"), sections.get("model")
            names = [
                data.get("name", "digits") if isinstance(data, Mapping) else "digits",
                model.get("kind", "mlp") if isinstance(model, Mapping) else "mlp",
            ]
            rest["name"] = "-".join(str(name) for name in names)[:60]
        return {**rest, **sections}

    @model_validator(mode="after")
    def _words_are_known(self) -> Self:
        check_objectives(self.objectives)
        parse_constraints(self.constraints)
        for path, expression in self.derive.items():
            if isinstance(expression, bool) or not isinstance(expression, str | int | float):
                raise SpaceError(
                    f"`derive.{path}` takes arithmetic in quotes, but got {expression!r}; "
                    'write e.g. "2 * model.width"'
                )
            Derived(path, str(expression))
        return self

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> Self:
        """Build from plain values, as a ledger or a YAML file holds them."""
        if not all(isinstance(key, str) for key in mapping):
            raise ConfigError(f"the keys of a spec are text, but got {list(mapping)[:5]}")
        refuse_other_kind(mapping, "search")
        return cls(**mapping)

    @classmethod
    def from_yaml(cls, path: str | Path, overrides: Iterable[str] = ()) -> Self:
        """Read a spec file.

        Args:
            path: the file; names of other files in it are relative to its folder.
            overrides: `key=value` as given to `--set`; the value is YAML. A searched path is
                then fixed; `notes` says so.

        Raises:
            ConfigError: with the file and the lines of the keys in question.

        """
        return cls._from_document(read_yaml(path), overrides, Path(path).parent)

    @classmethod
    def from_text(cls, text: str, overrides: Iterable[str] = ()) -> Self:
        """Read a spec from YAML text; see `from_yaml`."""
        return cls._from_document(parse_yaml(text), overrides, Path())

    @classmethod
    def _from_document(cls, document: YamlDocument, overrides: Iterable[str], folder: Path) -> Self:
        try:
            mapping = _with_files_found(document.mapping, folder)
            mapping, notes = apply_overrides(mapping, overrides, list(cls.model_fields))
            spec = cls.from_mapping(mapping)
        except ConfigError as error:
            raise type(error)(document.locate(str(error))) from None
        spec._notes = tuple(notes)
        return spec

    def to_mapping(self) -> dict[str, Any]:
        """Return plain values, only what was set; `from_mapping` gives an equal spec back."""
        return self.model_dump(mode="json", exclude_unset=True)

    def to_yaml(self) -> str:
        """Return the text of a spec file that reads back as an equal spec."""
        return dump_yaml(self.to_mapping())

    @property
    def notes(self) -> tuple[str, ...]:
        """What `--set` changed beyond the value itself, one sentence each."""
        return self._notes

    @cached_property
    def base(self) -> TrialConfig:
        """The trial that the sections describe, before the space has its say.

        Raises:
            ConfigError: where sections do not fit each other.

        """
        sections = {name: getattr(self, name) for name in SECTIONS if name in self.model_fields_set}
        try:
            return TrialConfig(**sections)
        except ValidationError as error:
            raise ConfigError(explain(error, TrialConfig)) from None

    @cached_property
    def derive_rules(self) -> dict[str, Derived]:
        """Target path -> parsed rule."""
        return {path: Derived(path, str(text)) for path, text in self.derive.items()}

    @property
    def objective_list(self) -> tuple[Objective, ...]:
        """The objectives, primary first."""
        return parse_objectives(self.objectives)

    @property
    def constraint_list(self) -> tuple[Constraint, ...]:
        """The constraints, parsed."""
        return parse_constraints(self.constraints)

    @property
    def max_rounds(self) -> int:
        """Most rounds in all, those that the recipe's step 7 adds included."""
        if not self.space and not self.rounds:
            return 1
        return self.recipe.max_rounds or len(self.rounds) or DEFAULT_MAX_ROUNDS

    def plan(self) -> list[RoundSpec]:
        """Return the rounds, complete; derived from the budget where the spec lists none."""
        return plan_rounds(self)

    def for_task(self, task: str) -> SearchSpec:
        """Settle the objectives for data of a task (classification, regression or language).

        Raises:
            ConfigError: if an objective or constraint does not exist for this task.

        """
        missing = _MISSING_METRICS[task]
        if task in _OTHER_OBJECTIVES and "objectives" not in self.model_fields_set:
            changed = type(self).from_mapping(
                {**self.to_mapping(), "objectives": {_OTHER_OBJECTIVES[task]: "minimize"}}
            )
            changed._notes = self._notes
            return changed.for_task(task)
        for role in ("objectives", "constraints"):
            for metric in getattr(self, role):
                if metric in missing:
                    instead = _METRICS_TO_USE[task]
                    raise ConfigError(
                        f"`{role}.{metric}` does not exist for {task}, which data "
                        f"`{self.data.name}` is; use {instead}"
                    )
        return self

    def configure(self, params: Mapping[str, Any], *, epochs: int | None = None) -> TrialConfig:
        """Return the trial at one point of the space: base, then params, then `derive`.

        Args:
            params: dotted path -> value; need not lie inside the space.
            epochs: the trial's horizon; None: `train.epochs`.

        Raises:
            ConfigError: naming the path whose value breaks a rule.

        """
        values = dict(params) if epochs is None else {**params, "train.epochs": epochs}
        return self.base.with_values({**values, **self._derived(values)})

    def _derived(self, params: Mapping[str, Any]) -> dict[str, int | float]:
        if not self.derive:
            return {}
        derived = derive(self.derive_rules, {**self._base_values, **params})
        for path, value in derived.items():
            if isinstance(value, float) and isinstance(self._base_values.get(path), int):
                if not value.is_integer():
                    raise SpaceError(
                        f"`derive.{path}`: takes whole numbers, but {self.derive[path]} gives "
                        f"{value:g}; use floor(..) or //"
                    )
                derived[path] = int(value)
        return derived

    @cached_property
    def _base_values(self) -> dict[str, Any]:
        written = dict(flat(self.base.full_mapping()))
        defaults = {path: self.base.value(path) for path in valid_paths()}
        return {**defaults, **written}  # beside a factory, unset keys of `model` are not written

    def baseline_config(self) -> TrialConfig | None:
        """Return today's configuration at full length, or None if the spec names none."""
        if self.start_from.baseline is None:
            return None
        given = dict(flat(trial_sections(self.start_from.baseline)))
        unknown = [key for key in self.start_from.baseline if key.split(".")[0] not in SECTIONS]
        if unknown:
            raise ConfigError(
                f"`start_from.baseline` holds a trial's sections, but got `{unknown[0]}`; "
                f"valid sections: {', '.join(SECTIONS)}"
            )
        return self.base.with_values({**self._derived(given), **given})

    def start_config(self, index: int) -> Params:
        """Return `start_from.configs[index]` as a point of the space.

        Searched paths that it leaves out take their value from the sections.

        Raises:
            SpaceError: if it is no point of the space.

        """
        given = dict(flat(trial_sections(self.start_from.configs[index])))
        filled = {path: given.get(path, self._base_values.get(path)) for path in self.space}
        active = self.space.active(filled)
        params = {**given, **{path: filled[path] for path in active}}
        problem = self.space.violation(params)
        if problem:
            raise SpaceError(
                f"`start_from.configs.{index}` must be a point of the space, but {problem}; "
                "change it, or widen the space"
            )
        return params

    def start_configs(self) -> list[Params]:
        """Return all of `start_from.configs`, complete."""
        return [self.start_config(index) for index in range(len(self.start_from.configs))]


def _with_files_found(mapping: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Make the file names in `start_from` relative to the spec's folder."""
    start_from = mapping.get("start_from")
    if not isinstance(start_from, Mapping):
        return mapping
    found = dict(start_from)
    for key in ("baseline", "trials"):
        name = found.get(key)
        if isinstance(name, str) and "://" not in name:
            found[key] = str(folder / name)
    return {**mapping, "start_from": found}
