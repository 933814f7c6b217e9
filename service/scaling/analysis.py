"""Everything a study found, gathered once: what page, paper, tables and terminal show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from service.report.numbers import energy, short
from service.scaling.answers.energy_axis import EnergyAxis
from service.scaling.answers.frontier import frontier, interval_text
from service.scaling.answers.off_optimal import off_optimal
from service.scaling.answers.result import Answer
from service.scaling.answers.returns import Knee, knee, marginal
from service.scaling.comparison import Comparison
from service.scaling.fitted import StudyFit
from service.scaling.hyperparameters import HyperparameterLaw
from service.scaling.isoflop import IsoflopFit
from service.scaling.points import Points

AHEAD = 10.0
"""Charts and the first sentence look so many times beyond the largest budget of the data."""
FARTHEST = 100.0
"""Charts reach on to the knee, but never further than this."""
KNEE_SHARE = 0.01
CURVE_POINTS = 60


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """A study's answers at its default questions."""

    name: str
    points: Points
    fit: StudyFit
    axis: EnergyAxis
    curve: Answer
    """The frontier from the smallest budget to ten times the largest, or to the knee."""
    frontier: Answer
    """At the largest budget, and at ten times it."""
    returns: tuple[Answer, ...]
    """Gains of doublings along `curve`, one answer per known unit, FLOP first."""
    knee: Knee
    off_optimal: Answer
    residuals: pd.DataFrame
    seed: int = 0
    """Of resamples and starts."""
    unique_tokens: str | None = None
    """The column of unique tokens that the law read."""
    isoflop: IsoflopFit | None = None
    second_opinions: tuple[Any, ...] = ()
    """Other fits of the same points; each has `to_mapping`."""
    multiverse: pd.DataFrame | None = None
    leverage: pd.DataFrame | None = None
    comparisons: tuple[Comparison, ...] = ()
    hyperparameters: tuple[HyperparameterLaw, ...] = ()
    tuning: str | None = None
    """What was tuned and which values were used; None where isoflop did not run the points."""
    next_runs: Answer | None = None
    verification: Mapping[str, Any] | None = None
    warnings: tuple[str, ...] = ()

    @property
    def axis_text(self) -> str:
        """What figures of energy and CO2 are based on."""
        text = self.axis.describe()
        return f"{text[:1].upper()}{text[1:]}"

    @property
    def sentence(self) -> str:
        """The study in one line: ten times the compute, its size, loss and cost; the knee."""
        now, later = self.frontier.frame.to_dict("records")
        metric = self.points.metric
        band = interval_text(later["loss_low"], later["loss_high"], self.fit.confidence)
        power = f", {energy(later['kwh'])}" if np.isfinite(later["kwh"]) else ""
        return (
            f"{AHEAD:.0f}x compute: N {short(later['params'] / now['params'], 2)}x, {metric} "
            f"{short(now['loss'])} -> {short(later['loss'])}{band}{power}; {self.knee.sentence}"
        )


def core_answers(fit: StudyFit, axis: EnergyAxis, threshold: float) -> dict[str, Any]:
    """Return the answers that follow from the law alone, as keywords of `Analysis`."""
    frame, largest = fit.points.frame, fit.largest_flops
    bend = knee(fit, threshold)
    top = largest * AHEAD
    if np.isfinite(bend.flops):
        top = largest * float(np.clip(2.0 * bend.flops / largest, AHEAD, FARTHEST))
    budgets = np.logspace(np.log10(float(frame["flops"].min())), np.log10(top), CURVE_POINTS)
    # The largest budget is on the grid, so that solid and dashed lines meet there.
    budgets = np.unique(np.append(budgets, largest))
    return {
        "points": fit.points,
        "fit": fit,
        "axis": axis,
        "curve": frontier(fit, budgets, axis),
        "frontier": frontier(fit, np.array([largest, AHEAD * largest]), axis),
        "returns": tuple(marginal(fit, budgets, axis, unit) for unit in axis.known_units()),
        "knee": bend,
        "off_optimal": off_optimal(fit, (0.25, 0.5, 2.0, 4.0), largest),
        "residuals": residuals(fit),
    }


def residuals(fit: StudyFit) -> pd.DataFrame:
    """Return each point with what the law predicts there and ln actual - ln predicted."""
    frame = fit.points.frame
    table = frame[["run", "source_line", "flops", "params", "tokens", "loss"]].copy()
    table["predicted"] = fit.joint.predict(table["params"], table["tokens"])
    table["log_residual"] = np.log(table["loss"]) - np.log(table["predicted"])
    return table
