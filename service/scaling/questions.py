"""What one may ask of points and the law fitted to them: the questions of `ScalingStudy`."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Self

import numpy as np

from service.energy.site import Site
from service.scaling.analysis import KNEE_SHARE, Analysis
from service.scaling.answers.energy_axis import EnergyAxis
from service.scaling.answers.frontier import frontier
from service.scaling.answers.off_optimal import off_optimal
from service.scaling.answers.result import Answer, budgets_array
from service.scaling.answers.returns import Knee, knee, marginal
from service.scaling.answers.tuned import tuned_laws
from service.scaling.comparison import Comparison, compare_recipes
from service.scaling.fitted import StudyFit
from service.scaling.fitting import fit_study
from service.scaling.hyperparameters import HyperparameterLaw
from service.scaling.next_runs import next_runs
from service.scaling.points import Points
from trainers.errors import ConfigError

if TYPE_CHECKING:
    from service.scaling.recorded import Recorded

DEFAULT_BOOTSTRAP = 200
ASKED_TIMES = (1.0, 3.0, 10.0)
"""Budgets asked for by default, in units of the largest of the data."""


class Questions:
    """Points of one or several recipes, the latest fit of one of them, and what it answers.

    Args:
        points: of all recipes.
        name: of the study.
        site: country, PUE and price; None: from the environment.
        confidence: of every interval.
        recorded: what a ledger holds of it, where isoflop ran it.

    Raises:
        ConfigError: the confidence is below 0.5, or not below 1.
        SiteError: the environment's country or PUE is misspelt.

    """

    def __init__(
        self,
        points: Points,
        *,
        name: str = "study",
        site: Site | None = None,
        confidence: float = 0.9,
        recorded: Recorded | None = None,
    ) -> None:
        if not 0.5 <= confidence < 1.0:
            raise ConfigError(
                f"confidence must be at least 0.5 and below 1, but got {confidence!r}; e.g. 0.9"
            )
        counts = points.frame["by"].value_counts(sort=True)
        self.all_points = points
        self.recipe = str(counts.index[0])
        self.points = points.only(self.recipe) if len(points.recipes) > 1 else points
        self.name = name
        self.confidence = confidence
        self.recorded = recorded
        self.axis = EnergyAxis.from_points(self.points, site or Site.from_environment())
        self.seed = 0
        self.unique_tokens: str | None = None
        self.knee_share = KNEE_SHARE
        self._fit: StudyFit | None = None
        self._analysis: Analysis | None = None

    @property
    def recipes(self) -> tuple[str, ...]:
        """The recipes of the data, in order of appearance."""
        return self.all_points.recipes

    def of(self, recipe: str) -> Self:
        """Return the study with its answers about another recipe.

        Raises:
            DataError: there is no such recipe.

        """
        other = copy.copy(self)
        other.recipe, other.points = recipe, self.all_points.only(recipe)
        other.axis = EnergyAxis.from_points(other.points, self.axis.site)
        other._fit = other._analysis = None
        return other

    def with_energy(
        self,
        *,
        kwh_per_flop: float | None = None,
        country: str | None = None,
        pue: float | None = None,
        price_per_kwh: float | None = None,
    ) -> Self:
        """Return the study with another efficiency or site; fits are kept.

        Args:
            kwh_per_flop: energy of the hosts per FLOP; None: as the points have it.
            country: three-letter ISO code; None: as before.
            pue: energy of the facility per energy of its hosts; None: as before.
            price_per_kwh: in the site's currency; None: as before.

        Raises:
            ConfigError: `kwh_per_flop` is no positive number.
            SiteError: the country has no carbon intensity, or a number is out of range.

        """
        asked = {"ISOFLOP_COUNTRY": country, "ISOFLOP_PUE": pue,
                 "ISOFLOP_PRICE_PER_KWH": price_per_kwh}  # fmt: skip
        given = {key: str(value) for key, value in asked.items() if value is not None}
        found, site = Site.from_environment(given), self.axis.site
        if country is not None:
            site = replace(site, **{name: getattr(found, name) for name in (
                "country", "country_name", "intensity_g_per_kwh", "intensity_year",
                "intensity_source")})  # fmt: skip
        if pue is not None:
            site = replace(site, pue=found.pue, pue_source="given")
        if price_per_kwh is not None:
            site = replace(site, price_per_kwh=found.price_per_kwh)
        axis = replace(self.axis, site=site)
        if kwh_per_flop is not None:
            axis = EnergyAxis(kwh_per_flop=kwh_per_flop, source="given", site=site)
        other = copy.copy(self)
        other.axis, other._analysis = axis, None
        return other

    def fit(
        self,
        law: str = "chinchilla",
        *,
        bootstrap: int = DEFAULT_BOOTSTRAP,
        method: str = "log_huber_lbfgsb",
        unique_tokens: str | None = None,
        seed: int = 0,
    ) -> StudyFit:
        """Fit a joint law; later answers use it.

        Args:
            law: chinchilla, kaplan or repeated_data.
            bootstrap: resamples of the runs for the parameters' intervals; 0: none.
            method: log_huber_lbfgsb, or variable_projection as a second opinion.
            unique_tokens: the column of unique tokens, for `repeated_data`.
            seed: of the resamples.

        Raises:
            ScalingError: the law or method is unknown, or there are too few points.

        """
        self._fit = fit_study(
            self.points, law, method=method, bootstrap=bootstrap, unique_tokens=unique_tokens,
            confidence=self.confidence, seed=seed,
        )  # fmt: skip
        self.seed, self.unique_tokens, self._analysis = seed, unique_tokens, None
        return self._fit

    @property
    def fitted(self) -> StudyFit:
        """The latest fit; made with the defaults where there is none yet."""
        if self._fit is not None:
            return self._fit
        if self.recorded is None:
            return self.fit()
        from service.scaling.recorded import joint_law

        return self.fit(joint_law(self.recorded.spec))

    def frontier(self, budgets: float | Iterable[float] | None = None) -> Answer:
        """Return the best size, data and loss at budgets in FLOP, with intervals.

        By default at 1, 3 and 10 times the largest budget of the data. See `answers.frontier`.

        Raises:
            ConfigError: a budget is no positive, finite number.

        """
        return frontier(self.fitted, self._budgets(budgets), self.axis)

    def marginal(
        self, per: str = "flops", budgets: float | Iterable[float] | None = None
    ) -> Answer:
        """Return what the next doubling gains, per FLOP, kWh, kgCO2e or currency unit.

        Raises:
            ConfigError: there is no such unit, the energy of a FLOP is unknown, or a bad budget.
            SiteError: the country or the price is unknown.

        """
        return marginal(self.fitted, self._budgets(budgets), self.axis, per)

    def knee(self, threshold: float = KNEE_SHARE, *, relative: bool = True) -> Knee:
        """Return the budget beyond which the next doubling gains less than `threshold`.

        Args:
            threshold: a share of the loss (0.01: 1 %), or with `relative=False` a difference.
            relative: which of the two.

        Raises:
            ConfigError: the threshold is out of range.

        """
        return knee(self.fitted, threshold, relative=relative)

    def off_optimal(self, k: float | Iterable[float], *, flops: float | None = None) -> Answer:
        """Return what it costs to train a model `k` times the best size at the same budget.

        Args:
            k: 2 for twice the best size, 0.5 for half.
            flops: the budget; the largest of the data by default.

        Raises:
            ConfigError: `k` or the budget is no positive, finite number.

        """
        fit = self.fitted
        return off_optimal(fit, k, fit.largest_flops if flops is None else flops)

    def next_runs(
        self, *, target_flops: float | None = None, spend_flops: float | None = None
    ) -> Answer:
        """Return which runs would shrink the interval at a target budget most.

        Args:
            target_flops: the budget to predict; ten times the largest of the data by default.
            spend_flops: compute to spend; the largest budget of the data by default.

        Raises:
            ConfigError: a budget is no positive, finite number.

        """
        fit = self.fitted
        return next_runs(
            fit.joint, fit.points, conformal=fit.conformal, confidence=fit.confidence,
            target_flops=target_flops, spend_flops=spend_flops,
        )  # fmt: skip

    def hyperparameters(self, *paths: str) -> tuple[HyperparameterLaw, ...]:
        """Return the laws of the best learning rate and other tuned values over size and budget.

        Args:
            paths: e.g. `optimizer.lr`; none: everything numeric that was tuned.

        Raises:
            ScalingError: nothing was tuned, or the optima inside what was tried are too few.

        """
        return tuned_laws(self, paths)

    def compare(self, first: str, second: str, *, bootstrap: int = DEFAULT_BOOTSTRAP) -> Comparison:
        """Return how many times less compute `second` needs than `first` for the same loss.

        Raises:
            DataError: there is no such recipe; the nearest is named.
            ScalingError: a law cannot be fitted, or budgets or losses do not overlap.

        """
        return compare_recipes(
            self.all_points, first, second, law=self.fitted.law, bootstrap=bootstrap,
            confidence=self.confidence, seed=self.seed,
        )  # fmt: skip

    def _budgets(self, budgets: float | Iterable[float] | None) -> np.ndarray:
        if budgets is None:
            return np.array(ASKED_TIMES) * self.fitted.largest_flops
        return budgets_array(budgets)
