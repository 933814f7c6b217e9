"""The law of a hyperparameter: how its best value moves with model size and budget.

    ln value* = k + p ln N + q ln C

as Kaplan et al. 2020 (section 5.1, batch size) and Bi et al. 2024 (DeepSeek LLM, section 3.1,
learning rate and batch size over C) fit it. Where N and C do not vary independently, one of them
is left out and the law says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from service.scaling.tuned_optima import tuned_optima
from trainers.errors import ScalingError

FloatArray = NDArray[np.float64]

NUM_BOOTSTRAPS = 400
AXES = ("params", "flops")
COLLINEAR = 0.99
"""ln N and ln C of the optima that correlate beyond this are one axis."""
WELL_POSED = 1e8
"""Condition of a draw's normal equations beyond which it has lost an axis."""


@dataclass(frozen=True, kw_only=True)
class HyperparameterLaw:
    """The fitted law of one hyperparameter."""

    path: str
    """E.g. `optimizer.lr`."""
    log_scale: float
    """k."""
    exponents: Mapping[str, float]
    """p (`params`) and q (`flops`); only those that the optima can tell."""
    optima: pd.DataFrame
    """One row per size and budget (see `tuned_optima`), with `predicted` and `used`: optima at an
    edge of what was tried are not used."""
    draws: pd.DataFrame
    """One row per resample of the optima: `log_scale` and the exponents."""
    noise: float
    """Standard deviation of ln value* about the law."""
    heldout_rmse: float
    """Of ln value*, at larger sizes and budgets predicted from smaller; NaN where none could be."""
    naive_rmse: float
    """The same for carrying the value at the largest smaller budget forward."""
    num_heldout: int
    confidence: float
    notes: tuple[str, ...]

    def interval(self, confidence: float | None = None) -> pd.DataFrame:
        """Return `value`, `low` and `high` of each exponent over resampled optima."""
        tail = 50.0 * (1.0 - (self.confidence if confidence is None else confidence))
        rows = {
            name: (value, *np.percentile(self.draws[name], [tail, 100.0 - tail]))
            for name, value in self.exponents.items()
        }
        return pd.DataFrame.from_dict(rows, orient="index", columns=["value", "low", "high"])

    def predict(self, params: ArrayLike, flops: ArrayLike) -> pd.DataFrame:
        """Return the best value at Q sizes and budgets, with the interval of a new optimum.

        Args:
            params: N, shape (Q,).
            flops: C, shape (Q,).

        Returns:
            Columns `params`, `flops`, `value`, `low`, `high`.

        """
        places, design, centre = self._centre(params, flops)
        drawn = self.draws[["log_scale", *self.exponents]].to_numpy(float) @ design.T
        # New optima scatter about the law as the old ones do: the same quantiles at each place.
        noise = self.noise * np.random.default_rng(0).standard_normal((len(drawn), 1))
        tail = 50.0 * (1.0 - self.confidence)
        low, high = np.percentile(drawn + noise, [tail, 100.0 - tail], axis=0)
        return places.assign(
            value=np.exp(centre),
            low=np.exp(np.minimum(low, centre)),
            high=np.exp(np.maximum(high, centre)),
        )

    def value(self, params: float, flops: float) -> float:
        """Return the best value at one size and budget, without an interval."""
        return float(np.exp(self._centre(params, flops)[2][0]))

    def _centre(
        self, params: ArrayLike, flops: ArrayLike
    ) -> tuple[pd.DataFrame, FloatArray, FloatArray]:
        """Return Q places, their design (Q, 1 + axes), and ln value there, shape (Q,)."""
        places = pd.DataFrame(
            {
                "params": np.atleast_1d(np.asarray(params, dtype=float)),
                "flops": np.atleast_1d(np.asarray(flops, dtype=float)),
            }
        )
        design = _design(places, list(self.exponents))
        return places, design, design @ np.array([self.log_scale, *self.exponents.values()])

    @property
    def sentence(self) -> str:
        """The law in one line."""
        table = self.interval()
        parts = [
            f"{'N' if name == 'params' else 'C'}^{row['value']:.2f} "
            f"({100 * self.confidence:.0f} %: {row['low']:.2f} to {row['high']:.2f})"
            for name, row in table.iterrows()
        ]
        used = int(self.optima["used"].sum())
        checked = ""
        if self.num_heldout:
            checked = (
                f"; larger ones were predicted within a factor {np.exp(self.heldout_rmse):.2f} "
                f"(carried forward: {np.exp(self.naive_rmse):.2f})"
            )
        return f"the best {self.path} goes as {' x '.join(parts)} over {used} optima{checked}"

    def to_mapping(self) -> dict[str, Any]:
        """Return what a machine-readable report holds."""
        table = self.interval()
        return {
            "path": self.path,
            "log_scale": self.log_scale,
            "exponents": dict(self.exponents),
            "confidence": self.confidence,
            "intervals": {
                str(name): {"low": float(row["low"]), "high": float(row["high"])}
                for name, row in table.iterrows()
            },
            "noise": self.noise,
            "heldout_rmse": self.heldout_rmse,
            "naive_rmse": self.naive_rmse,
            "num_heldout": self.num_heldout,
            "num_at_edge": int((self.optima["at_edge"] != "").sum()),
            "optima": self.optima.to_dict("records"),
            "notes": list(self.notes),
        }


