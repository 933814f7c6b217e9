"""`CurveStudy`: what each doubling of one thing brings, from any table.

    CurveStudy.from_csv("alphago_hardware_elo.csv", x="gpus", y="elo", increasing=True)

For hardware over strength, workers over throughput, data over accuracy: whatever has one cause.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd

from service.report.numbers import percent, short
from service.scaling.curve_choice import choose_law
from service.scaling.curves import CurveFit, fit_curve, gains_per_doubling
from service.scaling.points import read_table
from service.scaling.where import rows_where
from trainers.errors import ConfigError, DataError, ScalingError, nearest

if TYPE_CHECKING:
    from service.scaling.report.outputs import StudyOutputs

SHOWN_LINES = 5
MIN_HELDOUT = 3
"""Predictions that a law needs behind it to be preferred for its held-out error."""
UNJUDGED_LAW = "power_constant"
"""Drawn, and said not to be checked, where there are too few x to judge any law but a power."""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One group's points and the law that predicted larger x best."""

    by: str
    x: np.ndarray
    """Shape (P,), ascending."""
    y: np.ndarray
    fit: CurveFit
    laws: pd.DataFrame
    """How every law did on larger x held out; see `choose_law`."""
    judged: bool
    """Whether the law was chosen by that; False: too few x to hold any out from it."""

    @property
    def gains(self) -> pd.DataFrame:
        """What was measured from each x to the next, per doubling, beside what the law says.

        Columns: x_from, x_to, gain, doublings, gain_per_doubling, law_gain_per_doubling.
        """
        table = gains_per_doubling(self.x, self.y)
        rise = self.fit.predict(table["x_to"]) - self.fit.predict(table["x_from"])
        return table.assign(law_gain_per_doubling=rise / table["doublings"])

    @property
    def next_gain(self) -> float:
        """What the law expects of one more doubling of the largest x."""
        return float(self.fit.gain_per_doubling(self.x[-1:])[0])


class CurveStudy:
    """Points of y over x in one or several groups, each with its law."""

    def __init__(
        self,
        frame: pd.DataFrame,
        *,
        x: str,
        y: str,
        increasing: bool = False,
        by: str | None = None,
        name: str = "curve",
        data_sha256: str = "",
        notes: tuple[str, ...] = (),
    ) -> None:
        self.name, self.x, self.y, self.increasing = name, x, y, increasing
        self.data_sha256, self.notes = data_sha256, notes
        table = _checked(frame, x, y, by)
        self.curves = [
            _curve(str(group), rows, increasing) for group, rows in table.groupby("by", sort=False)
        ]

    @classmethod
    def from_csv(
        cls,
        path: str | os.PathLike[str],
        *,
        x: str,
        y: str,
        increasing: bool = False,
        by: str | None = None,
        where: str | None = None,
        name: str | None = None,
    ) -> Self:
        """Study the rows of a CSV or Parquet file.

        Args:
            path: the file.
            x: column of what is doubled; positive.
            y: column of what is measured.
            increasing: whether y is better, and rises, with x.
            by: column of groups; each gets a law of its own.
            where: which rows count; see `where.rows_where`.
            name: of the study; the file's by default.

        Raises:
            DataError: the file cannot be read, or a column or row breaks a rule.
            ScalingError: a group has too few different x.

        """
        frame, digest = read_table(path)
        notes: tuple[str, ...] = ()
        if where is not None:
            keep = rows_where(frame, where)
            notes = (f"{int((~keep).sum())} of {len(keep)} rows left out by where: {where}",)
            frame = frame[keep]
        return cls(frame, x=x, y=y, increasing=increasing, by=by, name=name or Path(path).stem,
                   data_sha256=digest, notes=notes)  # fmt: skip

    @property
    def sentence(self) -> str:
        """What the last doublings brought and the next one should, per group."""
        parts = []
        for curve in self.curves:
            gains = curve.gains["gain_per_doubling"].to_numpy(float)
            name = f"{curve.by}: " if curve.by else ""
            parts.append(
                f"{name}{self.y} per doubling of {self.x}: {short(gains[0])} at first, "
                f"{short(gains[-1])} at last; {_expectation(curve)} "
                f"({_judgement(curve)})"
            )
        return "; ".join(parts)

    def predict(self, x: float, *, by: str = "") -> float:
        """Return what the law of a group says at x.

        Raises:
            ConfigError: there is no such group, or x is not positive.

        """
        names = [curve.by for curve in self.curves]
        if by not in names:
            raise ConfigError(f"the study has no group `{by}`{nearest(by, names)}")
        if not (np.isfinite(x) and x > 0):
            raise ConfigError(f"x must be positive and finite, but got {x!r}")
        return float(self.curves[names.index(by)].fit.predict(np.array([x]))[0])

    def record(self) -> dict[str, Any]:
        """Return what `study.json` holds."""
        from service.scaling.report.curve_record import curve_record

        return curve_record(self)

    def write(self, out_dir: str | Path) -> StudyOutputs:
        """Write `report.html`, `study.json`, Parquet tables and pictures into a folder.

        Raises:
            ConfigError: the folder cannot be written.

        """
        from service.scaling.report.outputs import write_curves

        return write_curves(self, out_dir)


