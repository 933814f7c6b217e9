"""What isoFLOP minima and training-curve envelopes have in common: N_opt = k C^a, L = E + K C^-g.

Notation: C budget in FLOPs, N_opt the best number of parameters there, L the loss it reaches.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.optimize import minimize_scalar, nnls

from service.scaling.joint_fit import percentile_interval
from service.scaling.joint_laws import FloatArray
from trainers.errors import ScalingError

MIN_FOR_FLOOR = 4
"""Budgets from which on a floor E is fitted; three parameters follow three points whatever."""


@dataclass(frozen=True, kw_only=True)
class SizeFit:
    """Best sizes by budget, without a joint law."""

    method: str
    params: Mapping[str, float]
    """`a`, `b` = 1 - a and `k` of N_opt = k C^a; `E`, `K` and `gamma` of L = E + K C^-gamma."""
    r2: float
    """Of log N_opt over log C."""
    bootstrap: pd.DataFrame | None
    """Resampled `a`, `b` and `k`, one row each; None where the noise is unknown."""
    warnings: tuple[str, ...]
    notes: tuple[str, ...]

    def optimum(self, flops: ArrayLike, flops_per_param_token: float = 6.0) -> pd.DataFrame:
        """Return `flops`, `params`, `tokens` and `loss` of the best size at each budget.

        Args:
            flops: budgets C.
            flops_per_param_token: what C / (N D) is.

        """
        budgets = np.atleast_1d(np.asarray(flops, dtype=float))
        values = self.params
        size = values["k"] * budgets ** values["a"]
        loss = values["E"] + values["K"] * budgets ** -values["gamma"]
        tokens = budgets / (flops_per_param_token * size)
        return pd.DataFrame({"flops": budgets, "params": size, "tokens": tokens, "loss": loss})

    def interval(self, confidence: float = 0.9) -> pd.DataFrame:
        """Return `value`, `low` and `high` of `a`, `b` and `k` over the resamples.

        Raises:
            ScalingError: if there are none, or `confidence` is not within (0, 1).

        """
        shown = {name: self.params[name] for name in ("a", "b", "k")}
        return percentile_interval(shown, self.bootstrap, confidence)

    def to_mapping(self, confidence: float = 0.9) -> dict[str, Any]:
        """Return what a machine-readable report holds."""
        intervals = None
        if self.bootstrap is not None:
            intervals = {
                str(name): {"low": float(row["low"]), "high": float(row["high"])}
                for name, row in self.interval(confidence).iterrows()
            }
        return {
            "law": "size_power",
            "method": self.method,
            "params": {name: float(value) for name, value in self.params.items()},
            "r2": self.r2,
            "confidence": confidence,
            "intervals": intervals,
            "num_bootstraps": 0 if self.bootstrap is None else len(self.bootstrap),
            "warnings": list(self.warnings),
            "notes": list(self.notes),
        }


@dataclass(frozen=True, kw_only=True)
class PowerFit:
    """N = k C^a by weighted least squares of logarithms."""

    exponent: float
    coefficient: float
    r2: float
    """Of log N, all points alike: with weights it would tell of the most certain point only."""


def fit_power(flops: ArrayLike, sizes: ArrayLike, log_std: ArrayLike | None = None) -> PowerFit:
    """Fit log N = log k + a log C (Porian et al. 2024, section 2).

    Args:
        flops: C, shape (P,).
        sizes: N, shape (P,).
        log_std: standard deviations of log N as weights 1 / log_std^2; equal where None.

    Raises:
        ScalingError: if fewer than two different budgets are given.

    """
    log_c, log_n = np.log(np.asarray(flops, float)), np.log(np.asarray(sizes, float))
    if len(np.unique(log_c)) < 2:
        raise ScalingError(
            f"an exponent needs best sizes at two or more budgets, got {len(np.unique(log_c))}; "
            "add budgets"
        )
    spread = np.ones_like(log_c) if log_std is None else np.asarray(log_std, float)
    weight = spread**-2.0
    exponent, log_k = (v[0] for v in regress(log_c, log_n[None], weight[None]))
    total = float(((log_n - log_n.mean()) ** 2).sum())
    left = float(((log_n - log_k - exponent * log_c) ** 2).sum())
    return PowerFit(
        exponent=float(exponent),
        coefficient=float(np.exp(log_k)),
        r2=1.0 - left / total if total > 0 else 1.0,
    )


def regress(x: FloatArray, y: FloatArray, weight: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return slopes and intercepts of M weighted straight lines.

    Args:
        x: shape (P,).
        y: shape (M, P); NaN where a point is missing.
        weight: shape (M, P).

    """
    known = np.isfinite(y)
    own, y = np.where(known, weight, 0.0), np.where(known, y, 0.0)
    total = own.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        x_mean, y_mean = own @ x / total, (own * y).sum(axis=1) / total
        apart = x - x_mean[:, None]
        slope = (own * apart * (y - y_mean[:, None])).sum(axis=1) / (own * apart**2).sum(axis=1)
    return slope, y_mean - slope * x_mean


def fit_floor(flops: ArrayLike, loss: ArrayLike) -> dict[str, float]:
    """Fit L = E + K C^-gamma by least squares of relative errors, gamma by search.

    With fewer than four budgets E is 0.

    Args:
        flops: C, shape (P,).
        loss: L, shape (P,).

    """
    budgets, losses = np.asarray(flops, float), np.asarray(loss, float)
    log_c = np.log(budgets)
    centred = log_c - log_c.mean()
    floor = np.ones_like(losses) if len(np.unique(budgets)) >= MIN_FOR_FLOOR else None

    def inside(gamma: float) -> tuple[FloatArray, float]:
        power = np.exp(-gamma * centred)
        terms = np.stack([power] if floor is None else [power, floor], axis=1)
        scales, distance = nnls(terms / losses[:, None], np.ones_like(losses))
        return scales, distance

    gamma = float(
        minimize_scalar(
            lambda g: inside(g)[1], bounds=(1e-3, 3.0), method="bounded", options={"xatol": 1e-9}
        ).x
    )
    scales, _ = inside(gamma)
    return {
        "E": 0.0 if floor is None else float(scales[1]),
        "K": float(scales[0] * np.exp(gamma * log_c.mean())),
        "gamma": gamma,
    }