def fit_hyperparameter(
    trials: pd.DataFrame,
    path: str = "optimizer.lr",
    *,
    others: Sequence[str] = (),
    budget: str = "budget_flops",
    axes: Sequence[str] = AXES,
    confidence: float = 0.9,
    bootstrap: int = NUM_BOOTSTRAPS,
    seed: int = 0,
) -> HyperparameterLaw:
    """Fit the law of one hyperparameter to tuning trials of one recipe.

    Args:
        trials: one row per tuning trial; see `tuned_optima`.
        path: the hyperparameter's column.
        others: other tuned columns; see `tuned_optima`.
        budget: the column of the budget in FLOP.
        axes: `params`, `flops` or both: what the law may be over.
        confidence: of intervals.
        bootstrap: how many resamples of the optima.
        seed: of the resamples.

    Raises:
        ScalingError: if a column is missing, or the optima inside what was tried are too few, or
            all at one size and budget.

    """
    optima = tuned_optima(trials, path, others=others, budget=budget)
    used = (optima["at_edge"] == "").to_numpy(bool)
    inside = optima[used].reset_index(drop=True)
    axes, notes = _axes(inside, axes)
    if not axes or len(inside) < len(axes) + 2:
        need = max(len(axes), 1) + 2
        raise ScalingError(
            f"a law of `{path}` needs {need} optima inside what was tried, at different sizes or "
            f"budgets, but there are {len(inside)} ({int((~used).sum())} more at an edge); tune at "
            "more sizes, or over a wider range"
        )
    if (~used).any():
        notes.append(f"{int((~used).sum())} of {len(used)} optima lie at an edge of what was tried "
                     "and are left out: the best may lie beyond")  # fmt: skip
    design, target = _design(inside, axes), np.log(inside["value"].to_numpy(float))
    solved, misses = _least_squares(design, target)
    heldout = _heldout(inside, axes)
    free = len(target) - len(solved)
    optima["predicted"] = np.exp(_design(optima, axes) @ solved)
    optima["used"] = used
    return HyperparameterLaw(
        path=path,
        log_scale=float(solved[0]),
        exponents={name: float(value) for name, value in zip(axes, solved[1:], strict=True)},
        optima=optima,
        draws=_resampled(design, target, axes, bootstrap, seed),
        noise=float(np.sqrt(np.sum(misses**2) / free)),
        heldout_rmse=_rms(heldout["error"]),
        naive_rmse=_rms(heldout["naive_error"]),
        num_heldout=len(heldout),
        confidence=confidence,
        notes=tuple(notes),
    )


