"""The form of an answer: a table, a plain sentence, and what to be careful about."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from service.report.numbers import short
from trainers.errors import ConfigError

FAR = 10.0
"""Beyond so many times the largest budget of the data, an answer is warned about."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One question answered; `str()` of it is the sentence."""

    frame: pd.DataFrame
    sentence: str
    warnings: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "\n".join([self.sentence, *(f"! {text}" for text in self.warnings)])


def budgets_array(flops: float | Iterable[float], name: str = "budgets") -> np.ndarray:
    """Return budgets in FLOP as an array of shape (B,), in the order given.

    Raises:
        ConfigError: there is none, or one is no positive finite number.

    """
    values = [flops] if isinstance(flops, int | float) else list(flops)
    try:
        array = np.array([float(value) for value in values])
    except (TypeError, ValueError):
        array = np.array([math.nan])
    bad = [value for value, ok in zip(values, np.isfinite(array) & (array > 0), strict=False)
           if not ok]  # fmt: skip
    if not values or bad:
        given = "none" if not values else f"{bad[0]!r}"
        raise ConfigError(
            f"{name} must be positive, finite numbers of FLOP, but got {given}; e.g. 1e20"
        )
    return array


def extrapolation_warnings(flops: Sequence[float] | np.ndarray, largest: float) -> tuple[str, ...]:
    """Warn where budgets lie more than ten times beyond the largest of the data."""
    far = [float(c) for c in flops if c > FAR * largest * (1 + 1e-9)]
    if not far:
        return ()
    return (
        f"{short(max(far))} FLOP is {short(max(far) / largest)}x the largest budget of the data "
        f"({short(largest)}): beyond {FAR:g}x, the answer rests on the law's form more than on "
        "the data",
    )
