"""`ScalingStudy`: points, the law fitted to them, and every question one may ask of it.

study = ScalingStudy.from_csv("runs.csv", params="n", tokens="d", loss="val_loss")
study.fit("chinchilla", bootstrap=400)
print(study.frontier([1e20, 1e22]))
study.write("runs/study")
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pandas as pd

from service.energy.site import Site
from service.scaling.analysis import Analysis
from service.scaling.gathering import gather
from service.scaling.points import Points
from service.scaling.questions import Questions
from trainers.errors import ConfigError, ScalingError

if TYPE_CHECKING:
    from service.ledger import Ledger
    from service.scaling.plots import Plots
    from service.scaling.report.outputs import StudyOutputs
    from service.scaling.study_spec import StudySpec
    from service.scaling.verification import Verification


class ScalingStudy(Questions):
    """A scaling study of one recipe, or of several of which one is looked at.

    Answers are of the recipe with the most points, or the one chosen with `of`. They use the latest
    `fit`, which is made with its defaults, and with intervals, where none was asked for.
    """

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
            with Ledger.open(str(ledger), create=False) as opened:
                recorded = read_recorded(opened, study_id)
        confidence = recorded.spec.fit.confidence
        return cls(
            recorded.points, name=study_id, site=site, confidence=confidence, recorded=recorded
        )

    @property
    def plot(self) -> Plots:
        """The pictures: `study.plot.frontier()`, `.isoflop()`, `.returns()`, ..."""
        from service.scaling.plots import Plots

        return Plots(self.analysis)

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


def write_recorded(ledger: Ledger, study_id: str, folder: Path) -> None:
    """Write the outputs of a ledger's study into a folder.

    A study that was cut short may hold too few points for a law: then a warning in the ledger says
    so, and no report is written.
    """
    try:
        ScalingStudy.open(study_id, ledger=ledger).write(folder)
    except ScalingError as error:
        ledger.add_event(study_id, "warning", {"text": f"no report yet: {error}"})
