"""One trial's configuration, from `data` and `model` to `regularisation`.

The same words are used in spec files, in `--set`, in `best.yaml` and in reports. A search space
maps dotted paths into these sections (`optimizer.lr`) to distributions.

Torch's conventions are the default everywhere. The lecture's are opt-in and named so
(`optimizer.form: lecture`, `train.loss: half_mse`, `model.bn_decay`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, ValidationError, model_validator

from trainers.errors import ConfigError, nearest
from trainers.learning_rule_config import LearningRuleConfig as LearningRuleConfig
from trainers.learning_rule_config import check_rule_fits
from trainers.model_config import Activation as Activation
from trainers.model_config import ModelConfig as ModelConfig
from trainers.pruning_config import PruningConfig as PruningConfig
from trainers.pruning_config import check_pruning
from trainers.sections import GIVE_A_NUMBER, NO_NUMBER
from trainers.sections import Count as Count
from trainers.sections import Fraction as Fraction
from trainers.sections import NonNegative as NonNegative
from trainers.sections import Positive as Positive
from trainers.sections import Section as Section

OptimizerKind = Literal["sgd", "momentum", "rmsprop", "adagrad", "adam", "adamw"]
ScheduleKind = Literal["constant", "linear", "exponential", "step", "cosine", "plateau", "wsd"]
InitKind = Literal[
    "auto", "torch", "zeros", "constant", "too_small", "too_large", "uniform", "xavier", "he",
    "fixup",
]  # fmt: skip


class DataConfig(Section):
    """Which data, and how it is split. All of it is part of a pack's signature."""

    name: str = "digits"
    """A built-in data set or one registered with `isoflop data add`."""
    val_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Share of all rows used for validation."""
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Share of all rows kept for the finalists; ignored where the source ships a test set."""
    split_seed: Annotated[int, Field(ge=0)] = 0
    """Which rows go where; the same seed gives the same split."""
    standardise: bool = True
    """Subtract the mean and divide by the standard deviation, both of the training rows only.
    Tokens of a text are never standardised."""
    num_train: Count | None = None
    """Train on the first `num_train` rows of the (shuffled) training split; None: all of them."""
    context: Count | None = None
    """Tokens in a window of a text (`stdlib-bytes`); None: 64. Other data has no windows."""

    @model_validator(mode="after")
    def _fractions_leave_rows_to_train_on(self) -> Self:
        if self.val_fraction + self.test_fraction >= 1:
            raise ValueError(
                "`data.val_fraction + data.test_fraction` must be < 1, but got "
                f"{self.val_fraction} + {self.test_fraction}; try 0.2 and 0.2"
            )
        return self


class OptimizerConfig(Section):
    """How gradients become updates."""

    kind: OptimizerKind = "adam"
    """sgd is plain; momentum is sgd with momentum."""
    lr: Positive = 1e-3
    """Peak learning rate; the schedule multiplies it."""
    form: Literal["torch", "lecture"] = "torch"
    """momentum: V = beta V + g (torch) or V = beta V + (1 - beta) g (lecture, p. 41).
    rmsprop: alpha 0.99 (torch) or 0.9 (lecture, p. 42) where `alpha` is not given."""
    momentum: Fraction = 0.9
    """beta of kind `momentum`."""
    alpha: Annotated[float, Field(gt=0, lt=1)] | None = None
    """RMSProp's decay of the squared gradient."""
    beta1: Fraction = 0.9
    """adam and adamw: decay of the mean gradient."""
    beta2: Fraction = 0.999
    """adam and adamw: decay of the mean squared gradient."""
    eps: Positive | None = None
    """Added to the denominator; None: torch's default (1e-8, AdaGrad 1e-10)."""
    weight_decay: NonNegative = 0.0
    """Torch's convention: added to the gradient as `weight_decay * w`; decoupled for adamw."""

    @property
    def rms_alpha(self) -> float:
        """RMSProp's decay, whichever form it was left to."""
        if self.alpha is not None:
            return self.alpha
        return 0.9 if self.form == "lecture" else 0.99

    @property
    def denominator_eps(self) -> float:
        """Epsilon of the denominator, torch's default where none was given."""
        if self.eps is not None:
            return self.eps
        return 1e-10 if self.kind == "adagrad" else 1e-8


