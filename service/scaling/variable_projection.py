"""Variable projection: the exponents by search, the scales by least squares inside (VPNLS).

For given alpha and beta, L = E + A N^-alpha + B D^-beta is linear in (E, A, B), so non-negative
least squares finds them exactly and only two numbers are searched (Golub and Pereyra 1973;
Open-Athena 2026, arXiv 2603.22339). It has no starts to depend on and is well conditioned, which
makes it a good second opinion on whether log-Huber found its optimum. Its squares of L give
outliers and the highest losses more say, so a gap between the two points at those rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import minimize, nnls

from service.scaling.design import Design
from service.scaling.joint_forms import EXPONENT_LIMIT, ChinchillaForm
from service.scaling.joint_laws import PARAM_NAMES, FloatArray
from service.scaling.log_huber import AT_OPTIMUM, SUBSAMPLE_POINTS, Found
from service.scaling.resampling import as_frame, draw_weights
from trainers.errors import ScalingError

GRID = np.linspace(0.02, 2.0, 24)
"""Exponents tried before the search."""
CORNERS = ((0.2, 0.2), (0.2, 0.7), (0.7, 0.2), (0.7, 0.7))
"""Exponents from which the search is repeated, to see whether it ends at the same minimum."""
_NOTE = "least squares of the loss itself: outliers and high losses weigh most"
_SEARCH: Any = {"xatol": 1e-7, "fatol": 1e-14, "maxiter": 1000}
MAX_REFITTED_POINTS = 2_000_000
"""Points times resamples; beyond, the bootstrap would take minutes."""


@dataclass(frozen=True, kw_only=True)
class ProjectionFit:
    """The least squares fit, and those of resamples of the runs if they were asked for."""

    found: Found
    values: dict[str, float]
    resamples: pd.DataFrame | None


def fit_projection(design: Design, law: str, bootstrap: int, seed: int) -> ProjectionFit:
    """Fit Chinchilla's law by variable projection.

    Args:
        design: the points.
        law: must be `chinchilla`.
        bootstrap: how many resamples of the runs to refit, 0 for none.
        seed: of the resamples.

    Raises:
        ScalingError: if the law is another, or so many resamples of so many points would take
            minutes.

    """
    if law != "chinchilla":
        raise ScalingError(
            f"variable_projection fits the law `chinchilla`, got `{law}`; use log_huber_lbfgsb"
        )
    if bootstrap * design.num_points > MAX_REFITTED_POINTS:
        raise ScalingError(
            f"variable_projection refits at most {MAX_REFITTED_POINTS:,} points in all, but "
            f"{bootstrap} resamples of {design.num_points:,} were asked for; use log_huber_lbfgsb"
        )
    rng = np.random.default_rng(seed)
    projection = Projection(design)
    searched, notes = design, [_NOTE]
    if design.num_points > SUBSAMPLE_POINTS:
        searched = design.rows(
            np.sort(rng.choice(design.num_points, SUBSAMPLE_POINTS, replace=False))
        )
        notes.append(
            f"searched on {SUBSAMPLE_POINTS:,} of {design.num_points:,} points drawn at random, "
            "and from the best once more on all; the share of searches is the subsample's"
        )
    ends = [Projection(searched).fit(searched.weight, start) for start in (None, *CORNERS)]
    row, squares = min(ends, key=lambda end: end[1])
    limit = squares * (1.0 + AT_OPTIMUM) + 1e-18 * float(searched.weight.sum())
    share = float(np.mean([end[1] <= limit for end in ends]))
    if searched is not design:
        row, squares = projection.fit(design.weight, row[3:])
    resamples = None
    if bootstrap:
        weights = draw_weights(design, bootstrap, rng)
        rows = np.array([projection.fit(weight, row[3:])[0] for weight in weights])
        resamples = as_frame(law, {name: rows[:, k] for k, name in enumerate(PARAM_NAMES[law])})
    values = dict(zip(PARAM_NAMES[law], (float(value) for value in row), strict=True))
    warnings = _about_searches(share, len(ends))
    found = Found(
        theta=ChinchillaForm(design).theta(values),
        objective=squares,
        num_starts=len(ends),
        converged_share=share,
        converged=not warnings,
        warnings=warnings,
        notes=tuple(notes),
    )
    return ProjectionFit(found=found, values=values, resamples=resamples)


def _about_searches(share: float, num: int) -> tuple[str, ...]:
    if share > 0.5:
        return ()
    return (
        f"{num - round(share * num)} of {num} searches ended elsewhere, so there may be a better "
        "minimum; compare with log_huber_lbfgsb",
    )


class Projection:
    """Weighted squares of the loss over (alpha, beta), with the best E, A and B inside."""

    def __init__(self, design: Design) -> None:
        self._log_params, self._log_tokens = design.log_params, design.log_tokens
        self._mean_log_params = design.mean_log_params
        self._mean_log_tokens = design.mean_log_tokens
        self._loss = np.exp(design.log_loss)

    def fit(
        self, weight: FloatArray, start: Sequence[float] | FloatArray | None = None
    ) -> tuple[FloatArray, float]:
        """Return (E, A, B, alpha, beta) and the sum of squares at the minimum.

        Args:
            weight: of each point, shape (P,).
            start: (alpha, beta) to search from; the best of a 24 x 24 grid by default.

        """
        if start is None:
            start = self._best_on_grid(weight)

        def squares_at(pair: FloatArray) -> float:
            return self._inside(pair, weight)[1]

        found = minimize(
            squares_at,
            np.array(start, dtype=np.float64),
            method="Nelder-Mead",
            bounds=[(-EXPONENT_LIMIT, EXPONENT_LIMIT)] * 2,
            options=_SEARCH,
        )
        scales, squares = self._inside(found.x, weight)
        alpha, beta = (float(exponent) for exponent in found.x)
        values = np.array(
            [
                scales[0],
                scales[1] * np.exp(alpha * self._mean_log_params),
                scales[2] * np.exp(beta * self._mean_log_tokens),
                alpha,
                beta,
            ]
        )
        return values, squares

    def _inside(self, pair: FloatArray, weight: FloatArray) -> tuple[FloatArray, float]:
        """Return the best centred scales for (alpha, beta), and their sum of squares."""
        alpha, beta = pair
        terms = np.stack(
            [
                np.ones_like(self._loss),
                np.exp(-alpha * self._log_params),
                np.exp(-beta * self._log_tokens),
            ]
        )
        scales = _non_negative((terms * weight) @ terms.T, terms @ (weight * self._loss))
        residual = scales @ terms - self._loss
        return scales, float(weight @ residual**2)

    def _best_on_grid(self, weight: FloatArray) -> FloatArray:
        """Return the best pair of exponents; all Gram matrices come from one product each."""
        of_n = np.exp(-GRID[:, None] * self._log_params)  # (G, P)
        of_d = np.exp(-GRID[:, None] * self._log_tokens)
        weighted_n, weighted_d = of_n * weight, of_d * weight
        crossed = weighted_n @ of_d.T
        n_n, d_d = (weighted_n * of_n).sum(1), (weighted_d * of_d).sum(1)
        n_one, d_one = weighted_n.sum(1), weighted_d.sum(1)
        n_loss, d_loss = weighted_n @ self._loss, weighted_d @ self._loss
        total, loss = float(weight.sum()), float(weight @ self._loss)
        squares = np.empty_like(crossed)
        for i in range(len(GRID)):
            for j in range(len(GRID)):
                gram = np.array(
                    [
                        [total, n_one[i], d_one[j]],
                        [n_one[i], n_n[i], crossed[i, j]],
                        [d_one[j], crossed[i, j], d_d[j]],
                    ]
                )
                target = np.array([loss, n_loss[i], d_loss[j]])
                scales = _non_negative(gram, target)
                squares[i, j] = scales @ gram @ scales - 2 * scales @ target
        best = np.unravel_index(int(np.argmin(squares)), squares.shape)
        return GRID[np.array(best)]


def _non_negative(gram: FloatArray, target: FloatArray) -> FloatArray:
    """Minimise s' gram s - 2 s' target over s >= 0."""
    # Scaled to a unit diagonal, with a ridge, the factor exists however alike two terms are.
    unit = np.sqrt(np.diag(gram))
    root = np.linalg.cholesky(gram / np.outer(unit, unit) + 1e-13 * np.eye(3))
    return np.asarray(nnls(root.T, np.linalg.solve(root, target / unit))[0] / unit)
