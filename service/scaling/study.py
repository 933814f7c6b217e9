"""`ScalingStudy`: points, the law fitted to them, and every question one may ask of it.

study = ScalingStudy.from_csv("runs.csv", params="n", tokens="d", loss="val_loss")
study.fit("chinchilla", bootstrap=400)
print(study.frontier([1e20, 1e22]))
study.write("runs/study")
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd

from service.energy.site import Site
from service.scaling.analysis import KNEE_SHARE, Analysis
from service.scaling.answers.energy_axis import EnergyAxis
from service.scaling.answers.frontier import frontier
from service.scaling.answers.off_optimal import off_optimal
from service.scaling.answers.result import Answer, budgets_array
from service.scaling.answers.returns import Knee, knee, marginal
from service.scaling.answers.tuned import tuned_laws
from service.scaling.fitted import StudyFit
from service.scaling.fitting import fit_study
from service.scaling.gathering import gather
from service.scaling.next_runs import next_runs
from service.scaling.points import Points
from trainers.errors import ConfigError, ScalingError

if TYPE_CHECKING:
    from service.ledger import Ledger
    from service.scaling.hyperparameters import HyperparameterLaw
    from service.scaling.plots import Plots
    from service.scaling.recorded import Recorded
    from service.scaling.report.outputs import StudyOutputs
    from service.scaling.study_spec import StudySpec
    from service.scaling.verification import Verification

DEFAULT_BOOTSTRAP = 200
ASKED_TIMES = (1.0, 3.0, 10.0)
"""Budgets asked for by default, in units of the largest of the data."""


class ScalingStudy:
    """A scaling study of one recipe, or of several of which one is looked at.

    Answers are of the recipe with the most points, or the one chosen with `of`. They use the latest
    `fit`, which is made with its defaults, and with intervals, where none was asked for.
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

    @classmethod
    def from_csv(
        cls,
        path: str | os.PathLike[str],
        *,
        loss: str,
        name: str | None = None,
        site: Site | None = None,
        confidence: float = 0.9,
        **columns: str | None,
    ) -> Self:
        """Study the rows of a CSV or Parquet file.

        Args:
            path: the file.
            loss: column of the loss.
            name: of the study; the file's by default.
            site: country, PUE and price; None: from the environment.
            confidence: of every interval.
            columns: `params`, `tokens`, `flops` (two of them), `run`, `by`, `where`, `kwh`, ...:
                see `Points.from_frame`.

        Raises:
            DataError: the file cannot be read, or a column or row breaks a rule.

        """
        points = Points.from_csv(path, loss=loss, **columns)
        return cls(points, name=name or Path(path).stem, site=site, confidence=confidence)

    @classmethod
    def from_frame(
        cls,
        frame: pd.DataFrame,
        *,
        loss: str,
        name: str = "study",
        site: Site | None = None,
        confidence: float = 0.9,
        **columns: str | None,
    ) -> Self:
        """Study the rows of a table; see `from_csv`.

        Raises:
            DataError: a column or row breaks a rule.

        """
        points = Points.from_frame(frame, loss=loss, **columns)
        return cls(points, name=name, site=site, confidence=confidence)

    @classmethod
    def run(cls, spec: StudySpec | Mapping[str, Any] | str | Path, **options: Any) -> ScalingStudy:
        """Run a study, write its report, and return it.

        Args:
            spec: a `StudySpec`, its mapping, or a YAML file.
            options: workers, address, ledger, out, seed, display; see `running.run_study`.

        Raises:
            ConfigError: the spec, the data or the site break a rule; nothing was started.

        """
        from service.scaling.running import DEFAULT_LEDGER, run_study

        study_id = run_study(spec, report=write_recorded, **options)
        return cls.open(study_id, ledger=options.get("ledger", DEFAULT_LEDGER))

    @classmethod
    def open(
        cls, study_id: str, *, ledger: str | Path | Ledger = "isoflop.db", site: Site | None = None
    ) -> ScalingStudy:
        """Return a study that a ledger holds, with the points trained so far.

        Raises:
            LedgerError: there is no such study.
            ScalingError: no point has been trained yet.

        """
        from service.ledger import Ledger
        from service.scaling.recorded import read_recorded

        if isinstance(ledger, Ledger):
            recorded = read_recorded(ledger, study_id)
        else:
            with Ledger.open(str(ledger)) as opened:
                recorded = read_recorded(opened, study_id)
        confidence = recorded.spec.fit.confidence
        return cls(
            recorded.points, name=study_id, site=site, confidence=confidence, recorded=recorded
        )

    @property
    def recipes(self) -> tuple[str, ...]:
        """The recipes of the data, in order of appearance."""
        return self.all_points.recipes

    @property
    def plot(self) -> Plots:
        """The pictures: `study.plot.frontier()`, `.isoflop()`, `.returns()`, ..."""
        from service.scaling.plots import Plots

        return Plots(self.analysis)

    def of(self, recipe: str) -> ScalingStudy:
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
    ) -> ScalingStudy:
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

    def verify(self, flops: float | None = None, **options: Any) -> list[Verification]:
        """Predict a larger budget, store the prediction, train it, and compare.

        Args:
            flops: the budget; None: the spec's `verify.flops`.
            options: workers, address, accept_changes, display.

        Returns:
            One comparison per recipe. `ScalingStudy.open` shows it from then on.

        Raises:
            ConfigError: the study was not run by isoflop, or the budget is not larger.
            ScalingError: there are too few budgets to calibrate an interval.

        """
        if self.recorded is None:
            raise ConfigError(
                "verifying trains a model, so it needs a study that isoflop ran, but this one was "
                "read from a table; run one with ScalingStudy.run(SPEC)"
            )
        from service.scaling.recorded import predictor
        from service.scaling.verification import run_verification

        return run_verification(
            self.recorded.study_id, predictor(self.recorded.spec), flops=flops,
            ledger=self.recorded.ledger_url, report=write_recorded, **options,
        )  # fmt: skip

    def analysis(self) -> Analysis:
        """Return everything at its default questions, as report and files show it; computed once.

        Raises:
            ScalingError: there are too few points.

        """
        if self._analysis is None:
            self._analysis = gather(self)
        return self._analysis

    def write(self, out_dir: str | Path) -> StudyOutputs:
        """Write `report.html`, `study.json`, Parquet tables and pictures into a folder.

        Raises:
            ConfigError: the folder cannot be written.

        """
        from service.scaling.report.outputs import write_study

        return write_study(self.analysis(), out_dir)

    def paper(self, out_dir: str | Path, *, width_cm: float = 8.5) -> list[Path]:
        """Write vector figures at column width, `table.tex` and a methods paragraph.

        Raises:
            ConfigError: the folder cannot be written.

        """
        from service.scaling.report.paper import write_paper

        return write_paper(self.analysis(), out_dir, width_cm=width_cm)

    def _budgets(self, budgets: float | Iterable[float] | None) -> np.ndarray:
        if budgets is None:
            return np.array(ASKED_TIMES) * self.fitted.largest_flops
        return budgets_array(budgets)


def write_recorded(ledger: Ledger, study_id: str, folder: Path) -> None:
    """Write the outputs of a ledger's study into a folder.

    A study that was cut short may hold too few points for a law: then a warning in the ledger says
    so, and no report is written.
    """
    try:
        ScalingStudy.open(study_id, ledger=ledger).write(folder)
    except ScalingError as error:
        ledger.add_event(study_id, "warning", {"text": f"no report yet: {error}"})
