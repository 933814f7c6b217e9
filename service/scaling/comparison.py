"""One recipe against another: how many times less compute reaches the same loss.

At a loss l the speed-up of the second recipe is C_1(l) / C_2(l), budgets on the frontiers of both
laws. It is taken only where both recipes have data: a ratio beyond it would compare two guesses
about floors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from service.report.numbers import short
from service.scaling.answers.optima import drawn_optima, frontier_loss
from service.scaling.fits import fit_joint
from service.scaling.joint_fit import JointFit
from service.scaling.points import Points
from trainers.errors import ScalingError

FloatArray = NDArray[np.float64]

NUM_LOSSES = 9
GRID_POINTS = 400
GRID_DECADES = 3.0
"""Budgets of a loss are looked for so many decades beyond the common range."""
Verdict = Literal["faster", "slower", "no difference", "flips"]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The second recipe against the first, over the compute that both have data for."""

    first: str
    second: str
    speedup: float
    """Compute of the first over that of the second at equal loss, geometric mean over the range:
    1.2 means that the second needs a sixth less."""
    low: float
    high: float
    """The interval of `speedup` over resampled runs of both."""
    confidence: float
    verdict: Verdict
    """`flips`: one recipe is sure to be faster at small budgets, the other at large ones."""
    flip_flops: float
    """Where the ranking flips; NaN where it does not."""
    min_flops: float
    """The common range."""
    max_flops: float
    frame: pd.DataFrame
    """Columns `loss`, `flops_first`, `flops_second`, `speedup`, `low`, `high`; one row per loss."""

    @property
    def sentence(self) -> str:
        """The comparison in one line."""
        ends = self.frame.iloc[[0, -1]]["speedup"]
        band = f"({100 * self.confidence:.0f} %: {short(self.low)}-{short(self.high)})"
        span = f"over {self.min_flops:.2g}-{self.max_flops:.2g} FLOP"
        if self.verdict == "flips":
            better, worse = self.first, self.second
            if ends.iloc[0] < 1.0:
                better, worse = worse, better
            return (
                f"the ranking flips near {self.flip_flops:.2g} FLOP: `{worse}` needs less compute "
                f"below, `{better}` above"
            )
        if self.verdict == "no difference":
            return (
                f"no difference between `{self.first}` and `{self.second}` {span}: speed-up "
                f"{short(self.speedup)} {band}"
            )
        return (
            f"`{self.second}` reaches the loss of `{self.first}` with {short(self.speedup)} times "
            f"less compute {band} {span}"
            if self.verdict == "faster"
            else f"`{self.second}` needs {short(1.0 / self.speedup)} times the compute of "
            f"`{self.first}` for the same loss (speed-up {short(self.speedup)} {band}) {span}"
        )

    def to_mapping(self) -> dict[str, Any]:
        """Return what a machine-readable report holds."""
        return {
            "first": self.first,
            "second": self.second,
            "speedup": self.speedup,
            "low": self.low,
            "high": self.high,
            "confidence": self.confidence,
            "verdict": self.verdict,
            "flip_flops": self.flip_flops if np.isfinite(self.flip_flops) else None,
            "min_flops": self.min_flops,
            "max_flops": self.max_flops,
            "losses": self.frame.to_dict("records"),
            "sentence": self.sentence,
        }


def compare_recipes(
    points: Points,
    first: str,
    second: str,
    *,
    law: str = "chinchilla",
    bootstrap: int = 400,
    confidence: float = 0.9,
    seed: int = 0,
) -> Comparison:
    """Fit a law to each of two recipes and compare them at equal loss.

    Args:
        points: of both recipes, with losses of one metric on one validation set.
        first: the recipe that is the measure.
        second: the recipe whose speed-up is asked for.
        law: the joint law of both.
        bootstrap: resamples of the runs of each.
        confidence: of intervals.
        seed: of the resamples.

    Raises:
        DataError: if there is no such recipe; the nearest is named.
        ScalingError: if a law cannot be fitted, the recipes are one, or their budgets or losses do
            not overlap.

    """
    if first == second:
        raise ScalingError(f"a comparison needs two recipes, but got `{first}` twice")
    one, other = points.only(first), points.only(second)
    # Resamples of the two must not be the same draws, or their noise would cancel.
    fits = [
        fit_joint(part, law, bootstrap=bootstrap, seed=seed + offset)
        for offset, part in enumerate((one, other))
    ]
    return compare_fits((first, fits[0], one), (second, fits[1], other), confidence=confidence)


