"""Points of a scaling study: one trained model per row, from any table.

Notation: N parameters, D tokens, C training FLOPs, L loss. Where one of N, D and C is missing it
follows from C = 6 N D (Kaplan et al. 2020, section 2.1: 2 N D forward, 4 N D backward).
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from service.scaling.columns import canonical, missing_size
from service.scaling.where import rows_where
from trainers.errors import DataError, nearest

FLOPS_PER_PARAM_TOKEN = 6.0


@dataclass(frozen=True, kw_only=True)
class Points:
    """Points of one or several recipes, ready to fit.

    Build them by `from_csv` or `from_frame`, which check every row.
    """

    frame: pd.DataFrame
    """One row per point. Columns: `run` (text; rows of one run are correlated and are resampled
    together), `by` (recipe, "" if there is one only), `params` N, `tokens` D, `flops` C, `loss`,
    `weight` (1 by default), `kwh` (NaN where unknown), `seed` (Int64 or NA), `source_line`;
    the source's other columns follow."""
    notes: tuple[str, ...]
    """What was derived, dropped or noticed, in plain words with counts."""
    flops_per_param_token: float
    """Median of C / (N D); 6 where one of the three was derived."""
    metric: str
    """What the source calls the loss, e.g. `val_bits_per_byte`."""
    count: str
    """Which parameters N counts: the source's column, `non_embedding` or `all`."""
    data_sha256: str
    """Of the file, or of the frame's values where there was no file."""

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def recipes(self) -> tuple[str, ...]:
        """The recipes (values of `by`) in order of appearance."""
        return tuple(dict.fromkeys(self.frame["by"]))

    def only(self, by: str) -> Points:
        """Return the points of one recipe.

        Raises:
            DataError: if there is no such recipe; the nearest is named, where there are several.

        """
        if by not in self.recipes and self.recipes == ("",):
            raise DataError(
                f"these points are of one recipe, so there is none to choose, but got `{by}`; "
                "leave the recipe out, or name the column of recipes with `by`"
            )
        if by not in self.recipes:
            raise DataError(f"no points have the recipe `{by}`{nearest(str(by), self.recipes)}")
        return self.where(self.frame["by"] == by)

    def where(self, mask: np.ndarray | pd.Series) -> Points:
        """Return the points where `mask` (booleans, one per row) holds, in their order."""
        keep = np.asarray(mask, dtype=bool)
        assert keep.shape == (len(self),), f"one boolean per point, got shape {keep.shape}"
        return replace(self, frame=self.frame[keep].reset_index(drop=True))

    @classmethod
    def from_csv(
        cls,
        path: str | os.PathLike[str],
        *,
        params: str | None = None,
        tokens: str | None = None,
        flops: str | None = None,
        loss: str,
        run: str | None = None,
        by: str | None = None,
        where: str | None = None,
        kwh: str | None = None,
        seed: str | None = None,
        weight: str | None = None,
        metric: str | None = None,
        count: str | None = None,
    ) -> Points:
        """Read points from a CSV (gzipped too) or Parquet file; see `from_frame`.

        Raises:
            DataError: if the file cannot be read, or as `from_frame` says.

        """
        frame, digest = read_table(path)
        points = cls.from_frame(
            frame,
            params=params,
            tokens=tokens,
            flops=flops,
            loss=loss,
            run=run,
            by=by,
            where=where,
            kwh=kwh,
            seed=seed,
            weight=weight,
            metric=metric,
            count=count,
        )
        return replace(points, data_sha256=digest)

    @classmethod
    def from_frame(
        cls,
        frame: pd.DataFrame,
        *,
        params: str | None = None,
        tokens: str | None = None,
        flops: str | None = None,
        loss: str,
        run: str | None = None,
        by: str | None = None,
        where: str | None = None,
        kwh: str | None = None,
        seed: str | None = None,
        weight: str | None = None,
        metric: str | None = None,
        count: str | None = None,
    ) -> Points:
        """Make points of a table's rows.

        Args:
            frame: a table; a column `source_line` gives its rows' numbers, else they count from 2
                as the lines of a CSV do.
            params: column of N. Any two of `params`, `tokens` and `flops` are needed; the third
                is derived by C = 6 N D.
            tokens: column of D: tokens, or samples seen.
            flops: column of C, training FLOPs.
            loss: column of L.
            run: column of the training run. Rows of one run (a curve, forks of one trunk) are
                correlated; without it each row is a run.
            by: column of the recipe; each value gets a law of its own.
            where: which rows count, e.g. "run_state == 'finished'" (see `rows_where`).
            kwh: column of the energy in kWh; empty cells are unknown.
            seed: column of the seed.
            weight: column of the points' weights in fits.
            metric: what to call the loss; the column's name by default.
            count: what N counts; the column's name by default.

        Raises:
            DataError: if `frame` is no DataFrame, a column is missing (the nearest is named), fewer
                than two of the three sizes are given, a row holds what is no positive finite number
                (the first lines are listed), or no row is left.

        """
        if not isinstance(frame, pd.DataFrame):
            raise DataError(
                f"points must be a pandas DataFrame, but got a {type(frame).__name__}; "
                "use pandas.DataFrame(rows), or from_csv(PATH) for a file"
            )
        missing = missing_size(params=params, tokens=tokens, flops=flops)
        roles = {
            "params": params,
            "tokens": tokens,
            "flops": flops,
            "loss": loss,
            "run": run,
            "by": by,
            "kwh": kwh,
            "seed": seed,
            "weight": weight,
        }
        source = frame.reset_index(drop=True)
        if "source_line" not in source:
            source = source.assign(source_line=np.arange(2, len(source) + 2))
        notes: list[str] = []
        if where is not None:
            keep = rows_where(source, where)
            notes.append(f"{int((~keep).sum())} of {len(keep)} rows left out by where: {where}")
            source = source[keep].reset_index(drop=True)
        table = canonical(source, {role: name for role, name in roles.items() if name is not None})
        if missing is not None:
            notes.append(_derive(table, missing))
        table = _without_duplicates(table, notes)
        ratio = (table["flops"] / (table["params"] * table["tokens"])).to_numpy(float)
        if missing is None:
            notes.append(ratio_note(ratio, table["params"].to_numpy(float)))
        return cls(
            frame=table,
            notes=tuple(notes),
            flops_per_param_token=FLOPS_PER_PARAM_TOKEN if missing else float(np.median(ratio)),
            metric=metric or loss,
            count=count or params or f"{FLOPS_PER_PARAM_TOKEN:g}ND of flops and tokens",
            data_sha256=_frame_digest(table),
        )


