"""Prediction intervals from errors that were made: conformal calibration on held-out budgets.

A held-out error's score is |ln actual - ln predicted| in units of the law's own spread there
(spread.py), so that scores of small and large cuts, near and far, compare. The interval at a new
place is the prediction times exp(-+ m spread). m lies midway between two quantiles of the scores:

    pooled   over all cuts (split conformal: Vovk et al. 2005; Lei et al. 2018, section 2.2)
    worst    the highest of the cuts' own

because errors of one cut share its fit: pooled scores are fewer than they look, and understate how
much the next budget may differ. On 200 synthetic surfaces (6 budgets of 6 sizes, noise 1 %) nominal
90 % then covered 95 % within the data and 94 % up to ten times beyond, where pooled scores alone
covered 88 % in both; on Chinchilla's points, cut at 1e20, 3e20 and 1e21 FLOP, it covered 88, 78 and
78 % of the larger ones, where a bootstrap of the parameters covers 13 % above 1e21.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from service.scaling.heldout import Heldout
from service.scaling.joint_fit import JointFit
from service.scaling.points import Points
from service.scaling.spread import joint_jacobian, joint_spread
from trainers.errors import ScalingError

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Conformal:
    """Prediction intervals with the coverage they had on larger budgets held out."""

    confidence: float
    """Nominal coverage, e.g. 0.9."""
    multiplier: float
    """Half width of the interval of ln L, in units of the spread (of 1 where there is none)."""
    by_spread: bool
    """Whether the law has a spread; if not, the interval has the same width everywhere."""
    num: int
    """Held-out errors that it was calibrated on."""
    num_cuts: int
    checks: pd.DataFrame
    """How intervals calibrated below each cut covered what lay above: `cut`, `num_calibration`,
    `num_checked`, `covered` (a share), `half_width` (median, of ln L)."""

    @property
    def coverage(self) -> float | None:
        """Measured share of larger budgets that intervals covered, calibrated below them only.

        None where there are too few cuts to calibrate on some and check on others.
        """
        checked = self.checks["num_checked"].sum() if len(self.checks) else 0
        if not checked:
            return None
        return float((self.checks["covered"] * self.checks["num_checked"]).sum() / checked)

    @classmethod
    def from_heldout(cls, heldout: Heldout, confidence: float = 0.9) -> Conformal:
        """Calibrate on held-out errors.

        Args:
            heldout: errors by rolling origin.
            confidence: nominal coverage.

        Raises:
            ScalingError: if `confidence` is not within (0, 1).

        """
        if not 0.0 < confidence < 1.0:
            raise ScalingError(f"confidence must lie between 0 and 1, got {confidence}; try 0.9")
        errors = heldout.errors
        by_spread = bool(np.isfinite(errors["spread"]).all())
        unit = errors["spread"].to_numpy(float) if by_spread else np.ones(len(errors))
        scores = pd.DataFrame(
            {
                "cut": errors["cut"],
                "flops": errors["flops"],
                "score": np.abs(errors["log_error"]) / unit,
                "unit": unit,
            }
        )
        return cls(
            confidence=confidence,
            multiplier=_multiplier(scores, confidence),
            by_spread=by_spread,
            num=len(scores),
            num_cuts=heldout.num_cuts,
            checks=_checks(scores, confidence),
        )

    def interval(
        self, predicted: ArrayLike, *, spread: ArrayLike | None = None
    ) -> tuple[FloatArray, FloatArray]:
        """Return the ends (low, high) of the prediction interval, as `predicted` is shaped.

        Args:
            predicted: losses that the law predicts.
            spread: the law's spread at those places, where it has one; it widens the interval
                with the distance from the data, in every direction.

        """
        assert self.by_spread == (spread is not None), "spread goes with laws that have one"
        unit = np.ones(1) if spread is None else np.asarray(spread, dtype=float)
        centre, half = np.asarray(predicted, dtype=float), np.exp(self.multiplier * unit)
        return centre / half, centre * half

    def to_mapping(self) -> dict[str, Any]:
        """Return what a machine-readable report holds."""
        return {
            "confidence": self.confidence,
            "multiplier": self.multiplier,
            "by_spread": self.by_spread,
            "num": self.num,
            "num_cuts": self.num_cuts,
            "coverage": self.coverage,
            "checks": self.checks.to_dict("records"),
        }


def predict_with_interval(
    fit: JointFit, points: Points, conformal: Conformal, params: ArrayLike, tokens: ArrayLike
) -> pd.DataFrame:
    """Predict the loss at Q places (N, D), each with its prediction interval.

    Args:
        fit: the joint law.
        points: what it was fitted to.
        conformal: calibrated on this law's held-out errors.
        params: N, shape (Q,).
        tokens: D, shape (Q,).

    Returns:
        Columns `params`, `tokens`, `flops` (by the points' FLOPs per parameter and token), `loss`,
        `low`, `high`, `spread` (of ln L), and `distance` (decades of FLOP beyond the data, 0
        within).

    """
    sizes, seen = (np.atleast_1d(np.asarray(values, dtype=float)) for values in (params, tokens))
    loss = fit.predict(sizes, seen)
    spread = joint_spread(fit, points).at(joint_jacobian(fit, sizes, seen))
    low, high = conformal.interval(loss, spread=spread)
    flops = points.flops_per_param_token * sizes * seen
    beyond = np.log10(flops / points.frame["flops"].max())
    return pd.DataFrame(
        {
            "params": sizes,
            "tokens": seen,
            "flops": flops,
            "loss": loss,
            "low": low,
            "high": high,
            "spread": spread,
            "distance": np.maximum(0.0, beyond),
        }
    )


def _quantile(scores: FloatArray, confidence: float) -> float:
    """Return the ceil((n + 1) confidence)-th smallest of n scores; the largest where n is small."""
    rank = int(np.ceil((len(scores) + 1) * confidence))
    return float(np.sort(scores)[min(rank, len(scores)) - 1])


def _multiplier(scores: pd.DataFrame, confidence: float) -> float:
    pooled = _quantile(scores["score"].to_numpy(float), confidence)
    # A cut with fewer scores than this has no such quantile of its own, only a largest score.
    enough = confidence / (1.0 - confidence)
    worst = [
        _quantile(rows["score"].to_numpy(float), confidence)
        for _, rows in scores.groupby("cut")
        if len(rows) >= enough - 1e-9
    ]
    return 0.5 * (pooled + max([pooled, *worst]))


def _checks(scores: pd.DataFrame, confidence: float) -> pd.DataFrame:
    """Calibrate on what was known at each cut, and see what share above it is covered."""
    rows = []
    for cut, above in scores.groupby("cut"):
        known = scores[(scores["cut"] < cut) & (scores["flops"] <= cut)]
        if known.empty:
            continue
        multiplier = _multiplier(known, confidence)
        rows.append(
            {
                "cut": float(str(cut)),
                "num_calibration": len(known),
                "num_checked": len(above),
                "covered": float((above["score"] <= multiplier).mean()),
                "half_width": multiplier * float(above["unit"].median()),
            }
        )
    columns = ["cut", "num_calibration", "num_checked", "covered", "half_width"]
    return pd.DataFrame(rows, columns=columns)