def compare_fits(
    first: tuple[str, JointFit, Points],
    second: tuple[str, JointFit, Points],
    *,
    confidence: float = 0.9,
) -> Comparison:
    """Compare two fitted laws at equal loss.

    Args:
        first: name, fit with a bootstrap, and points of the recipe that is the measure.
        second: the same of the recipe whose speed-up is asked for.
        confidence: of intervals.

    Raises:
        ScalingError: if a fit has no bootstrap, or budgets or losses of the two do not overlap.

    """
    low, high = _common_budgets(first, second)
    grid = np.geomspace(low / 10**GRID_DECADES, high * 10**GRID_DECADES, GRID_POINTS)
    at_ends = [
        frontier_loss(fit, np.array([low, high]), points.flops_per_param_token)
        for _, fit, points in (first, second)
    ]
    losses = _common_losses(first[0], second[0], at_ends)
    flops = [
        _budgets(grid, _frontier(fit, points, grid)[None], losses)[0]
        for _, fit, points in (first, second)
    ]
    drawn = [
        _budgets(grid, _drawn_frontiers(name, fit, points, grid), losses)
        for name, fit, points in (first, second)
    ]
    num_draws = min(len(draws) for draws in drawn)
    log_draws = np.log(drawn[0][:num_draws]) - np.log(drawn[1][:num_draws])
    log_speedup = np.log(flops[0]) - np.log(flops[1])
    tails = [50.0 * (1.0 - confidence), 50.0 * (1.0 + confidence)]
    lows, highs = np.exp(np.percentile(log_draws, tails, axis=0))
    mean_low, mean_high = np.exp(np.percentile(log_draws.mean(axis=1), tails))
    frame = pd.DataFrame(
        {
            "loss": losses,
            "flops_first": flops[0],
            "flops_second": flops[1],
            "speedup": np.exp(log_speedup),
            "low": lows,
            "high": highs,
        }
    )
    verdict = _verdict(frame, float(mean_low), float(mean_high))
    return Comparison(
        first=first[0],
        second=second[0],
        speedup=float(np.exp(log_speedup.mean())),
        low=float(mean_low),
        high=float(mean_high),
        confidence=confidence,
        verdict=verdict,
        flip_flops=_flip(frame) if verdict == "flips" else float("nan"),
        min_flops=low,
        max_flops=high,
        frame=frame,
    )


def _common_budgets(
    first: tuple[str, JointFit, Points], second: tuple[str, JointFit, Points]
) -> tuple[float, float]:
    spans = [
        (float(points.frame["flops"].min()), float(points.frame["flops"].max()))
        for _, _, points in (first, second)
    ]
    low, high = max(span[0] for span in spans), min(span[1] for span in spans)
    if low >= high:
        told = ", ".join(
            f"`{name}` {span[0]:.2g}-{span[1]:.2g}"
            for (name, _, _), span in zip((first, second), spans, strict=True)
        )
        raise ScalingError(
            f"recipes are compared where both have budgets, but they do not overlap ({told} FLOP); "
            "add budgets in common"
        )
    return low, high


def _common_losses(first: str, second: str, at_ends: list[FloatArray]) -> FloatArray:
    """Return losses that both frontiers reach within the common budgets, highest first."""
    highest, lowest = (
        min(float(ends[0]) for ends in at_ends),
        max(float(ends[1]) for ends in at_ends),
    )
    if lowest >= highest:
        better, worse = (first, second) if at_ends[0][0] < at_ends[1][0] else (second, first)
        raise ScalingError(
            f"no loss is reached by both recipes within their common budgets: `{better}` is ahead "
            f"at the smallest of where `{worse}` gets at the largest; add smaller budgets of "
            f"`{better}` or larger ones of `{worse}`"
        )
    return np.linspace(highest, lowest, NUM_LOSSES)


def _frontier(fit: JointFit, points: Points, grid: FloatArray) -> FloatArray:
    return frontier_loss(fit, grid, points.flops_per_param_token)


def _drawn_frontiers(name: str, fit: JointFit, points: Points, grid: FloatArray) -> FloatArray:
    """Return the frontier of each resample, shape (R, G)."""
    draws = drawn_optima(fit, grid, points.flops_per_param_token)
    if draws is None:
        raise ScalingError(
            f"a comparison needs resamples of the runs of `{name}`; fit with bootstrap=400"
        )
    return draws.loss


def _budgets(grid: FloatArray, frontiers: FloatArray, losses: FloatArray) -> FloatArray:
    """Return the budget at which each frontier (R, G) reaches each loss: shape (R, losses).

    What lies beyond the grid is its end: a thousand times more or less than any budget measured.
    """
    log_grid = np.log(grid)
    # np.interp wants rising abscissae; losses fall along the grid.
    rows = [np.interp(-losses, -frontier, log_grid) for frontier in frontiers]
    return np.exp(np.array(rows))


def _verdict(frame: pd.DataFrame, low: float, high: float) -> Verdict:
    ends = frame.iloc[[0, -1]]
    sure_faster, sure_slower = (ends["low"] > 1.0).to_list(), (ends["high"] < 1.0).to_list()
    if any(sure_faster) and any(sure_slower):
        return "flips"
    if low > 1.0:
        return "faster"
    return "slower" if high < 1.0 else "no difference"


def _flip(frame: pd.DataFrame) -> float:
    """Return the budget at which the speed-up passes 1, where it does first."""
    log = np.log(frame["speedup"].to_numpy(float))
    at = int(np.flatnonzero(np.diff(np.sign(log)))[0])
    share = log[at] / (log[at] - log[at + 1])
    # Where the speed-up is 1 the budgets of both are the same.
    log_flops = np.log(frame["flops_first"].to_numpy(float))
    return float(np.exp(log_flops[at] + share * (log_flops[at + 1] - log_flops[at])))
