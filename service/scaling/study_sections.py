"""The parts of a study's spec beside one trial's own sections."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from search_spaces import Space, log_uniform
from search_spaces.distributions import Interval
from service.search.spec_sections import SpaceField, SpecSection
from trainers.config import Count, Positive
from trainers.errors import nearest

LAWS = (
    "chinchilla", "kaplan", "repeated_data", "isoflop", "envelope", "power", "power_constant",
    "shifted_power", "saturating", "broken_power", "last_value",
)  # fmt: skip
"""Laws that a study may name; `service.scaling` fits them."""

DEFAULT_LR = {"optimizer.lr": log_uniform(1e-4, 3e-2, limits=(1e-6, 1.0))}


class TuneSpec(SpecSection):
    """What is tuned at each size before its points are trained, and with how many trials.

    Most trials cover the interval; the others lie next to the best of them. Where the best lies
    at the end of its interval, two trials are added beyond it, twice at most (`limits` hold).
    """

    per: Literal["size", "point"] = "size"
    """size: at some budgets of each size; other budgets use the values of the nearest tuned one.
    point: at every size and budget."""
    trials: Annotated[int, Field(ge=2, le=10_000)] = 8
    """Trials of each size and tuned budget."""
    budgets: Count = 1
    """per size: so many of its budgets are tuned, the smallest first, evenly spread."""
    sampler: Literal["sobol", "random"] = "sobol"
    """A size's few trials are too few for a sampler that learns; the refined interval does that."""
    use: Literal["best", "smooth"] | None = None
    """Which values points get. best: of the best trial at the size's nearest tuned budget. smooth:
    of the law of the best value over size, and over budget where several are tuned, fitted to the
    minima of all sizes; where there are too few for a law, a size's own minimum. Single trials
    are noisy, and the law averages over all of them. None: smooth where a single positive number
    is tuned on a logarithmic scale, best elsewhere."""
    space: SpaceField = Space(DEFAULT_LR)

    @property
    def smooth_path(self) -> str | None:
        """The path whose values are smoothed; None where the best trial's are used."""
        return None if self.use == "best" else self._one_number()

    @property
    def sentence(self) -> str:
        """What was tuned and which values were used, in words."""
        where = "every budget" if self.per == "point" else (
            "one budget" if self.budgets == 1 else f"{self.budgets} budgets"
        )  # fmt: skip
        used = (
            "points use the law of the minima over all sizes (`tune.use: smooth`)"
            if self.smooth_path is not None
            else "points use the values of the best trial (`tune.use: best`)"
        )
        return (
            f"{', '.join(self.space)} tuned at {where} of each size, {self.trials} trials each; "
            f"{used}"
        )

    def _one_number(self) -> str | None:
        """Return the only path of the space, if it is a real number on a logarithmic scale."""
        [(path, dimension), *others] = self.space.items()
        if others or not isinstance(dimension, Interval) or dimension.kind != "log_uniform":
            return None
        return path if dimension.step is None else None

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        if not self.space:
            raise ValueError("`tune.space` needs a path to tune, but is empty; try optimizer.lr")
        if self.per == "point" and "budgets" in self.model_fields_set:
            raise ValueError(
                "`tune.budgets` counts the tuned budgets of a size, but `tune.per: point` tunes "
                "all of them; leave it out, or use `per: size`"
            )
        if self.use == "smooth" and self._one_number() is None:
            raise ValueError(
                "`tune.use: smooth` needs a single path with `log_uniform` and no `step`, because "
                f"its law is of the logarithm of one number, but got {list(self.space)}; "
                "use best, or tune one number"
            )
        return self


class SeedsSpec(SpecSection):
    """How many seeds each point has."""

    default: Count = 1
    near_minimum: Count | None = None
    """Seeds of the best size of each budget and of its neighbours, where minima are read off;
    None: as many as elsewhere."""

    @model_validator(mode="after")
    def _more_near_the_minimum(self) -> Self:
        if self.near_minimum is not None and self.near_minimum < self.default:
            raise ValueError(
                "`seeds.near_minimum` must be >= `seeds.default`, but got "
                f"{self.near_minimum} and {self.default}; raise it"
            )
        return self


def _known_laws(laws: tuple[str, ...]) -> tuple[str, ...]:
    for law in laws:
        if law not in LAWS:
            raise ValueError(f"`fit.laws`: unknown law {law!r}{nearest(law, LAWS)}")
    if not laws:
        raise ValueError("`fit.laws` needs a law, but is empty; try [chinchilla, isoflop]")
    return laws


class FitSpec(SpecSection):
    """What is fitted to the points."""

    laws: Annotated[tuple[str, ...], AfterValidator(_known_laws)] = (
        "chinchilla", "isoflop", "power_constant", "last_value",
    )  # fmt: skip
    count_params: Literal["non_embedding", "all"] = "non_embedding"
    """Which N the laws are over: Kaplan et al. (2020) leave embeddings out."""
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.9
    """Of every interval."""
    bootstrap: Annotated[int, Field(ge=0, le=100_000)] = 400
    """Resamples of runs."""


class VerifySpec(SpecSection):
    """A larger budget that is predicted first and then trained."""

    flops: Positive


class LimitsSpec(SpecSection):
    """Which sizes are trained at which budgets; what falls outside is left out, and listed."""

    min_updates: Count = 100
    """Fewest updates of a point: a large model at a small budget would hardly have begun."""
    max_passes: Positive = 4.0
    """Most passes over the training rows: beyond about four, repeated data is worth less than
    fresh data (Muennighoff et al. 2023)."""


class StudyBudgetSpec(SpecSection):
    """What a study may use at most. Checked before new work starts."""

    minutes: Positive | None = None
    hours: Positive | None = None
    kwh: Positive | None = None
    kgco2e: Positive | None = None
    """Needs the site's country (ISOFLOP_COUNTRY)."""
