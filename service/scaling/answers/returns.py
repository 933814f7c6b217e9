"""Diminishing returns: what the next doubling of compute gains, and where that stops paying.

Along the frontier of L = E + A/N^alpha + B/D^beta, L(C) = E + K C^-gamma with
gamma = alpha beta / (alpha + beta); each doubling removes 1 - 2^-gamma of what is reducible.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from service.report.numbers import percent, short
from service.scaling.answers.energy_axis import UNIT_NAMES, EnergyAxis
from service.scaling.answers.optima import drawn_optima, frontier_loss
from service.scaling.answers.result import Answer, extrapolation_warnings
from service.scaling.fitted import StudyFit
from trainers.errors import ConfigError

STEP = 1e-4
"""Half the step in ln C by which slopes are taken: its error is of order 1e-9 of the slope."""
SEARCHED_DECADES = 12.0
"""The knee is looked for up to so many decades beyond the data."""


def marginal(fit: StudyFit, flops: np.ndarray, axis: EnergyAxis, per: str) -> Answer:
    """Return what the next doubling gains at each budget, in loss and per unit spent.

    Args:
        fit: the law.
        flops: budgets C, shape (B,).
        axis: what a FLOP costs.
        per: flops, kwh, kgco2e or currency.

    Returns:
        One row per budget: flops, loss, gain (L(C) - L(2C)), gain_low and gain_high (bootstrap
        over runs), gain_share (of the loss), reducible_share (of what is reducible), spent (what
        the doubling costs: C more FLOP, in `unit`), gain_per_unit, slope_per_unit (-dL/dC in
        loss per unit), unit.

    Raises:
        ConfigError: there is no such unit, or the energy of a FLOP is unknown.
        SiteError: the country or the price is unknown.

    """
    per_flop, k = axis.per_flop(per), fit.flops_per_param_token
    frame = fit.optimum(flops)[["flops", "loss"]]
    after = frontier_loss(fit.joint, 2.0 * flops, k)
    frame["gain"] = frame["loss"] - after
    frame["gain_low"], frame["gain_high"] = _gain_interval(fit, flops)
    frame["gain_share"] = frame["gain"] / frame["loss"]
    frame["reducible_share"] = frame["gain"] / (frame["loss"] - fit.params.get("E", 0.0))
    frame["spent"] = flops * per_flop
    frame["gain_per_unit"] = frame["gain"] / frame["spent"]
    below = frontier_loss(fit.joint, flops * np.exp(-STEP), k)
    above = frontier_loss(fit.joint, flops * np.exp(STEP), k)
    frame["slope_per_unit"] = (below - above) / (2.0 * STEP) / (flops * per_flop)
    frame["unit"] = UNIT_NAMES[per]
    lines = [
        f"{short(row['flops'])} FLOP: the next doubling gains {short(row['gain'])} "
        f"{fit.points.metric} ({percent(row['gain_share'])}) for {short(row['spent'])} "
        f"{row['unit']}"
        for row in frame.to_dict("records")
    ]
    warnings = extrapolation_warnings(2.0 * flops, fit.largest_flops)
    return Answer(frame=frame, sentence="\n".join(lines), warnings=warnings)


def _gain_interval(fit: StudyFit, flops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    draws = drawn_optima(fit.joint, np.concatenate([flops, 2.0 * flops]), fit.flops_per_param_token)
    if draws is None:
        nothing = np.full(len(flops), np.nan)
        return nothing, nothing
    now, doubled = np.split(draws.loss, 2, axis=1)
    return draws.interval(now - doubled, fit.confidence)


@dataclass(frozen=True, kw_only=True)
class Knee(Answer):
    """The budget beyond which the next doubling gains less than a threshold."""

    threshold: float
    relative: bool
    """Whether the threshold is a share of the loss at that budget, or a difference of losses."""
    flops: float
    """FLOP; infinite: every doubling searched gains more; 0: none does."""
    low: float
    high: float
    """The bootstrap's interval over runs; NaN without a bootstrap."""


