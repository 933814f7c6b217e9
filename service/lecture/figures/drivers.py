"""Model, data and computation: what more of each brings, and where it saturates (p. 6, 65)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.optimize import curve_fit

from service.lecture.findings import PALETTE, Findings, SearchRun, label, new_figure

WIDTH, ROWS = "model.width", "data.num_train"
FEWEST_POINTS = 4
"""A law has three numbers; with fewer points there is none."""
Numbers = npt.NDArray[np.float64]


def saturating(x: Numbers, floor: float, scale: float, exponent: float) -> Numbers:
    """Return floor + scale * (x / x_0)^-exponent, with x_0 the first x."""
    law: Numbers = floor + scale * (x / x[0]) ** -exponent
    return law


def three(runs: Sequence[SearchRun]) -> Findings:
    """Draw the lowest validation error against parameters, rows and FLOPs, with fitted laws."""
    sized, fed = runs
    largest = sized.by(WIDTH)[-1][1]["trial_id"].iloc[0]
    axes_of = {
        "parameters": _lowest(sized, sized.trials["num_params"]),
        "training rows": _lowest(fed, fed.trials[f"param.{ROWS}"]),
        "FLOPs": _course(sized, int(largest)),
    }
    figure, axes = new_figure(1, 3)
    tables, measures = [], dict[str, float | str]()
    for place, (name, points) in enumerate(axes_of.items()):
        x, error = points["x"].to_numpy(float), points["val_error"].to_numpy(float)
        measures |= {
            f"error at the fewest {name}": float(error[0]),
            f"error at the most {name}": float(error[-1]),
        }
        one = axes[0, place]
        one.plot(x, error, "o", color=PALETTE[place], label="measured")
        if len(x) >= FEWEST_POINTS:
            floor, _, exponent = law = _fit(x, error)
            points["fitted"] = saturating(x, *law)
            one.plot(x, points["fitted"], "--", color=PALETTE[place],
                     label=f"{floor:.2f} + a x^-{exponent:.2f}")  # fmt: skip
            measures |= {
                f"exponent, {name}": exponent,
                f"error where it saturates, {name}": floor,
                f"what the first doubling of {name} brings": _gain(x[0], x[0], *law),
                f"what the last doubling of {name} brings": _gain(x[-1] / 2, x[0], *law),
            }
        one.set_xscale("log")
        label(one, f"error against {name}", name, "lowest validation error")
        tables.append(points.assign(axis=name))
    return Findings(table=pd.concat(tables), measures=measures, figure=figure)


def _lowest(run: SearchRun, sizes: pd.Series[Any]) -> pd.DataFrame:
    """Return each size's lowest validation error of any epoch, mean over seeds."""
    lowest = run.curves.groupby("trial_id")["val_error"].min()
    frame = pd.DataFrame({"x": sizes, "val_error": run.trials["trial_id"].map(lowest)})
    return frame.groupby("x", as_index=False).mean()


def _course(run: SearchRun, trial_id: int) -> pd.DataFrame:
    """Return one trial's lowest error so far against the operations it has spent."""
    curve = run.curves[run.curves["trial_id"] == trial_id].sort_values("epoch")
    per_epoch = run.trials["flops_per_epoch"][run.trials["trial_id"] == trial_id].iloc[0]
    spent = curve["epoch"].to_numpy(float) * float(per_epoch)
    return pd.DataFrame({"x": spent, "val_error": curve["val_error"].cummin().to_numpy()})


def _fit(x: Numbers, error: Numbers) -> tuple[float, float, float]:
    """Return (floor, scale, exponent) by least squares, the floor between 0 and the lowest."""
    start = (0.5 * error.min(), max(float(np.ptp(error)), 1e-3), 0.5)
    bounds = ([0.0, 0.0, 0.0], [float(error.min()), 10.0, 3.0])
    (floor, scale, exponent), _ = curve_fit(saturating, x, error, p0=start, bounds=bounds)
    return float(floor), float(scale), float(exponent)


def _gain(x: float, first: float, floor: float, scale: float, exponent: float) -> float:
    """Return by how much the fitted error falls from x to 2 x."""
    here, there = (saturating(np.array([first, v]), floor, scale, exponent)[1] for v in (x, 2 * x))
    return float(here - there)
