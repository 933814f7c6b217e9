"""The parts of a search spec beside the trial's own sections: rounds, budget, resources, ..."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    model_validator,
)

from search_spaces import Space
from trainers.config import Count, Positive, Section

SamplerName = Literal["auto", "grid", "random", "sobol", "tpe", "gp", "cmaes", "nsga2"]
Share = Annotated[float, Field(gt=0, le=1)]


def _as_space(value: Any) -> Any:
    return value if isinstance(value, Space) else Space.from_mapping(value)


SpaceField = Annotated[
    Space, BeforeValidator(_as_space), PlainSerializer(lambda space: space.to_mapping())
]


def _true_is_defaults(value: Any) -> Any:
    """`refine: true` means `refine: {}`, and false means none."""
    if isinstance(value, bool):
        return {} if value else None
    return value


class SpecSection(Section):
    """A closed, frozen part of a spec."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


class HalvingSpec(SpecSection):
    """Successive halving: at epochs first_epoch * eta^k all but the best 1 / eta stop."""

    eta: Annotated[int, Field(ge=2)] = 3
    first_epoch: Count = 1


class RefineSpec(SpecSection):
    """How a round's space comes from the evidence of the round before."""

    keep_best: Share = 0.2
    """Share of the trials whose span the next space keeps (at least 8 trials)."""
    margin: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Part of that span which is added on either side."""
    widen: Annotated[float, Field(ge=0, le=2)] = 0.5
    """Part of the interval by which it grows on the side where the best lie at its edge."""
    p_value: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """A choice goes if it loses to the best one in a one-sided Mann-Whitney test below this."""


class RoundSpec(SpecSection):
    """One space, one sampler, one budget. `plan()` fills in what a spec left open."""

    sampler: SamplerName = "auto"
    trials: Count | None = None
    """None: every point, for a grid; else an equal share of the budget's trials."""
    epochs: Count | None = None
    """Horizon of the round's trials; None: `train.epochs`."""
    seeds: Count = 1
    """Every configuration is trained with so many seeds and compared by the mean."""
    halving: Annotated[HalvingSpec | None, BeforeValidator(_true_is_defaults)] = None
    refine: Annotated[RefineSpec | None, BeforeValidator(_true_is_defaults)] = None
    space: SpaceField | None = None
    """A space of the round's own, instead of the spec's or the refined one."""
    sampler_reason: str = Field(default="", exclude=True)
    reason: str = Field(default="", exclude=True)
    """Why the plan has this round; set by `plan()`, not part of a spec file."""

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        if self.refine is not None and self.space is not None:
            raise ValueError(
                "a round takes its space from `refine` or from `space`, but has both; keep one"
            )
        if (
            self.halving is not None
            and self.epochs is not None
            and self.halving.first_epoch >= self.epochs
        ):
            raise ValueError(
                f"`halving.first_epoch` must be < `epochs`, but got {self.halving.first_epoch} "
                f"and {self.epochs}; halve earlier or train longer"
            )
        return self


class FinalistsSpec(SpecSection):
    """The best configurations, trained again with several seeds, and tested once."""

    trials: Annotated[int, Field(ge=0)] = 3
    """How many configurations; 0: none, and the test set stays untouched."""
    seeds: Count = 3


class BudgetSpec(SpecSection):
    """What a search may use at most. Checked before new work starts."""

    trials: Count | None = None
    """Trials of the rounds; the baseline, the recipe's checks and finalists are not counted."""
    minutes: Positive | None = None
    hours: Positive | None = None
    kwh: Positive | None = None
    kgco2e: Positive | None = None
    """Needs the site's country (ISOFLOP_COUNTRY)."""
    min_gain_per_kwh: Positive | None = None
    """Stop when a round's gain in the first objective per kWh falls below this."""
    target: Annotated[float, Field(allow_inf_nan=False)] | None = None
    """Stop as soon as the first objective is at least this good."""

    @property
    def seconds(self) -> float | None:
        """The limit on wall time in seconds, the nearer one where both are given."""
        limits = [
            amount * unit
            for amount, unit in ((self.minutes, 60.0), (self.hours, 3600.0))
            if amount is not None
        ]
        return min(limits, default=None)


def _one_gpu_at_most(value: float) -> float:
    if value > 1:
        raise ValueError(
            f"a trial runs on at most one GPU, so `gpus_per_worker` must be <= 1, but got {value:g}"
            "; a model larger than one GPU cannot be searched here: use 1 and a smaller model"
        )
    return value


class ResourcesSpec(SpecSection):
    """What one worker gets, and how many there may be."""

    gpus_per_worker: Annotated[float, Field(ge=0), AfterValidator(_one_gpu_at_most)] = 0.0
    """A trial runs on at most one GPU; several workers may share one (0.5)."""
    cpus_per_worker: Positive = 1.0
    max_workers: Count | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    save_every_epochs: Count | None = None
    """Save inside long training every so many epochs, so that a dead worker costs no more; every
    5 minutes it is saved anyway."""


class RecipeSpec(SpecSection):
    """The seven-step recipe around the rounds (lecture, p. 61-62)."""

    checks: bool = True
    """Steps 1-3 before the first round: the initial loss, overfitting a small sample, and the
    learning-rate sweep whose range bounds the first round's interval."""
    continue_on_failure: bool = False
    """Search on although step 1 or 2 failed."""
    stop_gain: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.01
    """Step 7: no further round once a round's relative gain is below this."""
    max_rounds: Count | None = None
    """Most rounds in all; None: those listed, or 6 where the plan is derived."""


class StartFromSpec(SpecSection):
    """What is known before the search."""

    baseline: Mapping[str, Any] | None = None
    """Today's configuration (a file name is read at once): trial 0, at full length."""
    configs: tuple[Mapping[str, Any], ...] = ()
    """Points of the space to be tried first."""
    trials: str | None = None
    """Trials from elsewhere: our export, a CSV, a W&B CSV, or an Optuna storage URL."""
