"""Four optimizers on an ill-conditioned quadratic (p. 40-43), by the trainer's own update rules."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from pydantic import Field

from service.lecture.findings import Findings, label, new_figure
from trainers.config import Count, Fraction, OptimizerConfig, OptimizerKind, Positive, Section
from trainers.optimizers import SLOTS, make_optimizer

Path2 = npt.NDArray[np.float64]
RATES: dict[OptimizerKind, float] = {"sgd": 0.019, "momentum": 0.1, "rmsprop": 0.05, "adam": 0.3}


class Trajectories(Section):
    """Descent on (h1 w1^2 + h2 w2^2) / 2 from (start, start / 5)."""

    kinds: tuple[OptimizerKind, ...] = ("sgd", "momentum", "rmsprop", "adam")
    lr: dict[OptimizerKind, Positive] | Positive = Field(default_factory=lambda: dict(RATES))
    """One rate for all, or one for each."""
    curvatures: tuple[Positive, Positive] = (1.0, 100.0)
    start: float = -4.0
    steps: Count = 200
    momentum: Fraction = 0.9
    misprint: bool = False
    """Add Adam as page 43 prints it, with (1 - beta)^t for (1 - beta^t)."""
    near: Annotated[float, Field(gt=0)] = 0.01
    """Steps are counted until the loss is below this share of the first."""


def paths(settings: Trajectories) -> Findings:
    """Draw the paths and losses; count steps, and sign flips along the steep axis."""
    figure, axes = new_figure(1, 2, height=4.2)
    h = np.array(settings.curvatures)
    found: dict[str, Path2] = {kind: _path(kind, settings) for kind in settings.kinds}
    if settings.misprint:
        found["adam as printed"] = misprinted_adam(_rate("adam", settings), settings)
    reach = abs(settings.start) * 1.2
    first, second = np.meshgrid(np.linspace(-reach, reach, 200), np.linspace(-1.5, 1.5, 200))
    axes[0, 0].contour(first, second, (h[0] * first**2 + h[1] * second**2) / 2, 14,
                       colors="#d1d5db", linewidths=0.7)  # fmt: skip
    rows, measures = [], dict[str, float | str]()
    for name, path in found.items():
        losses = (h * path**2).sum(1) / 2
        axes[0, 0].plot(path[:, 0], path[:, 1], ".-", markersize=3, linewidth=1, label=name)
        axes[0, 1].semilogy(np.maximum(losses, 1e-16), label=name)
        below = np.flatnonzero(losses < settings.near * losses[0])
        measures[f"steps to {settings.near:.0%} of the loss, {name}"] = (
            float(below[0]) if len(below) else f"not in {settings.steps}"
        )
        measures[f"sign flips along the steep axis, {name}"] = float(
            (np.diff(np.sign(path[:, 1])) != 0).sum()
        )
        measures[f"final loss, {name}"] = float(losses[-1])
        kind = name.split()[0]
        measures[f"state tensors per parameter, {kind}"] = float(len(SLOTS[kind]))  # type: ignore[index]
        rows.append(pd.DataFrame({"optimizer": name, "step": range(len(path)), "w1": path[:, 0],
                                  "w2": path[:, 1], "loss": losses}))  # fmt: skip
    axes[0, 0].set_ylim(-1.5, 1.5)
    label(axes[0, 0], "paths of the parameters", "w1 (flat)", "w2 (steep)")
    label(axes[0, 1], "loss", "step", "loss")
    return Findings(table=pd.concat(rows), measures=measures, figure=figure)


def _rate(kind: OptimizerKind, settings: Trajectories) -> float:
    return settings.lr.get(kind, 0.1) if isinstance(settings.lr, dict) else settings.lr


def _path(kind: OptimizerKind, settings: Trajectories) -> Path2:
    """Run the trainer's optimizer, the lecture's form of momentum and rmsprop."""
    config = OptimizerConfig(
        kind=kind, lr=_rate(kind, settings), form="lecture", momentum=settings.momentum
    )
    h = torch.tensor([settings.curvatures], dtype=torch.float64)
    params = torch.tensor([[settings.start, -settings.start / 5]], dtype=torch.float64)
    grads = torch.zeros_like(params)
    slots = {name: torch.zeros_like(params) for name in SLOTS[kind]}
    optimizer = make_optimizer([config], params, grads, slots)
    optimizer.begin_epoch(np.full((settings.steps, 1), config.lr), [0])
    visited = [params[0].clone()]
    for step in range(settings.steps):
        grads.copy_(h * params)
        optimizer.step(step)
        visited.append(params[0].clone())
    return torch.stack(visited).numpy()


def misprinted_adam(lr: float, settings: Trajectories) -> Path2:
    """Run Adam with page 43's V / (1 - beta1)^t and S / (1 - beta2)^t, which freezes."""
    h = np.array(settings.curvatures)
    w = np.array([settings.start, -settings.start / 5])
    mean, square = np.zeros(2), np.zeros(2)
    visited = [w]
    for t in range(1, settings.steps + 1):
        grad = h * w
        mean, square = 0.9 * mean + 0.1 * grad, 0.999 * square + 0.001 * grad**2
        with np.errstate(all="ignore"):
            step = lr * (mean / 0.1**t) / (np.sqrt(square / 0.001**t) + 1e-8)
        if not np.isfinite(step).all():
            break
        w = w - step
        visited.append(w)
    return np.array(visited)
