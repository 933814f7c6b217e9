"""How far the exponents move under choices that are all sensible: method x rows x loss.

A bootstrap asks what other runs of the same kind would have done. It cannot say what another
method, another cut of small runs or another loss function would: on Chinchilla's 240 points the
bootstrap puts a within 0.48-0.55, these choices between 0.36 and 0.59.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from service.scaling.fits import fit_envelope, fit_isoflop, fit_joint
from service.scaling.joint_fit import JointFit
from service.scaling.minima import INTERPOLANTS
from service.scaling.points import Points
from trainers.errors import ScalingError

DELTAS: Mapping[str, float] = {
    "huber 1e-3": 1e-3,
    "huber 1e-2": 1e-2,
    "squares of log": 1e3,
}
"""Huber's threshold in log L; the last exceeds every residual, so all count as squares."""
STARTS = 8
"""Of each joint fit: eight find the optimum, and there are dozens of fits."""
THIRD = 1.0 / 3.0
HIGHEST_LOSSES = 0.02
EXPONENTS = ("a", "alpha", "beta", "E")
_COLUMNS = ("method", "filter", "loss", *EXPONENTS, "num_points", "converged", "note")


def multiverse(points: Points) -> pd.DataFrame:
    """Fit the points of one recipe under every combination of choices.

    Args:
        points: of one recipe.

    Returns:
        One row per combination: `method` (log_huber, variable_projection, isoflop_<interpolant>,
        envelope), `filter` (which rows), `loss` (of the joint fits), `a` (N_opt ~ C^a), `alpha`,
        `beta`, `E` (NaN where the method has none), `num_points`, `converged`, `note` (why a
        combination has no value). Methods that the points cannot carry at all are left out.

    Raises:
        ScalingError: if the points hold several recipes.

    """
    if len(points.recipes) > 1:
        raise ScalingError(
            f"a multiverse is of one recipe, but the points have {len(points.recipes)}; take one "
            "by points.only(by=...)"
        )
    rows = [
        {"method": method, "filter": name, "loss": loss, "num_points": len(kept), **found}
        for name, mask in row_filters(points.frame)
        for kept in [points.where(mask)]
        for method, loss, fit in _choices()
        for found in [_found(fit, kept)]
    ]
    table = pd.DataFrame(rows, columns=list(_COLUMNS))
    carried = table.groupby("method")["a"].transform(lambda a: a.notna().any())
    return table[carried].reset_index(drop=True)


def row_filters(frame: pd.DataFrame) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Yield each choice of rows: its name, and a boolean per row of `Points.frame`.

    Thirds are of the range in logarithms, not of the rows: small runs are many.
    """
    yield "all rows", np.ones(len(frame), bool)
    for column, letter in (("flops", "C"), ("params", "N")):
        log = np.log10(frame[column].to_numpy(float))
        low, high = float(log.min()), float(log.max())
        above, below = low + THIRD * (high - low), high - THIRD * (high - low)
        yield f"{letter} > {10**above:.2g}", log > above
        yield f"{letter} < {10**below:.2g}", log < below
    yield "D > N", (frame["tokens"] > frame["params"]).to_numpy(bool)
    highest = frame["loss"].quantile(1.0 - HIGHEST_LOSSES)
    yield (
        f"without the highest {HIGHEST_LOSSES:.0%} of losses",
        (frame["loss"] <= highest).to_numpy(bool),
    )


def _choices() -> Iterator[tuple[str, str, Callable[[Points], Any]]]:
    """Yield method, loss and how to fit."""
    for name, delta in DELTAS.items():
        yield "log_huber", name, _with_delta(delta)
    yield (
        "variable_projection",
        "squares",
        lambda points: fit_joint(points, method="variable_projection"),
    )
    for interpolant in INTERPOLANTS:
        yield f"isoflop_{interpolant}", "", _with_interpolant(interpolant)
    yield "envelope", "", lambda points: fit_envelope(points, bootstrap=0)


def _with_delta(delta: float) -> Callable[[Points], JointFit]:
    return lambda points: fit_joint(points, starts=STARTS, delta=delta)


def _with_interpolant(interpolant: str) -> Callable[[Points], Any]:
    return lambda points: fit_isoflop(points, interpolant, bootstrap=0)


def _found(fit: Callable[[Points], Any], points: Points) -> dict[str, Any]:
    nothing: dict[str, Any] = dict.fromkeys(EXPONENTS, np.nan)
    try:
        made = fit(points)
    except ScalingError as error:
        return {**nothing, "converged": False, "note": str(error)}
    known = {name: float(made.params.get(name, np.nan)) for name in EXPONENTS}
    # Minima and envelopes are read off, not descended to: there is nothing to converge.
    converged = made.converged if isinstance(made, JointFit) else True
    return {**known, "converged": converged, "note": "; ".join(made.warnings)}