def _expectation(curve: Curve) -> str:
    if curve.fit.law == "last_value":
        return "nothing predicted larger values better than carrying the last one forward"
    return f"{short(curve.next_gain)} expected of the next"


def _judgement(curve: Curve) -> str:
    name, row = curve.fit.law.replace("_", " "), curve.laws.iloc[0]
    if not curve.judged:
        return f"{name}, not checked: too few values to hold larger ones out"
    held = f"on {int(row['num_heldout'])} larger values held out"
    if curve.fit.law == "last_value":
        return f"{percent(float(row['rmse']))} off {held}"
    return (
        f"{name}: {percent(float(row['rmse']))} off {held}, against "
        f"{percent(float(row['last_value_rmse']))} for carrying the last value forward"
    )


def _checked(frame: pd.DataFrame, x: str, y: str, by: str | None) -> pd.DataFrame:
    """Return columns x, y and by of all rows; refuse rows by line number."""
    names = [str(name) for name in frame.columns if name != "source_line"]
    for role, column in (("x", x), ("y", y), ("by", by)):
        if column is not None and column not in names:
            raise DataError(f"{role}: the table has no column `{column}`{nearest(column, names)}")
    if frame.empty:
        raise DataError("a curve needs rows, but none is left; check the file and where")
    lines = frame.get("source_line", pd.Series(np.arange(2, len(frame) + 2), index=frame.index))
    found = pd.DataFrame(index=frame.index)
    for role, column, rule in (("x", x, "positive and finite"), ("y", y, "finite")):
        values = pd.to_numeric(frame[column], errors="coerce").astype(float)
        good = np.isfinite(values) & ((values > 0) | (role == "y"))
        if not good.all():
            bad = lines[~good]
            shown = ", ".join(str(line) for line in bad.iloc[:SHOWN_LINES])
            raise DataError(
                f"values of `{column}` must be {rule}, but {len(bad)} of {len(good)} rows are not "
                f"(lines {shown}); correct them, or leave them out by where"
            )
        found[role] = values
    found["by"] = "" if by is None else frame[by].astype(str)
    return found


def _curve(by: str, rows: pd.DataFrame, increasing: bool) -> Curve:
    ordered = rows.sort_values("x", kind="stable")
    x, y = ordered["x"].to_numpy(float), ordered["y"].to_numpy(float)
    fit, laws = choose_law(x, y, increasing=increasing)
    judged = True
    enough = laws[laws["num_heldout"] >= MIN_HELDOUT]
    if len(enough) and laws["num_heldout"].iloc[0] < MIN_HELDOUT:
        # The best of many laws by a single prediction is luck: one with more behind it goes first.
        laws = pd.concat([enough, laws.drop(enough.index)], ignore_index=True)
        best = laws.iloc[0]
        fit = fit_curve(
            x, y, str(best["law"]), increasing=increasing, breaks=max(1, int(best["breaks"]))
        )
    if fit.law == "last_value" and not _was_judged(laws, UNJUDGED_LAW):
        # With fewer different x than parameters the last value is all there is.
        with suppress(ScalingError):
            fit, judged = fit_curve(x, y, UNJUDGED_LAW, increasing=increasing), False
    return Curve(by=by, x=x, y=y, fit=fit, laws=laws, judged=judged)


def _was_judged(laws: pd.DataFrame, law: str) -> bool:
    return bool(np.isfinite(laws.loc[laws["law"] == law, "ratio"].astype(float)).any())
