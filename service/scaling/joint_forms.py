"""Joint laws in the coordinates of a fit: log L with its first and second derivatives, in batches.

Notation:
    M   problems solved together: starts, or resamples
    P   points
    K   free coordinates of the law
    theta   coordinates, shape (M, K); the form says which they are
    x, y    centred log N and log D, shape (P,)
    s_k     share of term k in the predicted loss, shape (M, P)

Each loss is a sum of terms exp(z_k) with z linear in theta, so log L = logsumexp(z): its gradient
is sum_k s_k dz_k, and its second derivative sum_k s_k dz_k dz_k' minus the gradient's square.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from service.scaling.design import Design
from service.scaling.joint_laws import FloatArray

_FLAT = 1e-300
"""Least scale whose logarithm is taken."""
EXPONENT_LIMIT = 5.0
"""Points that ask for a larger exponent show a step, not a power law."""


class Form(Protocol):
    """One law over the points of one design."""

    num_free: int
    """K."""
    bounds: FloatArray
    """Lowest and highest of each coordinate, shape (K, 2); an end there determines nothing."""

    def log_loss(self, theta: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return predicted log L, shape (M, P), and its gradient, shape (M, K, P)."""
        ...

    def curvature(
        self, theta: FloatArray, log_loss: FloatArray, gradient: FloatArray, pull: FloatArray
    ) -> FloatArray:
        """Return sum_i pull_i (second derivative of log L at point i), shape (M, K, K).

        Args:
            theta: shape (M, K).
            log_loss: as `log_loss` gave it there, (M, P).
            gradient: as `log_loss` gave it there, (M, K, P).
            pull: weights of the points, shape (M, P).

        """
        ...

    def starts(self, num: int, rng: np.random.Generator) -> FloatArray:
        """Return `num` plausible coordinates, shape (num, K)."""
        ...

    def values(self, theta: FloatArray) -> dict[str, FloatArray]:
        """Return the law's parameters as they are reported, each of shape (M,)."""
        ...

    def theta(self, values: Mapping[str, float]) -> FloatArray:
        """Return the coordinates of reported parameters, shape (K,)."""
        ...


def _squares(gradient: FloatArray, pull: FloatArray) -> FloatArray:
    """Return sum_i pull_i g_i g_i' for gradients (M, K, P): shape (M, K, K)."""
    return np.asarray((gradient * pull[:, None]) @ gradient.transpose(0, 2, 1), dtype=float)


class ChinchillaForm:
    """theta = (log E, a, alpha, b, beta) with terms e, a - alpha x and b - beta y."""

    num_free = 5
    bounds = np.array(
        [
            (-np.inf, np.inf),
            (-np.inf, np.inf),
            (-EXPONENT_LIMIT, EXPONENT_LIMIT),
            (-np.inf, np.inf),
            (-EXPONENT_LIMIT, EXPONENT_LIMIT),
        ]
    )

    def __init__(self, design: Design) -> None:
        self.design = design

    def log_loss(self, theta: FloatArray) -> tuple[FloatArray, FloatArray]:
        """See `Form`."""
        x, y = self.design.log_params, self.design.log_tokens
        total, (s_e, s_a, s_b) = _logsumexp(
            np.broadcast_to(theta[:, 0, None], (len(theta), len(x))),
            theta[:, 1, None] - theta[:, 2, None] * x,
            theta[:, 3, None] - theta[:, 4, None] * y,
        )
        return total, np.stack([s_e, s_a, -x * s_a, s_b, -y * s_b], axis=1)

    def curvature(
        self, theta: FloatArray, log_loss: FloatArray, gradient: FloatArray, pull: FloatArray
    ) -> FloatArray:
        """See `Form`."""
        second = -_squares(gradient, pull)
        second[:, 0, 0] += (pull * gradient[:, 0]).sum(axis=1)
        for k, u in ((1, self.design.log_params), (3, self.design.log_tokens)):
            share = pull * gradient[:, k]
            second[:, k, k] += share.sum(axis=1)
            second[:, k, k + 1] -= share @ u
            second[:, k + 1, k] -= share @ u
            second[:, k + 1, k + 1] += share @ (u * u)
        return second

    def starts(self, num: int, rng: np.random.Generator) -> FloatArray:
        """Draw E below the lowest loss, and A's and B's terms as parts of it at the centre."""
        lowest = float(self.design.log_loss.min())
        return np.column_stack(
            [
                lowest + np.log(rng.uniform(0.3, 0.98, num)),
                lowest + np.log(rng.uniform(0.02, 0.5, num)),
                rng.uniform(0.1, 1.0, num),
                lowest + np.log(rng.uniform(0.02, 0.5, num)),
                rng.uniform(0.1, 1.0, num),
            ]
        )

    def published_grid(self) -> FloatArray:
        """Return the 4,500 starts of Hoffmann et al. 2022, section D.2, shape (4500, 5)."""
        scales, exponents = np.arange(0.0, 26.0, 5.0), np.arange(0.0, 2.1, 0.5)
        grid = np.meshgrid(
            np.arange(-1.0, 1.1, 0.5), scales, exponents, scales, exponents, indexing="ij"
        )
        starts = np.stack([axis.ravel() for axis in grid], axis=1)
        starts[:, 1] -= starts[:, 2] * self.design.mean_log_params
        starts[:, 3] -= starts[:, 4] * self.design.mean_log_tokens
        return starts

    def values(self, theta: FloatArray) -> dict[str, FloatArray]:
        """See `Form`."""
        e, a, alpha, b, beta = theta.T[:5]
        with np.errstate(over="ignore", under="ignore"):
            return {
                "E": np.exp(e),
                "A": np.exp(a + alpha * self.design.mean_log_params),
                "B": np.exp(b + beta * self.design.mean_log_tokens),
                "alpha": alpha,
                "beta": beta,
            }

    def theta(self, values: Mapping[str, float]) -> FloatArray:
        """See `Form`."""
        alpha, beta = values["alpha"], values["beta"]
        with np.errstate(divide="ignore"):
            e, a, b = np.log([values["E"], values["A"], values["B"]])
        return np.array(
            [
                max(e, np.log(_FLAT)),
                max(a, np.log(_FLAT)) - alpha * self.design.mean_log_params,
                alpha,
                max(b, np.log(_FLAT)) - beta * self.design.mean_log_tokens,
                beta,
            ]
        )


