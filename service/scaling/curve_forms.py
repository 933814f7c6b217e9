"""Laws of one variable: formulas, coordinates for fitting, and where to start.

    power            y = b x^-c                                              M1
    power_constant   y = e + b x^-c                                          M2
    shifted_power    y = b (1/x + g)^c                                       M3
    saturating       (y - e) / (s - y)^alpha = b x^-c                        M4
    broken_power     y = a + b x^-c0 prod_i (1 + (x / d_i)^(1 / f_i))^(-c_i f_i)

M1 to M4 as in Alabdulmohsin et al. 2022, section 3 (M4's e and s are their error limits for much
and for no data); broken_power is Caballero et al. 2022, eq. 1. Read so they fall with x. What rises
(Elo, accuracy, throughput) has x^c for x^-c in `power`, (1/x + g)^-c in `shifted_power`, e - b x^-c
in `power_constant`, and (e - y) / (y - s)^alpha in `saturating`; `broken_power` does both by signs.

Notation: P points, x and y of shape (P,), theta unconstrained coordinates of shape (K,). A fit sees
x over its geometric mean and y over its median size; `rescaled` takes its parameters back.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

FloatArray = NDArray[np.float64]
Value = float | FloatArray
"""A number, or a column of shape (M, 1) with one for each of M candidates."""
Params = dict[str, Value]

_EXPONENTS = np.geomspace(0.02, 3.0, 12)
_SHIFTS = np.geomspace(1e-4, 1e2, 13)
_BEYOND = (0.02, 0.2, 1.0)
"""Limits are started so many ranges of y beyond what was seen."""
_SHARPNESS = (0.1, 0.5)
_SHARPNESS_RANGE = (0.02, 5.0)
"""Of a break's f: below, a step between two neighbouring points; above, no break at all."""
_ALPHA_RANGE = (0.1, 10.0)
_SPAN_RANGE = (1e-6, 1e3)
"""Of |s - e|, in units of y's median size."""
_LOG_LIMIT = 80.0
"""Positive parameters stay within exp(+-80), so that trial steps do not overflow."""
_NEWTON_STEPS = 40