def _axes(inside: pd.DataFrame, asked: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return which of N and C the optima can tell apart, and what was left out."""
    varying = [name for name in asked if inside[name].nunique() > 1]
    if len(varying) < 2:
        fixed = [name for name in asked if name not in varying]
        told = [f"all optima have the same {name}: the law cannot say how it matters"
                for name in fixed] if varying else []  # fmt: skip
        return varying, told
    together = np.corrcoef(np.log(inside["params"]), np.log(inside["flops"]))[0, 1]
    if abs(together) > COLLINEAR:
        return ["params"], ["budgets grow with sizes: the law is over params, and holds along that "
                            "line only"]  # fmt: skip
    if len(inside) < len(varying) + 2:
        return ["params"], ["too few optima for two exponents: the law is over params only"]
    return varying, []


def _design(table: pd.DataFrame, axes: Sequence[str]) -> FloatArray:
    """Return (1, ln N, ln C) of each row, as far as they are axes: shape (rows, 1 + axes)."""
    columns = [np.ones(len(table)), *(np.log(table[name].to_numpy(float)) for name in axes)]
    return np.stack(columns, axis=1)


def _least_squares(design: FloatArray, target: FloatArray) -> tuple[FloatArray, FloatArray]:
    solved, *_ = np.linalg.lstsq(design, target, rcond=None)
    return np.asarray(solved, dtype=float), np.asarray(target - design @ solved, dtype=float)


def _resampled(
    design: FloatArray, target: FloatArray, axes: Sequence[str], bootstrap: int, seed: int
) -> pd.DataFrame:
    """Refit the law to optima drawn with replacement; draws that lose an axis do not count.

    All draws are solved together, by the normal equations about the middle of the optima.
    """
    rng = np.random.default_rng(seed)
    num_optima, num_free = design.shape
    # Three optima of two sizes lose an axis in a quarter of their draws.
    chosen = rng.integers(num_optima, size=(3 * bootstrap, num_optima))
    counts = (chosen[:, :, None] == np.arange(num_optima)).sum(axis=1)
    middle = design.mean(axis=0) * (np.arange(num_free) > 0)
    about = design - middle
    normal = np.einsum("bi,ij,ik->bjk", counts, about, about)
    seen = np.flatnonzero(np.linalg.cond(normal) < WELL_POSED)[:bootstrap]
    solved = np.linalg.solve(normal[seen], ((counts[seen] * target) @ about)[:, :, None])[:, :, 0]
    solved[:, 0] -= solved @ middle
    return pd.DataFrame(solved, columns=["log_scale", *axes])


def _heldout(inside: pd.DataFrame, axes: Sequence[str]) -> pd.DataFrame:
    """Predict optima from those at smaller N and C only; the naive way carries the last forward."""
    order = inside.sort_values(["flops", "params"], ignore_index=True)
    rows = []
    for at in range(len(order)):
        row = order.iloc[at]
        below = order[
            (order["flops"] <= row["flops"])
            & (order["params"] <= row["params"])
            & ((order["flops"] < row["flops"]) | (order["params"] < row["params"]))
        ]
        known = _design(below, axes)
        # One more than the parameters: through as many points every law passes exactly.
        if len(below) < len(axes) + 2 or np.linalg.matrix_rank(known) < len(axes) + 1:
            continue
        solved, _ = _least_squares(known, np.log(below["value"].to_numpy(float)))
        actual = float(np.log(row["value"]))
        guess = float((_design(order.iloc[[at]], axes) @ solved)[0])
        rows.append((actual - guess, actual - float(np.log(below["value"].iloc[-1]))))
    return pd.DataFrame(rows, columns=["error", "naive_error"])


def _rms(errors: pd.Series) -> float:
    return float(np.sqrt(np.mean(np.square(errors)))) if len(errors) else float("nan")