class RepeatedDataForm(ChinchillaForm):
    """As `ChinchillaForm` over effective tokens; theta has log R behind."""

    num_free = 6
    bounds = np.vstack([ChinchillaForm.bounds, [(-10.0, 15.0)]])

    def __init__(self, design: Design) -> None:
        super().__init__(design)
        assert design.log_unique is not None, "design_of checks that unique tokens are known"
        self._log_unique, self._repeats = design.log_unique, design.repeats

    def log_loss(self, theta: FloatArray) -> tuple[FloatArray, FloatArray]:
        """See `Form`."""
        x = self.design.log_params
        beta = theta[:, 4, None]
        y, slope, _ = self._effective(theta[:, 5, None])
        total, (s_e, s_a, s_b) = _logsumexp(
            np.broadcast_to(theta[:, 0, None], (len(theta), len(x))),
            theta[:, 1, None] - theta[:, 2, None] * x,
            theta[:, 3, None] - beta * y,
        )
        parts = [s_e, s_a, -x * s_a, s_b, -y * s_b, -beta * slope * s_b]
        return total, np.stack(parts, axis=1)

    def curvature(
        self, theta: FloatArray, log_loss: FloatArray, gradient: FloatArray, pull: FloatArray
    ) -> FloatArray:
        """See `Form`; the term of D bends in log R as well."""
        second = -_squares(gradient, pull)
        x, beta = self.design.log_params, theta[:, 4, None]
        y, slope, bend = self._effective(theta[:, 5, None])
        second[:, 0, 0] += (pull * gradient[:, 0]).sum(axis=1)
        of_n, of_d = pull * gradient[:, 1], pull * gradient[:, 3]
        flat = np.ones_like(y)
        for share, first, slopes in (
            (of_n, 1, [np.ones_like(of_n), np.broadcast_to(-x, of_n.shape)]),
            (of_d, 3, [flat, -y, -beta * slope]),
        ):
            for i, one in enumerate(slopes):
                for j, other in enumerate(slopes):
                    second[:, first + i, first + j] += (share * one * other).sum(axis=1)
        mixed = (of_d * slope).sum(axis=1)
        second[:, 4, 5] -= mixed
        second[:, 5, 4] -= mixed
        second[:, 5, 5] -= (of_d * beta * bend).sum(axis=1)
        return second

    def _effective(self, log_decay: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return centred log D' and its first two derivatives by log R, each (M, P)."""
        decay = np.exp(np.clip(log_decay, -30.0, 30.0))
        turns = self._repeats / decay
        left = self._repeats * np.exp(-turns)
        worth = -decay * np.expm1(-turns)
        slope = (worth - left) / (1.0 + worth)
        bend = (worth - left * (1.0 + turns)) / (1.0 + worth) - slope * slope
        return self._log_unique + np.log1p(worth), slope, bend

    def starts(self, num: int, rng: np.random.Generator) -> FloatArray:
        """Draw as for Chinchilla, and R between 1 and 50 repeats."""
        log_decay = rng.uniform(0.0, np.log(50.0), num)
        return np.column_stack([super().starts(num, rng), log_decay])

    def values(self, theta: FloatArray) -> dict[str, FloatArray]:
        """See `Form`."""
        return {**super().values(theta), "repeats_decay": np.exp(theta[:, 5])}

    def theta(self, values: Mapping[str, float]) -> FloatArray:
        """See `Form`."""
        return np.append(super().theta(values), np.log(values["repeats_decay"]))


class KaplanForm:
    """theta = (u, rho, v, log beta) with log L = beta logsumexp(u - rho x, v - y)."""

    num_free = 4
    bounds = np.array([(-np.inf, np.inf), (-50.0, 50.0), (-np.inf, np.inf), (-10.0, np.log(5.0))])

    def __init__(self, design: Design) -> None:
        self.design = design

    def log_loss(self, theta: FloatArray) -> tuple[FloatArray, FloatArray]:
        """See `Form`."""
        x, y = self.design.log_params, self.design.log_tokens
        beta = np.exp(theta[:, 3, None])
        total, (s_n, s_d) = _logsumexp(
            theta[:, 0, None] - theta[:, 1, None] * x, theta[:, 2, None] - y
        )
        parts = [beta * s_n, -beta * x * s_n, beta * s_d, beta * total]
        return beta * total, np.stack(parts, axis=1)

    def curvature(
        self, theta: FloatArray, log_loss: FloatArray, gradient: FloatArray, pull: FloatArray
    ) -> FloatArray:
        """See `Form`."""
        x = self.design.log_params
        beta = np.exp(theta[:, 3])
        second = np.zeros((len(theta), 4, 4))
        second[:, :3, :3] = -_squares(gradient[:, :3], pull) / beta[:, None, None]
        share = pull * gradient[:, 0]
        second[:, 0, 0] += share.sum(axis=1)
        second[:, 0, 1] -= share @ x
        second[:, 1, 0] -= share @ x
        second[:, 1, 1] += share @ (x * x)
        second[:, 2, 2] += (pull * gradient[:, 2]).sum(axis=1)
        by_log_beta = np.einsum("mkp,mp->mk", gradient, pull)
        second[:, 3, :] = by_log_beta
        second[:, :, 3] = by_log_beta
        return second

    def starts(self, num: int, rng: np.random.Generator) -> FloatArray:
        """Draw exponents, and which part of the loss is N's at the centre."""
        log_beta = np.log(rng.uniform(0.03, 1.0, num))
        centre = float(np.median(self.design.log_loss)) / np.exp(log_beta)
        share = rng.uniform(0.05, 0.95, num)
        rho = rng.uniform(0.2, 3.0, num)
        return np.column_stack([centre + np.log(share), rho, centre + np.log1p(-share), log_beta])

    def values(self, theta: FloatArray) -> dict[str, FloatArray]:
        """See `Form`."""
        u, rho, v, log_beta = theta.T
        with np.errstate(over="ignore", under="ignore", divide="ignore", invalid="ignore"):
            return {
                "Nc": np.exp(u / rho + self.design.mean_log_params),
                "Dc": np.exp(v + self.design.mean_log_tokens),
                "alpha": rho * np.exp(log_beta),
                "beta": np.exp(log_beta),
            }

    def theta(self, values: Mapping[str, float]) -> FloatArray:
        """See `Form`."""
        rho = values["alpha"] / values["beta"]
        return np.array(
            [
                rho * (np.log(values["Nc"]) - self.design.mean_log_params),
                rho,
                np.log(values["Dc"]) - self.design.mean_log_tokens,
                np.log(values["beta"]),
            ]
        )


def _logsumexp(*terms: FloatArray) -> tuple[FloatArray, list[FloatArray]]:
    """Return the logarithm of the sum of exp(terms), and each term's share; all (M, P)."""
    highest = terms[0]
    for term in terms[1:]:
        highest = np.maximum(highest, term)
    exps = [np.exp(term - highest) for term in terms]
    total = np.add.reduce(exps)
    return np.asarray(highest + np.log(total)), [each / total for each in exps]


FORMS: Mapping[str, type[ChinchillaForm] | type[RepeatedDataForm] | type[KaplanForm]] = {
    "chinchilla": ChinchillaForm,
    "repeated_data": RepeatedDataForm,
    "kaplan": KaplanForm,
}