class CurveForm(Protocol):
    """One law over scaled x and y."""

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters, K of them."""
        ...

    def value(self, params: Mapping[str, Value], x: FloatArray) -> FloatArray:
        """Return y at x, shape (P,); of M candidates at once, shape (M, P)."""
        ...

    def params(self, theta: FloatArray) -> Params:
        """Return the parameters at M unconstrained coordinates, theta (M, K): each (M, 1)."""
        ...

    def starts(self, x: FloatArray, y: FloatArray) -> Iterator[FloatArray]:
        """Yield plausible theta, shape (K,), each linear least squares in all but a few."""
        ...

    def rescaled(
        self, params: Mapping[str, float], x_unit: float, y_unit: float
    ) -> dict[str, float]:
        """Return the parameters of y over x, given those of y / y_unit over x / x_unit."""
        ...


@dataclass(frozen=True)
class Power:
    """y = b x^-c, or b x^c where y rises."""

    increasing: bool
    names = ("b", "c")

    @property
    def _sign(self) -> float:
        return 1.0 if self.increasing else -1.0

    def value(self, params: Mapping[str, Value], x: FloatArray) -> FloatArray:
        """See `CurveForm`."""
        return _power(params["b"], self._sign * params["c"], x)

    def params(self, theta: FloatArray) -> Params:
        """See `CurveForm`."""
        b, c = _columns(theta)
        return {"b": _positive(b), "c": _positive(c)}

    def starts(self, x: FloatArray, y: FloatArray) -> Iterator[FloatArray]:
        """See `CurveForm`."""
        intercept, slope = _line(np.log(x), np.log(y))
        yield np.array([intercept, _log(self._sign * slope)])

    def rescaled(
        self, params: Mapping[str, float], x_unit: float, y_unit: float
    ) -> dict[str, float]:
        """See `CurveForm`."""
        b = y_unit * params["b"] * x_unit ** (-self._sign * params["c"])
        return {"b": b, "c": params["c"]}


@dataclass(frozen=True)
class PowerConstant:
    """y = e + b x^-c, or e - b x^-c where y rises."""

    increasing: bool
    signed: bool
    """Whether e may be negative."""
    names = ("e", "b", "c")

    def value(self, params: Mapping[str, Value], x: FloatArray) -> FloatArray:
        """See `CurveForm`."""
        part = _power(params["b"], -params["c"], x)
        return params["e"] - part if self.increasing else params["e"] + part

    def params(self, theta: FloatArray) -> Params:
        """See `CurveForm`."""
        e, b, c = _columns(theta)
        return {"e": _limit(e, self.signed), "b": _positive(b), "c": _positive(c)}

    def starts(self, x: FloatArray, y: FloatArray) -> Iterator[FloatArray]:
        """See `CurveForm`."""
        for c in _EXPONENTS:
            e, b = _line(x**-c, y)
            b = -b if self.increasing else b
            yield np.array([e if self.signed else _log(e), _log(b), np.log(c)])

    def rescaled(
        self, params: Mapping[str, float], x_unit: float, y_unit: float
    ) -> dict[str, float]:
        """See `CurveForm`."""
        b = y_unit * params["b"] * x_unit ** params["c"]
        return {"e": y_unit * params["e"], "b": b, "c": params["c"]}


@dataclass(frozen=True)
class ShiftedPower:
    """y = b (1/x + g)^c, or b (1/x + g)^-c where y rises."""

    increasing: bool
    names = ("b", "g", "c")

    @property
    def _sign(self) -> float:
        return -1.0 if self.increasing else 1.0

    def value(self, params: Mapping[str, Value], x: FloatArray) -> FloatArray:
        """See `CurveForm`."""
        return _power(params["b"], self._sign * params["c"], 1.0 / x + params["g"])

    def params(self, theta: FloatArray) -> Params:
        """See `CurveForm`."""
        b, g, c = (_positive(column) for column in _columns(theta))
        return {"b": b, "g": g, "c": c}

    def starts(self, x: FloatArray, y: FloatArray) -> Iterator[FloatArray]:
        """See `CurveForm`."""
        for g in _SHIFTS:
            intercept, slope = _line(np.log(1.0 / x + g), np.log(y))
            yield np.array([intercept, np.log(g), _log(self._sign * slope)])

    def rescaled(
        self, params: Mapping[str, float], x_unit: float, y_unit: float
    ) -> dict[str, float]:
        """See `CurveForm`."""
        b = y_unit * params["b"] * x_unit ** (self._sign * params["c"])
        return {"b": b, "g": params["g"] / x_unit, "c": params["c"]}


@dataclass(frozen=True)
class Saturating:
    """(y - e) / (s - y)^alpha = b x^-c; e and s change places in size where y rises."""

    increasing: bool
    signed: bool
    """Whether e may be negative."""
    names = ("e", "s", "alpha", "b", "c")

    @property
    def _sign(self) -> float:
        return -1.0 if self.increasing else 1.0

    def value(self, params: Mapping[str, Value], x: FloatArray) -> FloatArray:
        """Solve for y: with w = (y - e) / (s - e), w / (1 - w)^alpha = b |s - e|^(alpha-1) x^-c."""
        alpha, span = params["alpha"], params["s"] - params["e"]
        with np.errstate(divide="ignore"):
            scale = np.log(params["b"]) + (alpha - 1.0) * np.log(np.abs(span))
        return params["e"] + span * _sigmoid_root(scale - params["c"] * np.log(x), alpha)

    def params(self, theta: FloatArray) -> Params:
        """See `CurveForm`; theta: e, then |s - e| and alpha in their ranges, ln b, ln c."""
        limit, log_span, shape, log_scale, log_c = _columns(theta)
        e, span = _limit(limit, self.signed), _within(log_span, _SPAN_RANGE)
        alpha = _within(shape, _ALPHA_RANGE)
        return {
            "e": e,
            "s": e + self._sign * span,
            "alpha": alpha,
            "b": _positive(log_scale - (alpha - 1.0) * np.log(span)),
            "c": _positive(log_c),
        }

    def starts(self, x: FloatArray, y: FloatArray) -> Iterator[FloatArray]:
        """See `CurveForm`."""
        down = self._sign * y
        span = np.ptp(down) or 1.0
        for below, above, alpha in itertools.product(_BEYOND, _BEYOND, (0.5, 1.0, 2.0)):
            e, s = down.min() - below * span, down.max() + above * span
            if not self.signed:
                e = max(e, 0.5 * down.min())
            w = (down - e) / (s - e)
            scale, slope = _line(np.log(x), np.log(w) - alpha * np.log1p(-w))
            limit = self._sign * e if self.signed else _log(e)
            yield np.array(
                [
                    limit,
                    _inverse_within(s - e, _SPAN_RANGE),
                    _inverse_within(alpha, _ALPHA_RANGE),
                    scale,
                    _log(-slope),
                ]
            )

    def rescaled(
        self, params: Mapping[str, float], x_unit: float, y_unit: float
    ) -> dict[str, float]:
        """See `CurveForm`."""
        b = params["b"] * x_unit ** params["c"] * y_unit ** (1.0 - params["alpha"])
        scaled = {"e": y_unit * params["e"], "s": y_unit * params["s"]}
        return {**scaled, "alpha": params["alpha"], "b": b, "c": params["c"]}


@dataclass(frozen=True)
class BrokenPower:
    """A power law whose exponent changes at each of `breaks` places, smoothly."""

    breaks: int
    signed: bool
    """Whether a may be negative."""
    reach: float
    """Half the range of ln x: a break beyond the data would be an invention."""

    @property
    def names(self) -> tuple[str, ...]:
        """See `CurveForm`."""
        each = [(f"c{i}", f"d{i}", f"f{i}") for i in range(1, self.breaks + 1)]
        return ("a", "b", "c0", *itertools.chain.from_iterable(each))

    def value(self, params: Mapping[str, Value], x: FloatArray) -> FloatArray:
        """See `CurveForm`."""
        log_x = np.log(x)
        log_part = _log_of(params["b"]) - params["c0"] * log_x
        for i in range(1, self.breaks + 1):
            c, d, f = (params[f"{name}{i}"] for name in "cdf")
            log_part = log_part - c * _bend(log_x, np.log(d), f)
        return params["a"] + np.exp(np.clip(log_part, -_LOG_LIMIT, _LOG_LIMIT))

    def params(self, theta: FloatArray) -> Params:
        """See `CurveForm`."""
        columns = _columns(theta)
        found: Params = {
            "a": _limit(columns[0], self.signed),
            "b": _positive(columns[1]),
            "c0": columns[2],
        }
        for i in range(1, self.breaks + 1):
            c, place, sharpness = columns[3 * i : 3 * i + 3]
            found[f"c{i}"] = c
            found[f"d{i}"] = np.exp(self.reach * np.tanh(place))
            found[f"f{i}"] = _within(sharpness, _SHARPNESS_RANGE)
        return found

    def starts(self, x: FloatArray, y: FloatArray) -> Iterator[FloatArray]:
        """See `CurveForm`: with limit, places and sharpness given, ln (y - a) is linear."""
        log_x = np.log(x)
        places = np.quantile(np.unique(log_x), np.linspace(0.1, 0.9, 9 - self.breaks))
        low, span = float(y.min()), float(np.ptp(y)) or 1.0
        limits = [low - part * span for part in _BEYOND] if self.signed else [0.5 * low, 0.0]
        for limit, f, chosen in itertools.product(
            limits, _SHARPNESS, itertools.combinations(places, self.breaks)
        ):
            bends = [-_bend(log_x, place, f) for place in chosen]
            basis = np.stack([np.ones_like(x), -log_x, *bends], axis=1)
            solved, *_ = np.linalg.lstsq(basis, np.log(y - limit), rcond=None)
            rest = [
                (c, np.arctanh(place / self.reach), _inverse_within(f, _SHARPNESS_RANGE))
                for c, place in zip(solved[2:], chosen, strict=True)
            ]
            first = limit if self.signed else _log(limit)
            yield np.array([first, solved[0], solved[1], *itertools.chain.from_iterable(rest)])

    def rescaled(
        self, params: Mapping[str, float], x_unit: float, y_unit: float
    ) -> dict[str, float]:
        """See `CurveForm`."""
        scaled = dict(params)
        scaled["a"] = y_unit * params["a"]
        scaled["b"] = y_unit * params["b"] * x_unit ** params["c0"]
        for i in range(1, self.breaks + 1):
            scaled[f"d{i}"] = x_unit * params[f"d{i}"]
        return scaled


def _columns(theta: FloatArray) -> list[FloatArray]:
    """Split theta (M, K) into K columns of shape (M, 1)."""
    return np.split(theta, theta.shape[1], axis=1)


def _power(scale: Value, exponent: Value, x: FloatArray) -> FloatArray:
    log_value = _log_of(scale) + exponent * np.log(x)
    return np.asarray(np.exp(np.clip(log_value, -4 * _LOG_LIMIT, 4 * _LOG_LIMIT)), dtype=float)


def _positive(theta: FloatArray) -> FloatArray:
    return np.asarray(np.exp(np.clip(theta, -_LOG_LIMIT, _LOG_LIMIT)), dtype=float)


def _within(theta: FloatArray, ends: tuple[float, float]) -> FloatArray:
    """Return numbers between two positive ones, geometrically midway at theta = 0."""
    low, high = np.log(ends)
    return np.asarray(np.exp(low + (high - low) * expit(theta)), dtype=float)


def _inverse_within(value: float, ends: tuple[float, float]) -> float:
    low, high = np.log(ends)
    return float(logit((np.log(value) - low) / (high - low)))


def _limit(theta: FloatArray, signed: bool) -> FloatArray:
    return theta if signed else _positive(theta)


def _log_of(value: Value) -> FloatArray:
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(value), dtype=float)


def _log(value: float) -> float:
    """Return ln of what should be positive; what is not is started as nearly nothing."""
    return float(np.log(max(value, 1e-12)))


def _line(x: FloatArray, y: FloatArray) -> Sequence[float]:
    """Return intercept and slope of y over x by least squares."""
    centred = x - x.mean()
    slope = float(centred @ y / max(float(centred @ centred), 1e-300))
    return float(y.mean()) - slope * float(x.mean()), slope


def _bend(log_x: FloatArray, log_place: Value, sharpness: Value) -> FloatArray:
    """Return f ln (1 + (x / d)^(1/f)): 0 below the break, ln (x / d) above it."""
    turned = np.logaddexp(0.0, (log_x - log_place) / sharpness)
    return np.asarray(sharpness * turned, dtype=float)


def _sigmoid_root(target: FloatArray, alpha: Value) -> FloatArray:
    """Return w in (0, 1) with ln w - alpha ln (1 - w) = target, by Newton's method in logit w.

    The left side is softplus-shaped in z = logit w with slope between min(1, alpha) and
    max(1, alpha), so bracketing it by both slopes bounds each step.
    """
    target = np.clip(target, -500.0, 500.0)
    z = np.where(target > 0, target / alpha, target)
    for _ in range(_NEWTON_STEPS):
        w = expit(z)
        miss = alpha * np.logaddexp(0.0, z) - np.logaddexp(0.0, -z) - target
        step = miss / (1.0 - w + alpha * w)
        z = z - step
        if np.all(np.abs(step) < 1e-12 * (1.0 + np.abs(z))):
            break
    return np.asarray(expit(z), dtype=float)