class ScheduleConfig(Section):
    """The learning rate's factor over the trial's own horizon (`train.epochs`), in closed form.

    t is the fraction of all updates done, in [0, 1), after warm-up.
    """

    kind: ScheduleKind = "constant"
    """How the factor falls after warm-up; plateau drops it when the validation loss stalls; wsd
    (warm-up, stable, decay) keeps it at 1 and cools down at the end."""
    warmup_fraction: Fraction = 0.0
    """The factor rises linearly from near 0 to 1 over this fraction of all updates."""
    end_factor: Annotated[float, Field(ge=0, le=1)] = 0.0
    """linear, cosine and wsd end at lr * end_factor."""
    cooldown_fraction: Annotated[float, Field(gt=0, le=1)] = 0.2
    """wsd: the factor falls linearly over this last fraction of all updates."""
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.1
    """exponential: the factor at the end of training; step and plateau: factor of each drop."""
    num_steps: Count = 3
    """step: number of equal stretches, each gamma times the one before."""
    patience_epochs: Annotated[int, Field(ge=0)] = 5
    """plateau: epochs without a better validation loss before a drop."""
    threshold: NonNegative = 1e-4
    """plateau: relative improvement that counts as better."""

    @model_validator(mode="after")
    def _cooldown_follows_warmup(self) -> Self:
        if self.kind == "wsd" and self.warmup_fraction + self.cooldown_fraction > 1:
            raise ValueError(
                "`schedule.warmup_fraction` and `schedule.cooldown_fraction` share one run, so "
                f"their sum must be <= 1, but got {self.warmup_fraction:g} and "
                f"{self.cooldown_fraction:g}; lower one"
            )
        return self


class EarlyStoppingConfig(Section):
    """Stop a trial when its validation loss stops falling (lecture, p. 49)."""

    patience_epochs: Annotated[int, Field(ge=0)] = 0
    """Epochs without improvement before the trial stops; 0: never."""
    min_delta: NonNegative = 0.0
    """An epoch counts as better only if its loss is lower by more than this."""
    restore_best: bool = False
    """Report, and keep, the weights of the epoch with the lowest validation loss."""


class TrainConfig(Section):
    """The loop around the model."""

    batch_size: Count = 64
    """Rows per update."""
    epochs: Count = 20
    """The trial's horizon: its schedule ends here, whatever rungs or segments lie between."""
    rows_per_epoch: Count | None = None
    """Rows between two validations, which is what one of `epochs` then means; None: all training
    rows. Passes over the data follow each other as without it, each in an order of its own."""
    loss: Literal["auto", "cross_entropy", "half_mse"] = "auto"
    """auto: cross-entropy for classes, half_mse for numbers. half_mse = sum over outputs of
    (y - yhat)^2 / 2, mean over rows (lecture, p. 18); on classes it uses one-hot targets."""
    precision: Literal["float32", "float64", "bf16"] = "float32"
    """Of weights and arithmetic; bf16: arithmetic only, weights stay float32."""
    grad_clip_norm: Positive | None = None
    """Scale the gradient of one trial down to this global norm."""
    seed: Annotated[int, Field(ge=0)] | None = None
    """Fix the seed of a single trial; a search gives each trial its own."""
    convergence_change: Positive | None = None
    """Stop when the loss over all training rows, measured in evaluation after each epoch, changes
    by less than this from one epoch to the next (lecture, p. 19: 1e-6); None: go on."""
    statistics: bool = False
    """Record after each epoch the shares of dead and of saturated units, how the signal's spread
    changes from the first hidden layer to the last, and the last update's size against the
    weights'."""

    @model_validator(mode="after")
    def _epoch_holds_a_batch(self) -> Self:
        if self.rows_per_epoch is not None and self.rows_per_epoch < self.batch_size:
            raise ValueError(
                "`train.rows_per_epoch` must be >= `train.batch_size`, but got "
                f"{self.rows_per_epoch} and {self.batch_size}; raise it to {self.batch_size}"
            )
        return self


class InitConfig(Section):
    """Initial weights (lecture, p. 19, 55-58). Biases start at 0, except for `torch`/`uniform`."""

    kind: InitKind = "auto"
    """auto: Xavier for sigmoid, tanh and identity; He for ReLU and ELU. fixup: for residual models
    with `model.scalars`; He, made small inside branches and 0 where they and the net end."""
    scale: Positive = 1.0
    """Multiplies every initial weight."""
    constant: float = 0.1
    """The value for kind `constant`."""


class RegularisationConfig(Section):
    """Penalties on weights (never on biases or normalisation), and early stopping."""

    l1: NonNegative = 0.0
    """lambda of lambda * sum |w| (lecture, p. 44)."""
    l1_form: Literal["subgradient", "proximal"] = "subgradient"
    """proximal: soft-threshold by lr * l1 after each update, which gives exact zeros."""
    l2: NonNegative = 0.0
    """lambda of lambda * sum w^2; its gradient is 2 * lambda * w (lecture, p. 44)."""
    decoupled_decay: NonNegative = 0.0
    """w -= lr * decoupled_decay * w, beside any optimizer (adamw has its own weight_decay)."""
    label_smoothing: Fraction = 0.0
    """Share of each label that is spread evenly over all classes (cross-entropy only)."""
    early_stopping: EarlyStoppingConfig = EarlyStoppingConfig()


