"""A law together with how it did on larger budgets that were held out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from service.scaling.joint_fit import JointFit
from service.scaling.points import Points
from service.scaling.uncertainty import Conformal, Heldout, predict_with_interval


@dataclass(frozen=True, kw_only=True)
class StudyFit:
    """What `ScalingStudy.fit` returns: parameters, their intervals, and the held-out error."""

    points: Points
    joint: JointFit
    confidence: float
    heldout: Heldout | None
    """Errors on budgets above each cut, and the naive baseline's; None: too few budgets to cut."""
    conformal: Conformal | None
    """Prediction intervals calibrated on those errors; None: too few of them."""

    @property
    def law(self) -> str:
        """The law's name."""
        return self.joint.law

    @property
    def params(self) -> Mapping[str, float]:
        """The law's parameters and the exponents `a` and `b` of N_opt and D_opt over C."""
        return self.joint.params

    @property
    def converged_share(self) -> float:
        """Share of the starts that ended at the optimum."""
        return self.joint.converged_share

    @property
    def largest_flops(self) -> float:
        """The largest budget of the data."""
        return float(self.points.frame["flops"].max())

    @property
    def flops_per_param_token(self) -> float:
        """K in C = k N D, as the points have it."""
        return self.points.flops_per_param_token

    def interval(self, confidence: float | None = None) -> pd.DataFrame:
        """Return the bootstrap's interval of each parameter; see `JointFit.interval`."""
        return self.joint.interval(self.confidence if confidence is None else confidence)

    def optimum(self, flops: np.ndarray) -> pd.DataFrame:
        """Return the best N, D and L at each budget."""
        return self.joint.optimum(flops, self.flops_per_param_token)

    def ends(self, name: str) -> tuple[float, float] | None:
        """Return the interval of one parameter, (low, high); None without a bootstrap."""
        if self.joint.bootstrap is None:
            return None
        row = self.interval().loc[[name]]
        return float(row["low"].iloc[0]), float(row["high"].iloc[0])

    def loss_interval(
        self, params: np.ndarray, tokens: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """Return the prediction interval of the loss at Q places, (low, high) of shape (Q,) each.

        None where nothing was held out, so that there is nothing to calibrate on: the bootstrap's
        interval of the law is not offered instead, because it covers far less than it says.
        """
        if self.conformal is None:
            return None
        table = predict_with_interval(self.joint, self.points, self.conformal, params, tokens)
        return table["low"].to_numpy(float), table["high"].to_numpy(float)
