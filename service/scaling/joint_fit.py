"""A fitted joint law L(N, D): its parameters, what it predicts, and how far to trust it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from service.scaling.joint_laws import PARAM_NAMES, FloatArray, best_params, predict_loss
from trainers.errors import ScalingError


@dataclass(frozen=True, kw_only=True)
class JointFit:
    """A joint law fitted to points; made by `fits.fit_joint`."""

    law: str
    """One of `joint_laws.LAWS`."""
    method: str
    """`log_huber_lbfgsb` or `variable_projection`."""
    delta: float
    """Huber's threshold in units of log L; variable projection does not read it."""
    params: Mapping[str, float]
    """The law's parameters, then the exponents `a` (N_opt ~ C^a) and `b` = 1 - a (D_opt)."""
    objective: float
    """The method's objective, summed over points (weighted)."""
    num_points: int
    num_starts: int
    converged_share: float
    """Share of the starts that ended at the best objective, to 1e-4 of it."""
    converged: bool
    """Whether the best is a stationary point that more than one start found."""
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    """How the fit was made where that needs saying: subsamples, one-step bootstraps."""
    bootstrap: pd.DataFrame | None
    """One row per resample of the runs, columns as `params`; None where none was asked for."""
    correlations: pd.DataFrame
    """Between the estimates, scales as logarithms (`log_A`); by bootstrap, else by the sandwich."""
    seconds: float

    def predict(
        self, params: ArrayLike, tokens: ArrayLike, unique_tokens: ArrayLike | None = None
    ) -> FloatArray:
        """Return the loss at N `params` and D `tokens`; see `joint_laws.predict_loss`."""
        return predict_loss(self.law, self.params, params, tokens, unique_tokens)

    def optimum(
        self,
        flops: ArrayLike,
        flops_per_param_token: float = 6.0,
        unique_tokens: float | None = None,
    ) -> pd.DataFrame:
        """Return the best size at each budget.

        Args:
            flops: budgets C.
            flops_per_param_token: k in C = k N D.
            unique_tokens: how many unique tokens there are, for `repeated_data`.

        Returns:
            One row per budget: `flops`, `params`, `tokens`, `loss`.

        Raises:
            ScalingError: if the law has no minimum at a fixed budget.

        """
        budgets = np.atleast_1d(np.asarray(flops, dtype=float))
        best = best_params(self.law, self.params, budgets, flops_per_param_token, unique_tokens)
        tokens = budgets / (flops_per_param_token * best)
        loss = self.predict(best, tokens, unique_tokens)
        return pd.DataFrame({"flops": budgets, "params": best, "tokens": tokens, "loss": loss})

    def interval(self, confidence: float = 0.9) -> pd.DataFrame:
        """Return the percentile interval of each parameter over the bootstrap.

        It says how far other runs of the same kind would have moved the parameters; it is no
        interval for the loss at a new budget, which is far wider.

        Args:
            confidence: e.g. 0.9 for the 5th to the 95th percentile.

        Returns:
            Index: the parameter; columns `value`, `low`, `high`.

        Raises:
            ScalingError: if the fit has no bootstrap, or `confidence` is not within (0, 1).

        """
        return percentile_interval(self.params, self.bootstrap, confidence)

    def with_params(self, row: Mapping[str, float] | pd.Series) -> JointFit:
        """Return the same law with other parameters, e.g. a row of `bootstrap`."""
        values = {name: float(row[name]) for name in PARAM_NAMES[self.law]}
        return replace(self, params=with_exponents(values), bootstrap=None)

    def to_mapping(self, confidence: float = 0.9) -> dict[str, Any]:
        """Return what a machine-readable report holds; scales never without their correlations."""
        intervals = None
        if self.bootstrap is not None:
            table = self.interval(confidence)
            intervals = {
                str(name): {"low": finite(row["low"]), "high": finite(row["high"])}
                for name, row in table.iterrows()
            }
        return {
            "law": self.law,
            "method": self.method,
            "delta": self.delta,
            "params": {name: finite(value) for name, value in self.params.items()},
            "objective": self.objective,
            "num_points": self.num_points,
            "num_starts": self.num_starts,
            "converged_share": self.converged_share,
            "converged": self.converged,
            "confidence": confidence,
            "intervals": intervals,
            "num_bootstraps": 0 if self.bootstrap is None else len(self.bootstrap),
            "correlations": {
                str(one): {str(other): finite(value) for other, value in row.items()}
                for one, row in self.correlations.iterrows()
            },
            "warnings": list(self.warnings),
            "notes": list(self.notes),
            "seconds": self.seconds,
        }


def finite(value: float) -> float | None:
    """Return a number as JSON knows it, None where it is none."""
    return float(value) if np.isfinite(value) else None


def with_exponents(values: Mapping[str, float]) -> dict[str, float]:
    """Return `values` with a = beta / (alpha + beta) and b = 1 - a behind them."""
    total = values["alpha"] + values["beta"]
    share = values["beta"] / total if total else float("nan")
    return {**values, "a": share, "b": 1.0 - share}


def percentile_interval(
    params: Mapping[str, float], bootstrap: pd.DataFrame | None, confidence: float
) -> pd.DataFrame:
    """Return `value`, `low` and `high` of each parameter; see `JointFit.interval`."""
    if not 0.0 < confidence < 1.0:
        raise ScalingError(f"confidence must lie between 0 and 1, got {confidence}; try 0.9")
    if bootstrap is None:
        raise ScalingError(
            "an interval needs resamples of the runs, but none was drawn; fit with bootstrap=400"
        )
    tail = (1.0 - confidence) / 2.0
    names = list(params)
    # Resamples may be infinite where the points do not determine a scale.
    with np.errstate(invalid="ignore"):
        low, high = (
            [float(bootstrap[name].quantile(q)) for name in names] for q in (tail, 1.0 - tail)
        )
    value = [params[name] for name in names]
    index = pd.Index(names, name="param")
    return pd.DataFrame({"value": value, "low": low, "high": high}, index=index)