class TrialConfig(Section):
    """Everything that decides one trial's result, but its seed."""

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    train: TrainConfig = TrainConfig()
    init: InitConfig = InitConfig()
    regularisation: RegularisationConfig = RegularisationConfig()
    learning_rule: LearningRuleConfig = LearningRuleConfig()
    pruning: PruningConfig = PruningConfig()

    @model_validator(mode="after")
    def _pruning_leaves_epochs_to_train(self) -> Self:
        check_pruning(self.pruning, epochs=self.train.epochs, rule=self.learning_rule.kind)
        return self

    @model_validator(mode="after")
    def _rule_fits_the_model(self) -> Self:
        check_rule_fits(
            self.learning_rule,
            model_kind=self.model.kind if self.model.factory is None else "custom",
            depth=self.model.depth,
            width=self.model.width,
            dropout=self.model.dropout,
            batch_norm=self.model.batch_norm,
            precision=self.train.precision,
            optimizer_kind=self.optimizer.kind,
            optimizer_lr=self.optimizer.lr,
            schedule_kind=self.schedule.kind,
        )
        return self

    @model_validator(mode="after")
    def _fixup_has_branches_to_scale(self) -> Self:
        model = self.model
        is_residual = model.kind in ("resmlp", "rescnn") and model.skip
        if self.init.kind == "fixup" and not (is_residual and model.scalars):
            raise ValueError(
                "`init.kind: fixup` sets the ends of residual branches to 0, so it needs skip "
                "connections and Fixup's scalars, but got "
                f"`model.kind` {model.kind!r}, `model.skip` {model.skip}, `model.scalars` "
                f"{model.scalars}; use resmlp or rescnn with `model.scalars: true`, or "
                "`init.kind: he`"
            )
        return self

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> TrialConfig:
        """Build from nested sections or dotted paths.

        Raises:
            ConfigError: for an unknown key (with the nearest valid one) or a value off its rule.
        """
        try:
            return cls.model_validate(nested(mapping))
        except ValidationError as error:
            raise ConfigError(explain(error, cls)) from None

    def with_values(self, values: Mapping[str, Any]) -> TrialConfig:
        """Return a copy with the dotted paths in `values` replaced, validated as a whole."""
        return TrialConfig.from_mapping({**dict(flat(self.to_mapping())), **values})

    def to_mapping(self) -> dict[str, Any]:
        """Nested plain values: every section, but only keys that were set or differ."""
        return self.model_dump(mode="json", exclude_unset=True)

    def full_mapping(self) -> dict[str, Any]:
        """Nested plain values with every default written out."""
        return self.model_dump(mode="json")

    def value(self, path: str) -> Any:
        """Return the value at a dotted path; KeyError if there is none."""
        node: Any = self
        for part in path.split("."):
            if not isinstance(node, BaseModel) or part not in dict(node):
                raise KeyError(path)
            node = getattr(node, part)
        return node

    def fingerprint(self) -> str:
        """Sixteen hex digits that are equal exactly where all values are equal."""
        text = json.dumps(self.full_mapping(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def flat(mapping: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted path, value) for each leaf of nested mappings."""
    for key, value in mapping.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from flat(value, f"{path}.")
        else:
            yield path, value


def nested(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """Turn dotted keys, at any level, into nested dictionaries."""
    result: dict[str, Any] = {}
    for path, value in mapping.items():
        node = result
        *parents, leaf = str(path).split(".")
        for part in parents:
            node = node.setdefault(part, {})
            if not isinstance(node, dict):
                raise ConfigError(f"`{path}` is given both as a value and as a section; keep one")
        if isinstance(value, Mapping):
            value = nested(value)
            if isinstance(node.get(leaf), dict):
                value = {**node[leaf], **value}
        node[leaf] = value
    return result


def valid_paths(model: type[BaseModel] = TrialConfig, prefix: str = "") -> list[str]:
    """List every dotted path that a trial's configuration has."""
    paths: list[str] = []
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            paths += valid_paths(inner, f"{prefix}{name}.")
        else:
            paths.append(f"{prefix}{name}")
    return paths


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """Say in one sentence per fault which rule was broken, by what value, and the next step."""
    return "\n".join(_explain_one(dict(fault), model) for fault in error.errors())


def _explain_one(fault: dict[str, Any], model: type[BaseModel]) -> str:
    location = [str(part) for part in fault["loc"]]
    path = ".".join(location)
    if fault["type"] == "extra_forbidden":
        owner: Any = model
        for part in location[:-1]:
            field = getattr(owner, "model_fields", {}).get(part)
            owner = field.annotation if field is not None else owner
        valid = list(getattr(owner, "model_fields", {})) or valid_paths()
        return f"unknown key `{path}`{nearest(location[-1], valid)}"
    if fault["type"] == "value_error":
        return str(fault["ctx"]["error"])
    rule = fault["msg"][0].lower() + fault["msg"][1:]
    hint = GIVE_A_NUMBER if fault["type"] == NO_NUMBER else ""
    return f"`{path}`: {rule}, but got {fault.get('input')!r}{hint}"
