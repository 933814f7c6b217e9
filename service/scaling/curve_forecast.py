"""What the law of one variable says of larger x, with its interval and the naive guess beside."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from service.scaling.conformal import Conformal
from service.scaling.curve_choice import curve_spread, rolling_origin_curve
from service.scaling.curve_study import Curve, CurveStudy
from service.scaling.curves import fit_curve
from trainers.errors import ConfigError, ScalingError


def forecast(study: CurveStudy, x: Iterable[float], *, confidence: float = 0.9) -> pd.DataFrame:
    """Predict y at Q values of x for each group.

    Intervals are conformal, calibrated by fitting the law below and predicting above several cuts
    (`conformal`), as those of a study of size and data are. A curve has few points to calibrate
    on: over 59 draws of ten x with 2 % of noise, nominal 90 % covered 80 % four times beyond.

    Args:
        study: points of y over x.
        x: positive.
        confidence: nominal coverage of the intervals.

    Returns:
        One row per group and x: `by`, `x`, `value`, `low`, `high` (NaN where nothing can be
        calibrated), `coverage` (the share of larger x held out that such intervals covered; NaN
        where that could not be seen), `naive` (the last value carried forward), `law`, `note` (why
        there is no interval).

    Raises:
        ConfigError: an x is no positive, finite number.

    """
    asked = np.array(list(x), dtype=float)
    bad = asked[~(np.isfinite(asked) & (asked > 0))]
    if len(bad):
        raise ConfigError(
            f"{study.x} must be positive and finite, but got {bad[0]:g}; e.g. "
            f"{2 * study.curves[0].x[-1]:g}, twice the largest"
        )
    tables = [_forecast(curve, asked, study.increasing, confidence) for curve in study.curves]
    return pd.concat(tables, ignore_index=True)


def _forecast(curve: Curve, x: np.ndarray, increasing: bool, confidence: float) -> pd.DataFrame:
    value = curve.fit.predict(x)
    low, high, note = np.full(len(x), np.nan), np.full(len(x), np.nan), ""
    coverage: float | None = None
    tried = curve.laws.loc[curve.laws["law"] == curve.fit.law, "breaks"]
    try:
        heldout = rolling_origin_curve(
            curve.x,
            curve.y,
            curve.fit.law,
            increasing=increasing,
            breaks=max(1, int(tried.iloc[0])),
        )
        conformal = Conformal.from_heldout(heldout, confidence)
        spread = curve_spread(curve.fit, curve.x, curve.y, x) if conformal.by_spread else None
        low, high = conformal.interval(value, spread=spread)
        coverage = conformal.coverage
    except ScalingError as error:
        note = f"no interval: {error}"
    return pd.DataFrame(
        {
            "by": curve.by,
            "x": x,
            "value": value,
            "low": low,
            "high": high,
            "coverage": np.nan if coverage is None else coverage,
            "naive": fit_curve(curve.x, curve.y, "last_value").predict(x),
            "law": curve.fit.law,
            "note": note,
        }
    )
