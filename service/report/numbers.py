"""Numbers as a person reads them: significant digits, intervals, durations, energies."""

from __future__ import annotations

import math
from typing import Any

from service.search.objectives import Interval


def short(value: float | None, digits: int = 3) -> str:
    """Write a number with so many significant digits and no exponent where a person needs none."""
    if value is None:
        return "–"
    if not math.isfinite(value):
        return "not finite"
    if value == 0:
        return "0"
    if 1e-4 <= abs(value) < 1e6:
        decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
        text = f"{value:.{decimals}f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    if "." in mantissa:
        mantissa = mantissa.rstrip("0").rstrip(".")
    return f"{mantissa}e{int(exponent)}"


def is_known(interval: Interval) -> bool:
    """Say whether an interval has ends: one seed alone gives none."""
    return math.isfinite(interval.low) and math.isfinite(interval.high)


def interval_text(interval: Interval) -> str:
    """Write `0.0193 ± 0.0015` or `0.035 ± 0.004`: two digits where they start with 1 or 2.

    One seed gives no `±`.
    """
    if not is_known(interval):
        return short(interval.mean)
    half = interval.half_width
    scale, digits = (half, 2) if half > 0 else (abs(interval.mean), 3)
    if half > 0 and f"{half:.1e}"[0] not in "12":
        digits = 1
    decimals = 3 if scale == 0 else max(0, min(9, digits - 1 - math.floor(math.log10(scale))))
    return f"{interval.mean:.{decimals}f} ± {half:.{decimals}f}"


def percent(share: float, digits: int = 2) -> str:
    """Write a share as a percentage with so many significant digits: `30 %`, `0.41 %`."""
    if not math.isfinite(share):
        return "–"
    value = 100 * share
    return f"{value:.0f} %" if abs(value) >= 10 else f"{short(value, digits)} %"


def duration(seconds: float | None) -> str:
    """Write a length of time in the two units that matter: `3 min 20 s`."""
    if seconds is None or not math.isfinite(seconds):
        return "–"
    if seconds < 10:
        return f"{seconds:.1f} s"
    total = round(seconds)
    if total < 60:
        return f"{total} s"
    minutes, rest = divmod(total, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{hours // 24} d {hours % 24} h"


def energy_unit(kwh: float) -> tuple[float, str]:
    """Return (units per kWh, unit) such that an energy reads well."""
    if abs(kwh) >= 0.1:
        return 1.0, "kWh"
    return (1e3, "Wh") if abs(kwh) >= 1e-4 else (1e6, "mWh")


def energy(kwh: float | None) -> str:
    """Write an energy in kWh, or in Wh and mWh where that reads better."""
    if kwh is None or not math.isfinite(kwh):
        return "–"
    factor, unit = energy_unit(kwh)
    return f"{short(kwh * factor)} {unit}"


def mass(kg: float) -> str:
    """Write a mass of CO2e in kg, g or mg."""
    if abs(kg) >= 0.1:
        return f"{short(kg)} kg"
    return f"{short(kg * 1e3)} g" if abs(kg) >= 1e-4 else f"{short(kg * 1e6)} mg"


def setting(value: Any) -> str:
    """Write a hyperparameter's value: numbers shortened, words as they are."""
    if isinstance(value, bool) or value is None:
        return str(value).lower() if value is not None else "none"
    if isinstance(value, float):
        return short(value)
    return str(value)
