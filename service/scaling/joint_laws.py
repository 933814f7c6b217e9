"""Joint laws L(N, D): what they predict, and which N and D they advise for a compute budget.

    chinchilla      L = E + A / N^alpha + B / D^beta              Hoffmann et al. 2022, eq. 2
    repeated_data   the same over effective tokens D'             Muennighoff et al. 2023, eq. 5
    kaplan          L = ((Nc / N)^(alpha/beta) + Dc / D)^beta     Kaplan et al. 2020, eq. 1.5

Notation: N parameters, D tokens seen, U unique tokens among them, k FLOPs per parameter and token
(6 by default), C = k N D. In all three the best N grows as C^a with a = beta / (alpha + beta), for
repeated data as long as tokens are not repeated.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar

from trainers.errors import ScalingError, nearest

FloatArray = NDArray[np.float64]

PARAM_NAMES: Mapping[str, tuple[str, ...]] = {
    "chinchilla": ("E", "A", "B", "alpha", "beta"),
    "repeated_data": ("E", "A", "B", "alpha", "beta", "repeats_decay"),
    "kaplan": ("Nc", "Dc", "alpha", "beta"),
}
"""The free parameters of each law, as they are reported."""

LAWS = tuple(PARAM_NAMES)


def check_law(law: str) -> None:
    """Raise ScalingError, naming the nearest, unless `law` is one of `LAWS`."""
    if law not in LAWS:
        raise ScalingError(
            f"a joint law must be one of {', '.join(LAWS)}, got `{law}`" + nearest(str(law), LAWS)
        )


def effective_tokens(
    tokens: ArrayLike, unique_tokens: ArrayLike, repeats_decay: ArrayLike
) -> FloatArray:
    """Return D' = U + U R (1 - exp(-r / R)) with r = D / U - 1 repeats.

    Muennighoff et al. 2023, eq. 5 (their R*_D is `repeats_decay`; 15.4 on C4): a repeated
    token is worth less with every repeat, and no number of repeats is worth more than U R.

    Args:
        tokens: D, tokens seen.
        unique_tokens: U; where it exceeds D nothing is repeated.
        repeats_decay: R, the repeats after which a repeat is worth 1/e of a fresh token.

    """
    seen = np.asarray(tokens, dtype=float)
    unique = np.minimum(seen, np.asarray(unique_tokens, dtype=float))
    decay = np.asarray(repeats_decay, dtype=float)
    worth = 1.0 - decay * np.expm1(-(seen / unique - 1.0) / decay)
    return np.asarray(unique * worth, dtype=float)


def predict_loss(
    law: str,
    values: Mapping[str, float],
    params: ArrayLike,
    tokens: ArrayLike,
    unique_tokens: ArrayLike | None = None,
) -> FloatArray:
    """Return L(N, D), broadcast over `params` and `tokens`.

    Args:
        law: one of `LAWS`.
        values: the law's parameters (`PARAM_NAMES`).
        params: N.
        tokens: D.
        unique_tokens: U, for `repeated_data`; None means that nothing is repeated.

    Raises:
        ScalingError: if unique tokens are given to a law that does not read them.

    """
    num_params, seen = np.asarray(params, dtype=float), np.asarray(tokens, dtype=float)
    if unique_tokens is not None:
        if law != "repeated_data":
            raise ScalingError(
                f"the law `{law}` does not read unique tokens; fit the law `repeated_data`"
            )
        seen = effective_tokens(seen, unique_tokens, values["repeats_decay"])
    alpha, beta = values["alpha"], values["beta"]
    if law == "kaplan":
        ratio = (values["Nc"] / num_params) ** (alpha / beta) + values["Dc"] / seen
        return np.asarray(ratio**beta, dtype=float)
    loss = values["E"] + values["A"] * num_params**-alpha + values["B"] * seen**-beta
    return np.asarray(loss, dtype=float)


def best_params(
    law: str,
    values: Mapping[str, float],
    flops: ArrayLike,
    flops_per_param_token: float,
    unique_tokens: float | None = None,
) -> FloatArray:
    """Return the N that minimises L(N, C / (k N)) at each budget C.

    Closed forms (Hoffmann et al. 2022, eq. 4; for Kaplan's law by the same derivative), except
    with a limit on unique tokens, where log N is searched by Brent's method.

    Raises:
        ScalingError: if the law has no minimum at a fixed budget.

    """
    budgets = np.asarray(flops, dtype=float)
    alpha, beta = values["alpha"], values["beta"]
    if not (alpha > 0 and beta > 0):
        raise ScalingError(
            "an optimal size needs a loss that falls with both parameters and tokens, but the fit "
            f"has alpha = {alpha:.3g} and beta = {beta:.3g}; add runs that vary both more widely"
        )
    if law == "kaplan":
        ratio = alpha / beta
        log_best = np.log(ratio / flops_per_param_token) + ratio * np.log(values["Nc"])
        log_best = (log_best + np.log(budgets) - np.log(values["Dc"])) / (1.0 + ratio)
    else:
        if not (values["A"] > 0 and values["B"] > 0):
            raise ScalingError(
                "an optimal size needs A > 0 and B > 0, but the fit has "
                f"A = {values['A']:.3g} and B = {values['B']:.3g}; add runs that vary both "
                "parameters and tokens more widely"
            )
        log_share = np.log(alpha * values["A"]) - np.log(beta * values["B"])
        log_best = log_share + beta * np.log(budgets / flops_per_param_token)
        log_best = log_best / (alpha + beta)
    if unique_tokens is None:
        return np.asarray(np.exp(log_best), dtype=float)
    return _search(law, values, budgets, flops_per_param_token, unique_tokens, log_best)


def _search(
    law: str,
    values: Mapping[str, float],
    budgets: FloatArray,
    flops_per_param_token: float,
    unique_tokens: float,
    log_unlimited: FloatArray,
) -> FloatArray:
    """Return the best N under a limit on unique tokens, never below the unlimited one."""

    def best(budget: float, log_low: float) -> float:
        def loss(log_params: float) -> float:
            size = np.exp(log_params)
            seen = budget / (flops_per_param_token * size)
            return float(predict_loss(law, values, size, seen, unique_tokens))

        # Repeats devalue tokens only, so the best model is larger than without a limit, and it is
        # never worth so many parameters that tokens are not even seen once.
        log_once = np.log(budget / (flops_per_param_token * unique_tokens))
        if log_once <= log_low:
            return float(np.exp(log_low))
        return float(np.exp(minimize_scalar(loss, bounds=(log_low, log_once), method="bounded").x))

    pairs = zip(np.ravel(budgets), np.ravel(log_unlimited), strict=True)
    return np.array([best(budget, low) for budget, low in pairs]).reshape(np.shape(budgets))
