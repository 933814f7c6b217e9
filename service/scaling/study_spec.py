"""What to study: one validated object, the same from YAML, from Python and from the ledger."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, ValidationError, model_validator

from search_spaces import Space
from service.scaling.study_checks import check_study
from service.scaling.study_sections import (
    FitSpec,
    LimitsSpec,
    SeedsSpec,
    StudyBudgetSpec,
    TuneSpec,
    VerifySpec,
)
from service.search.spec import SearchSpec
from service.search.spec_checks import SECTIONS, check_name, check_project, trial_sections
from service.search.spec_explain import explain_spec, refuse_other_kind
from service.search.spec_overrides import apply_overrides
from service.search.spec_sections import ResourcesSpec, SpecSection
from service.search.yaml_loading import YamlDocument, dump_yaml, parse_yaml, read_yaml
from trainers.config import (
    Count,
    DataConfig,
    InitConfig,
    LearningRuleConfig,
    ModelConfig,
    OptimizerConfig,
    Positive,
    PruningConfig,
    RegularisationConfig,
    ScheduleConfig,
    TrainConfig,
    TrialConfig,
    flat,
    nested,
)
from trainers.errors import ConfigError

Values = Mapping[str, Any]
"""Dotted path -> value."""
LANGUAGE_DATA = ("stdlib-bytes", "stdlib-bytes-8m")
LANGUAGE_KINDS = ("rnn", "lstm", "gru", "transformer")


class StudySpec(SpecSection):
    """A scaling study: one trial's sections, model sizes, budgets, and what is tuned at each size.

    Raises:
        ConfigError: for an unknown key (with the nearest valid one) or a broken rule; every
            message states the rule, the actual value and the next step.

    """

    kind: Literal["study"] = "study"
    name: Annotated[str, AfterValidator(check_name)] = "study"
    """Start of the study's id; by default made of the data's and the model's name."""
    project: Annotated[str, AfterValidator(check_project)] = ""
    """What energy and quotas are booked on."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    train: TrainConfig = TrainConfig()
    init: InitConfig = InitConfig()
    regularisation: RegularisationConfig = RegularisationConfig()
    learning_rule: LearningRuleConfig = LearningRuleConfig()
    pruning: PruningConfig = PruningConfig()

    sizes: Mapping[str, tuple[Any, ...]]
    """Dotted path -> values; lists of several paths are read side by side, one size per place."""
    derive: Mapping[str, Any] = Field(default_factory=dict)
    """Dotted path -> arithmetic over paths."""
    budgets_flops: Annotated[tuple[Positive, ...], Field(min_length=1)]
    """Training FLOPs of a point; every size is trained at every budget that `limits` allow."""
    data_sizes: tuple[Count, ...] = ()
    """Different training rows (`data.num_train`) each size is trained on; none: all rows. More
    passes over fewer rows show what repeated data is worth."""
    tune: TuneSpec | None = None
    """None: nothing is tuned, and every size uses the sections' values."""
    compare: Mapping[str, tuple[Any, ...]] = Field(default_factory=dict)
    """Dotted path -> values; each combination is a recipe with a law of its own."""
    seeds: SeedsSpec = SeedsSpec()
    fork_budgets: bool = False
    """With `schedule.kind: wsd`: all budgets of a size are cool-downs from one run's stable part.
    May also stand in `schedule`."""
    objectives: Mapping[str, str] = Field(default_factory=dict)
    """The one metric that laws are fitted to; by default the validation loss, or for a language
    `val_bits_per_byte`."""
    fit: FitSpec = FitSpec()
    verify: VerifySpec | None = None
    limits: LimitsSpec = LimitsSpec()
    budget: StudyBudgetSpec = StudyBudgetSpec()
    resources: ResourcesSpec = ResourcesSpec()

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise ConfigError(explain_spec(error, type(self))) from None
        check_study(self)

    @model_validator(mode="before")
    @classmethod
    def _normalise(cls, values: Any) -> Any:
        """Take dotted keys apart, name the study, and put a language's words where they belong."""
        sections = trial_sections(values)
        rest = {k: v for k, v in values.items() if str(k).split(".")[0] not in SECTIONS}
        schedule = sections.get("schedule")
        if isinstance(schedule, Mapping) and "fork_budgets" in schedule:
            sections["schedule"] = {k: v for k, v in schedule.items() if k != "fork_budgets"}
            rest.setdefault("fork_budgets", schedule["fork_budgets"])
        data, model = sections.get("data"), sections.get("model")
        if isinstance(data, Mapping) and isinstance(model, Mapping):
            data, model = _language_words(data, model)
            sections |= {"data": data, "model": model}
        if "name" not in rest:
            names = [
                data.get("name", "digits") if isinstance(data, Mapping) else "digits",
                model.get("kind", "mlp") if isinstance(model, Mapping) else "mlp",
            ]
            rest["name"] = "-".join(str(name) for name in names)[:60]
        return {**rest, **sections}

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> Self:
        """Build from plain values, as a ledger or a YAML file holds them."""
        if not all(isinstance(key, str) for key in mapping):
            raise ConfigError(f"the keys of a spec are text, but got {list(mapping)[:5]}")
        refuse_other_kind(mapping, "study")
        return cls(**mapping)

    @classmethod
    def from_yaml(cls, path: str | Path, overrides: Iterable[str] = ()) -> Self:
        """Read a spec file; `overrides` are `key=value` as given to `--set`.

        Raises:
            ConfigError: with the file and the lines of the keys in question.

        """
        return cls._from_document(read_yaml(path), overrides)

    @classmethod
    def from_text(cls, text: str, overrides: Iterable[str] = ()) -> Self:
        """Read a spec from YAML text; see `from_yaml`."""
        return cls._from_document(parse_yaml(text), overrides)

    @classmethod
    def _from_document(cls, document: YamlDocument, overrides: Iterable[str]) -> Self:
        try:
            mapping, _ = apply_overrides(document.mapping, overrides, list(cls.model_fields))
            return cls.from_mapping(mapping)
        except ConfigError as error:
            raise type(error)(document.locate(str(error))) from None

    def to_mapping(self) -> dict[str, Any]:
        """Return plain values, only what was set; `from_mapping` gives an equal spec back."""
        return self.model_dump(mode="json", exclude_unset=True)

    def to_yaml(self) -> str:
        """Return the text of a spec file that reads back as an equal spec."""
        return dump_yaml(self.to_mapping())

    def with_values(self, **changes: Any) -> StudySpec:
        """Return a copy with top-level keys replaced, validated as a whole."""
        return StudySpec.from_mapping({**self.to_mapping(), **changes})

    def own_sections(self) -> dict[str, Any]:
        """Return the trial's sections as they were set: nested plain values."""
        mapping = self.to_mapping()
        return {name: mapping[name] for name in SECTIONS if name in mapping}

    @property
    def metric(self) -> str:
        """The metric that laws are fitted to; settled by `for_task` where the spec names none."""
        return next(iter(self.objectives), "val_loss")

    def for_task(self, task: str) -> StudySpec:
        """Settle the metric for data of a task (classification, regression or language).

        Raises:
            ConfigError: if the metric does not exist for this task.

        """
        if not self.objectives:
            metric = "val_bits_per_byte" if task == "language" else "val_loss"
            return self.with_values(objectives={metric: "minimize"}).for_task(task)
        self.as_search.for_task(task)
        return self

    @property
    def size_values(self) -> list[dict[str, Any]]:
        """The paths that each size sets, in the spec's order."""
        columns = list(self.sizes.values())
        return [dict(zip(self.sizes, row, strict=True)) for row in zip(*columns, strict=True)]

    @property
    def recipe_values(self) -> list[dict[str, Any]]:
        """The paths that each recipe sets; one recipe that sets none where nothing is compared."""
        return [
            dict(zip(self.compare, row, strict=True)) for row in product(*self.compare.values())
        ]

    @property
    def budgets(self) -> tuple[float, ...]:
        """The budgets in FLOPs, smallest first, each once."""
        return tuple(sorted(set(self.budgets_flops)))

    @cached_property
    def as_search(self) -> SearchSpec:
        """The search whose machinery trains this study's trials.

        Its space is what is tuned and compared, and its sections stand at the first size.
        """
        first = {path: values[0] for path, values in self.sizes.items()}
        plain = nested({**dict(flat(self.own_sections())), **first})
        space: dict[str, Any] = {path: list(values) for path, values in self.compare.items()}
        if self.tune is not None:
            space |= self.tune.space.to_mapping()
        return SearchSpec(
            name=self.name,
            project=self.project,
            seed=self.seed,
            **plain,
            space=Space(space),
            derive=self.derive,
            objectives=dict(self.objectives) or {"val_loss": "minimize"},
            finalists={"trials": 0},
            recipe={"checks": False},
            budget=self.budget.model_dump(exclude_none=True),
            resources=self.resources,
        )

    def configure(self, values: Values, *, rows_per_epoch: int, epochs: int) -> TrialConfig:
        """Return one trial's configuration: sections, then `values`, then `derive`.

        Args:
            values: of the size, the recipe, what was tuned, and the data size.
            rows_per_epoch: rows between two validations.
            epochs: so many of them are the trial's horizon.

        Raises:
            ConfigError: naming the path whose value breaks a rule.

        """
        return self.as_search.configure(
            {**values, "train.rows_per_epoch": rows_per_epoch}, epochs=epochs
        )


def _language_words(
    data: Mapping[str, Any], model: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Let a model of text name its context, and know that it reads text."""
    data, model = dict(data), dict(model)
    if model.get("kind") in LANGUAGE_KINDS and "factory" not in model:
        if "context" in model:
            data.setdefault("context", model.pop("context"))
        if data.get("name") in LANGUAGE_DATA:
            model.setdefault("language_model", True)
    return data, model