def _derive(table: pd.DataFrame, missing: str) -> str:
    """Fill the missing one of N, D and C in place, and say by which formula."""
    six = FLOPS_PER_PARAM_TOKEN
    if missing == "flops":
        table["flops"] = six * table["params"] * table["tokens"]
        return "flops derived as 6 x params x tokens"
    other = "tokens" if missing == "params" else "params"
    table[missing] = table["flops"] / (six * table[other])
    return f"{missing} derived as flops / (6 x {other})"


def _without_duplicates(table: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """Drop rows that repeat another's recipe, sizes, seed and loss to the last digit."""
    same = table.duplicated(["by", "params", "tokens", "flops", "loss", "seed"])
    if not same.any():
        return table
    lines = ", ".join(str(line) for line in table.loc[same, "source_line"].iloc[:5])
    notes.append(f"{int(same.sum())} duplicate rows dropped (first: lines {lines})")
    return table[~same].reset_index(drop=True)


def ratio_note(ratio: np.ndarray, params: np.ndarray) -> str:
    """Say how reported FLOPs compare with 6 N D, and whether the ratio drifts with size.

    A drifting ratio biases exponents: the same runs look more or less compute-efficient by size.

    Args:
        ratio: C / (N D) of each point, shape (P,).
        params: N of each point, shape (P,).

    """
    relative = ratio / FLOPS_PER_PARAM_TOKEN
    middle = float(np.median(relative))
    if np.all(np.abs(relative - 1) < 0.01):
        return "reported flops agree with 6 x params x tokens within 1 %"
    text = f"reported flops are {middle:.3g} x 6ND (median)"
    small, large = params <= np.quantile(params, 0.1), params >= np.quantile(params, 0.9)
    low, high = float(np.median(relative[small])), float(np.median(relative[large]))
    if abs(np.log(high / low)) < 0.05:
        return f"{text}, alike at all sizes"
    return (
        f"{text}, drifting from {low:.3g} at the smallest tenth of sizes to {high:.3g} at the "
        "largest: exponents over flops and over 6ND differ"
    )


def _frame_digest(table: pd.DataFrame) -> str:
    columns = ["run", "by", "params", "tokens", "flops", "loss", "weight", "kwh"]
    rows = pd.util.hash_pandas_object(table[columns], index=False).to_numpy()
    return hashlib.sha256(rows.tobytes()).hexdigest()


def read_table(path: str | os.PathLike[str]) -> tuple[pd.DataFrame, str]:
    """Read a CSV or Parquet file.

    Args:
        path: the file; `.parquet` is Parquet, everything else is read as CSV.

    Returns:
        The table, with a column `source_line` (the header of a CSV is line 1), and the SHA-256 of
        the file's bytes.

    Raises:
        DataError: if there is no such file, or it is no table.

    """
    path = Path(path)
    try:
        if path.suffix == ".parquet":
            frame = pd.read_parquet(path)
        else:
            # Empty lines stay until they have counted, so that line numbers are the file's.
            frame = pd.read_csv(path, skip_blank_lines=False, skipinitialspace=True)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except (OSError, ValueError, pd.errors.ParserError) as error:
        raise DataError(
            f"points must be a CSV or Parquet file, but {path} cannot be read as one "
            f"({str(error).splitlines()[0]}); check the path"
        ) from None
    frame.columns = [str(name).strip() for name in frame.columns]
    frame["source_line"] = np.arange(2, len(frame) + 2)
    empty = frame.drop(columns="source_line").isna().all(axis=1)
    return frame[~empty].reset_index(drop=True), digest
