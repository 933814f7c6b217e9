"""What a joint fit reads of its points: centred logarithms, weights and runs, checked once."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from service.scaling.joint_laws import PARAM_NAMES, FloatArray
from service.scaling.points import Points
from trainers.errors import ScalingError, nearest

MIN_SIZES = {"chinchilla": 3, "repeated_data": 3, "kaplan": 2}
"""Different N, and different D, without which a law's exponents are arbitrary."""


@dataclass(frozen=True, kw_only=True)
class Design:
    """P points as arrays of shape (P,).

    Logarithms of N and D are centred, because then a scale (A, B) and its exponent are nearly
    independent; uncentred their correlation is above 0.999, and descents crawl.
    """

    log_params: FloatArray
    """log N - `mean_log_params`."""
    log_tokens: FloatArray
    """log D - `mean_log_tokens`."""
    mean_log_params: float
    mean_log_tokens: float
    log_loss: FloatArray
    weight: FloatArray
    run: NDArray[np.intp]
    """Number of the point's run, 0 to R - 1."""
    log_unique: FloatArray | None = None
    """log U - `mean_log_tokens`, U <= D; for the law of repeated data."""

    @property
    def num_points(self) -> int:
        """P."""
        return len(self.log_loss)

    @property
    def num_runs(self) -> int:
        """R."""
        return int(self.run.max()) + 1

    @property
    def repeats(self) -> FloatArray:
        """Return D / U - 1 of each point."""
        assert self.log_unique is not None, "only the law of repeated data asks for repeats"
        return np.asarray(np.expm1(self.log_tokens - self.log_unique), dtype=float)

    def rows(self, keep: NDArray[np.intp]) -> Design:
        """Return the points at the positions `keep`, with the same centre."""
        return replace(
            self,
            log_params=self.log_params[keep],
            log_tokens=self.log_tokens[keep],
            log_loss=self.log_loss[keep],
            weight=self.weight[keep],
            run=self.run[keep],
            log_unique=None if self.log_unique is None else self.log_unique[keep],
        )

    def uncentred(self) -> Design:
        """Return the same points in plain logarithms, as published procedures take them."""
        return replace(
            self,
            log_params=self.log_params + self.mean_log_params,
            log_tokens=self.log_tokens + self.mean_log_tokens,
            mean_log_params=0.0,
            mean_log_tokens=0.0,
        )


def design_of(points: Points, law: str, unique_tokens: str | None) -> Design:
    """Return the arrays that `law` reads.

    Args:
        points: of one recipe.
        law: one of `joint_laws.LAWS`.
        unique_tokens: the column of U, for `repeated_data`.

    Raises:
        ScalingError: if the points are fewer than the law's parameters, of several recipes, vary
            too little in N, D or loss, or hold values that are no positive finite numbers; if the
            column of unique tokens is missing, unknown or given to a law that does not read it.

    """
    frame = points.frame
    num_free = len(PARAM_NAMES[law])
    if len(frame) < num_free:
        raise ScalingError(
            f"the law `{law}` has {num_free} parameters, but there are {len(frame)} points; add "
            "points, or fit a law of one variable"
        )
    if len(points.recipes) > 1:
        raise ScalingError(
            "a law is fitted to one recipe at a time, but the points have "
            f"{len(points.recipes)} ({', '.join(points.recipes[:5])}); take one by "
            "points.only(by=...)"
        )
    for column in ("params", "tokens", "loss", "weight"):
        _check_positive(frame, column)
    for column, word in (("params", "model sizes"), ("tokens", "amounts of data")):
        distinct = frame[column].nunique()
        if distinct < MIN_SIZES[law]:
            raise ScalingError(
                f"the law `{law}` needs at least {MIN_SIZES[law]} different {word}, but the points "
                f"have {distinct}; add runs that vary `{column}`"
            )
    if frame["loss"].nunique() == 1:
        raise ScalingError(
            f"a law needs losses that differ, but all {len(frame)} points have "
            f"{frame['loss'].iloc[0]:g}; check which column is the loss"
        )
    log_params = np.log(frame["params"].to_numpy(float))
    log_tokens = np.log(frame["tokens"].to_numpy(float))
    mean_log_tokens = float(log_tokens.mean())
    return Design(
        log_params=log_params - log_params.mean(),
        log_tokens=log_tokens - mean_log_tokens,
        mean_log_params=float(log_params.mean()),
        mean_log_tokens=mean_log_tokens,
        log_loss=np.log(frame["loss"].to_numpy(float)),
        weight=frame["weight"].to_numpy(float),
        run=pd.factorize(frame["run"])[0],
        log_unique=_log_unique(frame, law, unique_tokens, mean_log_tokens),
    )


def _check_positive(frame: pd.DataFrame, column: str) -> None:
    values = frame[column].to_numpy(float)
    bad = ~(np.isfinite(values) & (values > 0))
    if bad.any():
        first = int(np.argmax(bad))
        raise ScalingError(
            f"`{column}` must be positive and finite, but {int(bad.sum())} points are not (first: "
            f"{values[first]} in line {frame['source_line'].iloc[first]}); leave those rows out"
        )


def _log_unique(
    frame: pd.DataFrame, law: str, column: str | None, mean_log_tokens: float
) -> FloatArray | None:
    if law != "repeated_data":
        if column is not None:
            raise ScalingError(
                f"the law `{law}` does not read unique tokens (column `{column}`); fit the law "
                "`repeated_data`, or leave the column out"
            )
        return None
    if column is None:
        raise ScalingError(
            "the law `repeated_data` needs to know how many tokens were unique; name the column "
            "by unique_tokens=..."
        )
    if column not in frame:
        raise ScalingError(
            f"there is no column `{column}`{nearest(column, [str(name) for name in frame.columns])}"
        )
    _check_positive(frame, column)
    log_tokens = np.log(frame["tokens"].to_numpy(float))
    log_unique = np.minimum(np.log(frame[column].to_numpy(float)), log_tokens)
    if not (log_tokens - log_unique > np.log(1.01)).any():
        raise ScalingError(
            f"the law `repeated_data` needs points whose tokens exceed `{column}`, but none "
            "repeats its data; fit the law `chinchilla`"
        )
    return np.asarray(log_unique - mean_log_tokens, dtype=float)
