"""The frontier: the best size, data and loss at given budgets, with intervals."""

from __future__ import annotations

import numpy as np
import pandas as pd

from service.report.numbers import energy, short
from service.scaling.answers.energy_axis import EnergyAxis
from service.scaling.answers.optima import drawn_optima
from service.scaling.answers.result import Answer, extrapolation_warnings
from service.scaling.fitted import StudyFit

NOT_CALIBRATED = "the loss has no prediction interval: too few budgets to hold the larger ones out"


def frontier(fit: StudyFit, flops: np.ndarray, axis: EnergyAxis) -> Answer:
    """Return the compute-optimal size, data and loss at each budget.

    N and D carry the bootstrap's interval over runs; the loss carries a prediction interval that
    was calibrated on larger budgets held out (its measured coverage is in the fit's `conformal`).

    Args:
        fit: the law.
        flops: budgets C, shape (B,).
        axis: what a FLOP costs.

    Returns:
        One row per budget: flops, params, params_low, params_high, tokens, tokens_low,
        tokens_high, tokens_per_param, loss, loss_low, loss_high, reducible_loss (above the law's
        floor), times_data (C over the largest budget of the data), kwh, kgco2e, cost. Unknown
        values are NaN.

    """
    frame = fit.optimum(flops)
    draws = drawn_optima(fit.joint, flops, fit.flops_per_param_token)
    nothing = np.full(len(flops), np.nan)
    for name in ("params", "tokens"):
        low, high = (nothing, nothing)
        if draws is not None:
            low, high = draws.interval(getattr(draws, name), fit.confidence)
        frame[f"{name}_low"], frame[f"{name}_high"] = low, high
    places = frame["params"].to_numpy(float), frame["tokens"].to_numpy(float)
    ends = fit.loss_interval(*places) or (nothing, nothing)
    frame["loss_low"], frame["loss_high"] = ends
    frame["tokens_per_param"] = frame["tokens"] / frame["params"]
    frame["reducible_loss"] = frame["loss"] - fit.params.get("E", 0.0)
    frame["times_data"] = flops / fit.largest_flops
    units = axis.known_units()
    for unit, column in (("kwh", "kwh"), ("kgco2e", "kgco2e"), ("currency", "cost")):
        frame[column] = flops * axis.per_flop(unit) if unit in units else np.nan
    warnings = extrapolation_warnings(flops, fit.largest_flops)
    if fit.conformal is None:
        warnings = (*warnings, NOT_CALIBRATED)
    order = ["flops", "params", "params_low", "params_high", "tokens", "tokens_low", "tokens_high",
             "tokens_per_param", "loss", "loss_low", "loss_high", "reducible_loss", "times_data",
             "kwh", "kgco2e", "cost"]  # fmt: skip
    frame = frame[order]
    return Answer(frame=frame, sentence=_sentence(frame, fit), warnings=warnings)


def _sentence(frame: pd.DataFrame, fit: StudyFit) -> str:
    lines = []
    for row in frame.to_dict("records"):
        band = interval_text(row["loss_low"], row["loss_high"], fit.confidence)
        power = f", {energy(row['kwh'])}" if np.isfinite(row["kwh"]) else ""
        lines.append(
            f"{short(row['flops'])} FLOP: N {short(row['params'])}, D {short(row['tokens'])}, "
            f"{fit.points.metric} {short(row['loss'], 4)}{band}{power}"
        )
    return "\n".join(lines)


def interval_text(low: float, high: float, confidence: float) -> str:
    """Write ` (90 %: 1.28-1.34)`; nothing where the ends are unknown."""
    if not (np.isfinite(low) and np.isfinite(high)):
        return ""
    return f" ({100 * confidence:.0f} %: {short(low, 4)}-{short(high, 4)})"
