"""Gradient descent on curves that one can see: pages 19, 33 and 37."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
import pandas as pd
from pydantic import Field

from service.lecture.findings import Findings, label, new_figure
from trainers.config import Count, Positive, Section

Curve = Callable[[float], float]
LOST = 1e6
"""A loss above this has diverged."""


def descend(
    slope: Curve, start: float, lr: float, steps: int, loss: Curve, tolerance: float
) -> tuple[list[float], str]:
    """Follow the negative gradient; return the weights visited and why it stopped.

    It stops as page 19 says: the loss changed by less than `tolerance`, or `steps` are done; and
    when the loss is lost. It never stops before the first update.
    """
    path = [start]
    for _ in range(steps):
        path.append(path[-1] - lr * slope(path[-1]))
        if not np.isfinite(path[-1]) or abs(loss(path[-1])) > LOST:
            return path, "diverged"
        if abs(loss(path[-1]) - loss(path[-2])) < tolerance:
            return path, f"the loss changed by less than {tolerance:g}"
    return path, f"{steps} iterations"


class Descent(Section):
    """Descent on (w - 2)^2 / 2 from one starting point (p. 19)."""

    start: float = -3.0
    lr: Positive = 0.2
    steps: Count = 500
    tolerance: Positive = 1e-6


def convergence(settings: Descent) -> Findings:
    """Draw loss against the weight, from the starting point to the point of convergence."""

    def loss(w: float) -> float:
        return (w - 2) ** 2 / 2

    path, why = descend(lambda w: w - 2, settings.start, settings.lr, settings.steps, loss,
                        settings.tolerance)  # fmt: skip
    figure, axes = new_figure(1, 2)
    grid = np.linspace(min(-4.0, settings.start), 8.0 - min(-4.0, settings.start) - 4, 200)
    axes[0, 0].plot(grid, [loss(w) for w in grid], color="#9ca3af")
    shown = [w for w in path if grid[0] <= w <= grid[-1]]
    axes[0, 0].plot(shown, [loss(w) for w in shown], "o-", markersize=4, label="descent")
    beside: dict[str, Any] = {"xytext": (6, 8), "textcoords": "offset points", "fontsize": 8}
    axes[0, 0].annotate("starting point", (path[0], loss(path[0])), **beside)
    if why != "diverged":
        axes[0, 0].annotate("point of convergence", (path[-1], loss(path[-1])), **beside)
    axes[0, 1].semilogy([max(loss(w), 1e-300) for w in path])
    label(axes[0, 0], "loss against weight", "value of weight", "loss value", legend=False)
    label(axes[0, 1], "loss against iteration", "iteration", "loss", legend=False)
    table = pd.DataFrame(
        {"iteration": range(len(path)), "w": path, "loss": [loss(w) for w in path]}
    )
    measures: dict[str, float | str] = {
        "why it stopped": why,
        "iterations": float(len(path) - 1),
        "final loss": loss(path[-1]),
        "final loss is at most the first": str(loss(path[-1]) <= loss(path[0])),
    }
    return Findings(table=table, measures=measures, figure=figure)


class Minima(Section):
    """Descent on w^4 / 4 - w^2 + 0.3 w, which has two minima (p. 33)."""

    starts: tuple[float, ...] = (-2.0, -0.3, 0.5, 2.0)
    lr: Positive = 0.05
    steps: Count = 400


def minima(settings: Minima) -> Findings:
    """Start in several places: each ends in the minimum of its own valley."""

    def loss(w: float) -> float:
        return w**4 / 4 - w**2 + 0.3 * w

    figure, axes = new_figure(1, 2)
    grid = np.linspace(-2.2, 2.2, 300)
    axes[0, 0].plot(grid, loss(grid), color="#9ca3af")  # type: ignore[arg-type]  # elementwise
    rows = []
    for start in settings.starts:
        path, why = descend(lambda w: w**3 - 2 * w + 0.3, start, settings.lr, settings.steps, loss,
                            1e-12)  # fmt: skip
        axes[0, 0].plot(path, [loss(w) for w in path], ".-", label=f"from {start:g}")
        axes[0, 1].plot([loss(w) for w in path], label=f"from {start:g}")
        rows.append({"start": start, "end": path[-1], "loss": loss(path[-1]), "stopped": why})
    label(axes[0, 0], "two valleys", "weight", "loss")
    label(axes[0, 1], "loss", "iteration", "loss")
    ends = sorted({round(float(str(row["end"])), 3) for row in rows})
    measures: dict[str, float | str] = {
        "different minima reached": float(len(ends)),
        "where": ", ".join(f"{end:g}" for end in ends),
        "worst final loss above the best": max(float(str(r["loss"])) for r in rows)
        - min(float(str(r["loss"])) for r in rows),
    }
    return Findings(table=pd.DataFrame(rows), measures=measures, figure=figure)


class Regimes(Section):
    """Rates in units of 1 / curvature on h w^2 / 2 (p. 37): descent diverges above 2."""

    curvature: Positive = 4.0
    rates: Annotated[tuple[float, ...], Field(min_length=1)] = (0.05, 1.0, 1.9, 2.1)
    """lr * curvature: low, good, high (bounces), very high."""
    steps: Count = 30


def regimes(settings: Regimes) -> Findings:
    """Draw the four regimes where they can be proved: w shrinks by 1 - lr h at each step."""
    figure, axes = new_figure(1, 2)
    h = settings.curvature
    rows, measures = [], dict[str, float | str]()
    for rate in settings.rates:
        path, _ = descend(lambda w: h * w, 1.0, rate / h, settings.steps, lambda w: h * w * w / 2,
                          0.0)  # fmt: skip
        losses = [h * w * w / 2 for w in path]
        grows = losses[-1] > losses[0]
        name = f"lr = {rate:g} / h"
        axes[0, 0].plot(path, label=name)
        axes[0, 1].semilogy(np.maximum(losses, 1e-30), label=name)
        measures[f"{name}: final over first loss"] = losses[-1] / losses[0]
        measures[f"{name}: diverges"] = str(grows)
        rows += [{"lr_times_h": rate, "step": i, "w": w, "loss": loss}
                 for i, (w, loss) in enumerate(zip(path, losses, strict=True))]  # fmt: skip
    axes[0, 0].set_ylim(-3, 3)
    label(axes[0, 0], "the weight", "step", "w")
    label(axes[0, 1], "the loss", "step", "loss")
    return Findings(table=pd.DataFrame(rows), measures=measures, figure=figure)
