"""Which law of one variable to trust: by the error on larger x that was held out.

In-sample fit would always choose the law with the most parameters; a broken law is 70 times better
than a plain one on a curve with a break, and worse on one without.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from service.scaling.curve_forms import FloatArray
from service.scaling.curves import (
    CURVE_LAWS,
    MAX_BREAKS,
    CurveFit,
    check_curve_law,
    checked_curve,
    fit_curve,
    num_curve_params,
)
from service.scaling.heldout import Heldout, with_errors
from service.scaling.spread import log_jacobian, spread_of
from trainers.errors import ScalingError

MAX_CURVE_CUTS = 5
MIN_CURVE_POINTS = 3
_COLUMNS = ("law", "breaks", "num_cuts", "num_heldout", "rmse", "last_value_rmse", "ratio", "note")


def choose_law(
    x: ArrayLike,
    y: ArrayLike,
    *,
    increasing: bool = False,
    weights: ArrayLike | None = None,
    laws: Sequence[str] = CURVE_LAWS,
) -> tuple[CurveFit, pd.DataFrame]:
    """Fit the law with the least held-out error, and say how every law did.

    Each law is fitted below each of up to five cuts where there are more different x than it has
    parameters, and predicts all points above. Laws with more parameters miss the early cuts, so
    they are compared by `ratio`: their error over that of the last value carried forward from the
    same cuts. Where no law's ratio is below 1, `last_value` is chosen.

    Args:
        x: size, compute, workers; positive, shape (P,).
        y: what is measured there, shape (P,).
        increasing: whether y rises with x.
        weights: of the points, shape (P,).
        laws: which to try; `last_value` always is.

    Returns:
        The chosen law, fitted to all points, and a table with one row per law (`broken_power` one
        per number of breaks tried), best first: `law`, `breaks`, `num_cuts`, `num_heldout`,
        `rmse` (of ln y; of y where not all y are positive), `last_value_rmse`, `ratio`, `note`
        (why a law could not be judged).

    Raises:
        ScalingError: as `fit_curve` says, or if no larger x can be held out.

    """
    sizes, values, weight = checked_curve(x, y, weights)
    cuts = curve_cuts(sizes)
    if not cuts:
        raise ScalingError(
            f"choosing a law needs {MIN_CURVE_POINTS} different x and a larger one to hold out, "
            f"but there are {len(np.unique(sizes))}; add points, or name the law"
        )
    for law in laws:
        check_curve_law(law)
    rows: list[dict[str, Any]] = []
    for law in dict.fromkeys(["last_value", *laws]):
        for breaks in range(1, MAX_BREAKS + 1) if law == "broken_power" else (0,):
            row, note = _heldout_errors(sizes, values, weight, cuts, law, breaks, increasing)
            best_ratio = min((other.get("ratio", np.inf) for other in rows), default=np.inf)
            rows.append({"law": law, "breaks": breaks, **row, "note": note})
            if breaks and not row.get("ratio", np.inf) < best_ratio:
                break  # a further break is worth trying only where the last one was
    table = pd.DataFrame(rows, columns=list(_COLUMNS))
    # A stable sort leaves the simpler of two equal laws first.
    table = table.sort_values("ratio", kind="stable", na_position="last").reset_index(drop=True)
    best = table.iloc[0]
    chosen = fit_curve(
        sizes,
        values,
        str(best["law"]),
        increasing=increasing,
        weights=weight,
        breaks=max(int(best["breaks"]), 1),
    )
    return chosen, table


def rolling_origin_curve(
    x: ArrayLike, y: ArrayLike, law: str, *, increasing: bool = False, breaks: int = 1
) -> Heldout:
    """Fit one law below each cut and predict every point above it.

    Args:
        x: positive, shape (P,).
        y: positive, shape (P,), so that errors can be relative.
        law: one of `CURVE_LAWS`.
        increasing: whether y rises with x.
        breaks: of `broken_power`.

    Returns:
        Errors with x in the column `flops`; the naive baseline is the last value.

    Raises:
        ScalingError: as `fit_curve` says, if y is not positive, or if fewer than two cuts have
            enough points below.

    """
    sizes, values, weight = checked_curve(x, y, None)
    if not (values > 0).all():
        raise ScalingError(
            f"relative errors need positive y, but the least is {values.min():.4g}; shift y, or "
            "compare laws by choose_law"
        )
    check_curve_law(law)
    parts = []
    for cut in curve_cuts(sizes):
        below, above = sizes <= cut, sizes > cut
        law_fit = _fitted_below(sizes[below], values[below], weight[below], law, breaks, increasing)
        if law_fit is None:
            continue
        naive = fit_curve(sizes[below], values[below], "last_value").predict(sizes[above])
        parts.append(
            with_errors(
                pd.DataFrame({"flops": sizes[above]}),
                cut=cut,
                actual=values[above],
                predicted=law_fit.predict(sizes[above]),
                naive=naive,
                distance=np.log10(sizes[above] / cut),
                spread=curve_spread(law_fit, sizes[below], values[below], sizes[above]),
            )
        )
    if len(parts) < 2:
        raise ScalingError(
            f"holding larger x out needs at least 2 cuts with more different x below than `{law}` "
            f"has parameters, but there are {len(parts)}; add points, or take a simpler law"
        )
    return Heldout(errors=pd.concat(parts, ignore_index=True))


def curve_spread(fit: CurveFit, x: FloatArray, y: FloatArray, at: FloatArray) -> FloatArray:
    """Return the law's standard deviation of ln y at Q places, shape (Q,); NaN for `last_value`.

    Args:
        fit: the law fitted to x and y.
        x: shape (P,).
        y: positive, shape (P,).
        at: shape (Q,).

    """
    if fit.law == "last_value":
        return np.full(len(at), np.nan)

    def jacobian(places: FloatArray) -> FloatArray:
        return log_jacobian(lambda p: np.log(fit.with_params(p).predict(places)), fit.params)

    residuals = np.log(y) - np.log(fit.predict(x))
    return spread_of(jacobian(x), residuals, np.ones(len(x))).at(jacobian(at))


def curve_cuts(x: FloatArray) -> list[float]:
    """Return the x after which to cut, ascending.

    At most `MAX_CURVE_CUTS` of those with enough points below, evenly over the later two thirds.
    """
    distinct = np.unique(x)
    candidates = distinct[MIN_CURVE_POINTS - 1 : -1]
    if len(candidates) > MAX_CURVE_CUTS:
        # The first third teaches little about how a law extrapolates from nearly all the data.
        positions = np.linspace(len(candidates) // 3, len(candidates) - 1, MAX_CURVE_CUTS)
        candidates = candidates[np.unique(positions.round().astype(int))]
    return [float(cut) for cut in candidates]


def _heldout_errors(
    x: FloatArray,
    y: FloatArray,
    weight: FloatArray,
    cuts: Sequence[float],
    law: str,
    breaks: int,
    increasing: bool,
) -> tuple[dict[str, Any], str]:
    """Return one row of the table, and why there is none."""
    misses: list[FloatArray] = []
    naive: list[FloatArray] = []
    note = ""
    for cut in cuts:
        below, above = x <= cut, x > cut
        try:
            fit = _fitted_below(x[below], y[below], weight[below], law, breaks, increasing)
        except ScalingError as error:
            return {"num_cuts": 0, "num_heldout": 0}, str(error)
        if fit is None:
            note = "too few different x below the first cuts"
            continue
        misses.append(_error(y[above], fit.predict(x[above]), positive=bool((y > 0).all())))
        last = np.full(int(above.sum()), float(y[x == cut].mean()))
        naive.append(_error(y[above], last, positive=bool((y > 0).all())))
    if not misses:
        return {"num_cuts": 0, "num_heldout": 0}, "too few different x below every cut"
    rmse, last_rmse = (
        float(np.sqrt(np.mean(np.concatenate(part) ** 2))) for part in (misses, naive)
    )
    return {
        "num_cuts": len(misses),
        "num_heldout": sum(map(len, misses)),
        "rmse": rmse,
        "last_value_rmse": last_rmse,
        "ratio": rmse / last_rmse if last_rmse > 0 else float(rmse > 0) + 1.0,
    }, note


def _fitted_below(
    x: FloatArray, y: FloatArray, weight: FloatArray, law: str, breaks: int, increasing: bool
) -> CurveFit | None:
    """Fit a law; None where it would go through every point and say nothing about its error."""
    breaks = max(breaks, 1)
    if len(np.unique(x)) <= num_curve_params(law, breaks):
        return None
    return fit_curve(x, y, law, increasing=increasing, weights=weight, breaks=breaks)


def _error(actual: FloatArray, predicted: FloatArray, *, positive: bool) -> FloatArray:
    if not positive:
        return actual - predicted
    # A law that predicts nothing or less, where all y are positive, is wrong by many e-folds.
    return np.asarray(np.log(actual) - np.log(np.maximum(predicted, 1e-12 * actual)), dtype=float)
