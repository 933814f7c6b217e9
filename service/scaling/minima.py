"""The minimum of the loss over model size at one budget, by three interpolants.

    valley     L = E + p N^-alpha + q N^beta, alpha and beta shared by all budgets
    akima      piecewise cubics through every point (Akima 1970), as in Porian et al. 2024
    parabola   one parabola in log N by least squares (Hoffmann et al. 2022, approach 2)

A parabola is symmetric and the valley is not: at a fixed budget C = k N D Chinchilla's law falls as
N^-alpha and rises as N^beta. So its minimum is biased, the more the wider the sizes (Open-Athena
2026, arXiv 2603.22339). Akima's curve follows the skew, but goes through the noise of every point.
The valley has as many parameters per budget as a parabola and the skew of the law. Over 60 draws of
7 budgets with 0.2 % noise (7 sizes, 16-fold either side, exponents .34 and .28) log N_opt was off
by .067 (root mean square) with it, .079 with parabolas and .17 with Akima; with exponents .5 and .2
by .06, .28 and .2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import Akima1DInterpolator
from scipy.optimize import minimize

from service.scaling.joint_laws import FloatArray

INTERPOLANTS = ("valley", "akima", "parabola")
MIN_SIZES = 4
"""Sizes that a budget needs: valleys and parabolas pass through any three points."""
FINE = 401
"""Sizes at which an interpolant is evaluated."""
_EXPONENTS = (0.03, 2.0)
"""Bounds of a valley's exponents; near the lower one it is a parabola on that side."""
_SEARCH: Any = {"xatol": 1e-4, "fatol": 1e-16}


@dataclass(frozen=True)
class Interpolant:
    """How a curve of the loss over log N is drawn between its points."""

    name: str
    """One of `INTERPOLANTS`."""
    alpha: float
    """A valley's exponent of N; the others do not read it."""
    beta: float
    """A valley's exponent of D."""

    def curve(self, log_params: FloatArray, loss: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return fine log sizes (F,) and M curves' losses there (M, F).

        Args:
            log_params: S increasing log N.
            loss: shape (M, S).

        """
        fine = np.linspace(log_params[0], log_params[-1], FINE)
        if self.name == "akima":
            return fine, np.asarray(Akima1DInterpolator(log_params, loss, axis=1)(fine))
        middle = (log_params[0] + log_params[-1]) / 2
        coefficients = np.linalg.lstsq(self.terms(log_params - middle), loss.T, rcond=None)[0]
        return fine, np.asarray((self.terms(fine - middle) @ coefficients).T)

    def terms(self, u: FloatArray) -> FloatArray:
        """Return the terms whose sum is fitted at centred log sizes `u` (S,), shape (S, 3)."""
        if self.name == "parabola":
            return np.vander(u, 3)
        return valley_terms(u, self.alpha, self.beta)


@dataclass(frozen=True)
class Minima:
    """Minima of M curves over the same S sizes."""

    log_params: FloatArray
    """Shape (M,)."""
    loss: FloatArray
    """Shape (M,)."""
    at_edge: NDArray[np.bool_]
    """Whether the curve is lowest at the smallest or largest size: then the minimum is unknown."""


def valley_terms(u: FloatArray, alpha: float, beta: float) -> FloatArray:
    """Return 1, exp(-alpha u) and exp(beta u), shape (S, 3)."""
    return np.stack([np.ones_like(u), np.exp(-alpha * u), np.exp(beta * u)], axis=1)


def valley_exponents(curves: Sequence[tuple[FloatArray, FloatArray]]) -> tuple[float, float]:
    """Return the alpha and beta with which valleys fit all budgets' curves best.

    Args:
        curves: (log N, loss) of each budget.

    """

    def left_over(log_exponents: FloatArray) -> float:
        alpha, beta = np.exp(log_exponents)
        squares = 0.0
        for log_params, loss in curves:
            u = log_params - (log_params[0] + log_params[-1]) / 2
            orthogonal, _ = np.linalg.qr(valley_terms(u, float(alpha), float(beta)))
            left = loss - orthogonal @ (orthogonal.T @ loss)
            squares += float(left @ left)
        return squares

    found = minimize(
        left_over,
        np.log(np.array([0.3, 0.3])),
        method="Nelder-Mead",
        bounds=[(np.log(_EXPONENTS[0]), np.log(_EXPONENTS[1]))] * 2,
        options=_SEARCH,
    )
    alpha, beta = np.exp(found.x)
    return float(alpha), float(beta)


def minima(log_params: FloatArray, loss: FloatArray, interpolant: Interpolant) -> Minima:
    """Return the minimum of each of M curves.

    Args:
        log_params: S increasing log N.
        loss: shape (M, S).
        interpolant: how to draw them.

    """
    fine, fine_loss = interpolant.curve(log_params, loss)
    best = np.argmin(fine_loss, axis=1)
    at_edge = (best == 0) | (best == FINE - 1)
    inside = np.clip(best, 1, FINE - 2)
    rows = np.arange(len(loss))
    left, middle, right = (fine_loss[rows, inside + shift] for shift in (-1, 0, 1))
    bend = left - 2.0 * middle + right
    # The parabola through the three finest neighbours; at an edge there is nothing to refine.
    with np.errstate(invalid="ignore", divide="ignore"):
        shift = np.where(at_edge | (bend <= 0), 0.0, 0.5 * (left - right) / bend)
    step = fine[1] - fine[0]
    lowest = np.where(at_edge, fine_loss[rows, best], middle - 0.25 * (left - right) * shift)
    return Minima(np.where(at_edge, fine[best], fine[inside] + shift * step), lowest, at_edge)


def interpolation_bias(
    log_params: FloatArray, interpolant: Interpolant, alpha: float = 0.34, beta: float = 0.28
) -> float:
    """Return by which part D_opt is off at these sizes on a surface without noise.

    At a fixed budget L - E is proportional to exp(-alpha u) / alpha + exp(beta u) / beta with
    u = log(N / N_opt), whatever the budget; so the error is the same at every budget.

    Args:
        log_params: log (N / N_opt) of the sizes, increasing, shape (S,).
        interpolant: how to draw the curve.
        alpha: the surface's exponent of N; Hoffmann et al. 2022 by default.
        beta: its exponent of D.

    Returns:
        E.g. -0.013: D_opt is 1.3 % too small, N_opt as much too large.

    """
    loss = np.exp(-alpha * log_params) / alpha + np.exp(beta * log_params) / beta
    return float(np.expm1(-minima(log_params, loss[None], interpolant).log_params[0]))