def knee(fit: StudyFit, threshold: float, *, relative: bool = True) -> Knee:
    """Find the budget C from which L(C) - L(2C) is below a threshold.

    Args:
        fit: the law.
        threshold: the gain of a doubling that still pays.
        relative: True: a share of L(C), e.g. 0.01; False: a difference of losses.

    Raises:
        ConfigError: the threshold is not positive, or a share of 1 or more.

    """
    top = 1.0 if relative else np.inf
    if not 0.0 < threshold < top:
        allowed = "between 0 and 1 (a share of the loss)" if relative else "positive"
        raise ConfigError(f"the knee's threshold must be {allowed}, but got {threshold!r}; "
                          "e.g. 0.01")  # fmt: skip
    largest, smallest = fit.largest_flops, float(fit.points.frame["flops"].min())
    grid = np.logspace(np.log10(smallest) - 2.0, np.log10(largest) + SEARCHED_DECADES, 300)
    flops = float(_crossing(grid, _gains(fit, grid, relative), threshold)[0])
    if np.isfinite(flops) and flops > 0:
        flops = _refined(fit, flops, grid, threshold, relative)
    low, high = _knee_interval(fit, grid, threshold, relative)
    amount = percent(threshold) if relative else short(threshold)
    return Knee(
        frame=fit.optimum(np.array([flops])) if 0 < flops < np.inf else fit.optimum(grid[:0]),
        sentence=_knee_sentence(fit, flops, low, high, amount),
        warnings=extrapolation_warnings([flops], largest) if np.isfinite(flops) else (),
        threshold=threshold,
        relative=relative,
        flops=flops,
        low=low,
        high=high,
    )


def _gains(fit: StudyFit, flops: np.ndarray, relative: bool) -> np.ndarray:
    """Return the gain of the next doubling at each budget, shape (1, B)."""
    now, doubled = np.split(
        frontier_loss(
            fit.joint, np.concatenate([flops, 2.0 * flops]), fit.flops_per_param_token
        ), 2
    )  # fmt: skip
    gain = now - doubled
    return np.atleast_2d(gain / now if relative else gain)


def _crossing(grid: np.ndarray, gains: np.ndarray, threshold: float) -> np.ndarray:
    """Return where each row of gains, shape (R, B), first falls below the threshold.

    Between two budgets of the grid ln gain is taken as linear in ln C.
    """
    found = np.full(len(gains), np.inf)
    for row, gain in enumerate(gains):
        below = np.flatnonzero(gain < threshold)
        if below.size:
            j = int(below[0])
            if j == 0:
                found[row] = 0.0
                continue
            x, y = np.log(grid[j - 1 : j + 1]), np.log(gain[j - 1 : j + 1] / threshold)
            found[row] = float(np.exp(x[0] + y[0] / (y[0] - y[1]) * (x[1] - x[0])))
    return found


def _refined(
    fit: StudyFit, near: float, grid: np.ndarray, threshold: float, relative: bool
) -> float:
    """Bisect in ln C within a step of the grid around `near`."""
    step = float(np.log(grid[1] / grid[0]))
    low, high = np.log(near) - step, np.log(near) + step
    for _ in range(60):
        middle = 0.5 * (low + high)
        if _gains(fit, np.exp(np.array([middle])), relative)[0, 0] < threshold:
            high = middle
        else:
            low = middle
    return float(np.exp(0.5 * (low + high)))


def _knee_interval(
    fit: StudyFit, grid: np.ndarray, threshold: float, relative: bool
) -> tuple[float, float]:
    draws = drawn_optima(fit.joint, np.concatenate([grid, 2.0 * grid]), fit.flops_per_param_token)
    if draws is None:
        return float("nan"), float("nan")
    now, doubled = np.split(draws.loss, 2, axis=1)
    gains = (now - doubled) / now if relative else now - doubled
    knees = np.sort(_crossing(grid, gains, threshold))
    # Draws without a knee are infinite, which percentiles by interpolation cannot hold.
    tail = 0.5 * (1.0 - fit.confidence)
    last = len(knees) - 1
    return float(knees[int(np.floor(tail * last))]), float(knees[int(np.ceil((1 - tail) * last))])


def _knee_sentence(fit: StudyFit, flops: float, low: float, high: float, amount: str) -> str:
    if np.isinf(flops):
        return f"every doubling within {SEARCHED_DECADES:.0f} decades gains more than {amount}"
    if flops == 0.0:
        return f"no doubling gains {amount}, not even below the smallest budget of the data"
    band = ""
    if np.isfinite(low) and low > 0:
        upper = short(high, 2) if np.isfinite(high) else "no end"
        band = f" ({100 * fit.confidence:.0f} %: {short(low, 2)}-{upper})"
    return f"beyond {short(flops, 2)} FLOP{band} the next doubling gains under {amount}"
