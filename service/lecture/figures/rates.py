"""Learning rates: regimes (p. 60), decay (p. 38), and AlexNet's curves both ways (p. 39)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from service.lecture.findings import Findings, SearchRun, label, new_figure
from trainers.data import load

LR = "optimizer.lr"
BOUNCES = 0.2
"""Share of epochs in which the loss rises, above which a curve is called bouncing."""
SLOW = 3.0
"""A final loss so many times the best curve's is called slow, where the curve falls smoothly."""


def regime(losses: Sequence[float], best_final: float, guessing: float) -> str:
    """Name a training curve's regime as the page does.

    Args:
        losses: training loss of each epoch; a diverged trial has NaN from where it ended.
        best_final: the lowest final loss among the page's curves.
        guessing: the loss of a net that knows nothing.

    """
    finite = [loss for loss in losses if math.isfinite(loss)]
    if len(finite) < len(losses) or not finite:
        return "very high: diverges"
    if finite[-1] > max(guessing, finite[0]) or min(finite) > guessing:
        return "very high: worse than guessing"
    rises = float(np.mean(np.diff(finite) > 0)) if len(finite) > 1 else 0.0
    if finite[-1] <= SLOW * max(best_final, 1e-3):
        return "good"
    return "high: bounces" if rises > BOUNCES else "low: slow"


def regimes(runs: Sequence[SearchRun]) -> Findings:
    """Draw loss against epoch for each rate, and name its regime."""
    (run,) = runs
    figure, axes = new_figure(1, 2)
    rows, measures = [], dict[str, float | str]()
    finals = [c["train_loss"].iloc[-1] for _, c in run.by(LR)]
    best = float(np.nanmin(finals)) if np.isfinite(finals).any() else math.nan
    guessing = load(run.spec.base.data).dummy_loss()
    for (rate,), curve in run.by(LR):
        name = regime(list(curve["train_loss"]), best, guessing)
        drawn = curve["train_loss"].fillna(float(curve["train_loss"].max(skipna=True) or 0))
        axes[0, 0].plot(curve["epoch"], drawn, marker="." if len(curve) < 3 else "",
                        label=f"lr {rate:g}: {name}")  # fmt: skip
        axes[0, 1].plot(curve["epoch"], curve["val_error"], label=f"lr {rate:g}")
        measures[f"regime at lr {rate:g}"] = name
        measures[f"validation error at lr {rate:g}"] = float(curve["val_error"].iloc[-1])
        rows.append(curve.assign(lr_searched=rate, regime=name))
    axes[0, 0].set_yscale("log")
    axes[0, 0].set_ylim(bottom=1e-3, top=20 * guessing)
    label(axes[0, 0], "loss against epoch", "epoch", "training loss")
    label(axes[0, 1], "validation error", "epoch", "error")
    columns = ["lr_searched", "regime", "epoch", "train_loss", "val_loss", "val_error", "grad_norm"]
    return Findings(table=pd.concat(rows)[columns], measures=measures, figure=figure)


def decay(runs: Sequence[SearchRun]) -> Findings:
    """Draw each schedule's rate against its closed form, and what it does to the loss (p. 38)."""
    (run,) = runs
    figure, axes = new_figure(1, 2)
    rows, measures = [], dict[str, float | str]()
    for name, group in _by_name(run, "schedule.kind"):
        mean = group.groupby("epoch")[["lr", "train_loss", "val_error"]].mean().reset_index()
        axes[0, 0].plot(mean["epoch"], mean["lr"], label=name)
        axes[0, 1].plot(mean["epoch"], mean["train_loss"], label=name)
        measures[f"validation error, {name}"] = float(mean["val_error"].iloc[-1])
        rows.append(mean.assign(schedule=name))
    table = pd.concat(rows)
    for name, form in (("linear", _linear), ("exponential", _exponential)):
        curve = table[table["schedule"] == name]
        if len(curve):
            gap = (curve["lr"] - form(curve["epoch"], run)).abs().max() / curve["lr"].max()
            measures[f"largest gap to the closed form, {name}"] = float(gap)
    axes[0, 0].set_yscale("log")
    axes[0, 1].set_yscale("log")
    label(axes[0, 0], "rate of each epoch's last update", "epoch", "learning rate")
    label(axes[0, 1], "training loss, mean of the seeds", "epoch", "training loss")
    return Findings(table=table, measures=measures, figure=figure)


def _by_name(run: SearchRun, path: str) -> list[tuple[str, pd.DataFrame]]:
    groups: dict[str, list[pd.DataFrame]] = {}
    for (name,), curve in run.by(path):
        groups.setdefault(str(name), []).append(curve)
    return [(name, pd.concat(curves)) for name, curves in groups.items()]


def _last_update(epochs: pd.Series[int], run: SearchRun) -> pd.Series[float]:
    """Return t in [0, 1) of each epoch's last update: (updates done before it) / all updates."""
    config = run.spec.base
    num_rows = len(load(config.data).x_train)
    per_epoch = -(-num_rows // config.train.batch_size)
    return (epochs * per_epoch - 1) / (per_epoch * config.train.epochs)


def _linear(epochs: pd.Series[int], run: SearchRun) -> pd.Series[float]:
    """a_t = a_0 (1 - t/T), from the peak to `end_factor` of it."""
    end = run.spec.base.schedule.end_factor
    return run.spec.base.optimizer.lr * (1 - (1 - end) * _last_update(epochs, run))


def _exponential(epochs: pd.Series[int], run: SearchRun) -> pd.Series[float]:
    """a_t = a_0 gamma^t: a straight line on the logarithm."""
    return run.spec.base.optimizer.lr * run.spec.base.schedule.gamma ** _last_update(epochs, run)


def alexnet(runs: Sequence[SearchRun]) -> Findings:
    """Draw runs at fixed rates, and one whose rate drops by ten (p. 39), as accuracy."""
    figure, axes = new_figure(1, 2)
    rows, measures = [], dict[str, float | str]()
    for run in runs:
        for (rate, kind), curve in run.by(LR, "schedule.kind"):
            accuracy = 1 - curve["val_error"]
            rows.append(curve.assign(lr_searched=rate, schedule=kind, val_accuracy=accuracy))
            axes[0, int(kind != "constant")].plot(curve["epoch"], accuracy, label=f"lr {rate:g}")
            measures[f"accuracy, {kind}, lr {rate:g}"] = float(accuracy.iloc[-1])
            if kind == "step":
                steps = run.spec.base.schedule.num_steps
                first = len(curve) // steps
                jump = (
                    accuracy.iloc[first : first + 3].mean()
                    - accuracy.iloc[first - 3 : first].mean()
                )
                measures["jump of accuracy at the first drop"] = float(jump)
                for k in range(1, steps):
                    axes[0, 1].axvline(first * k + 0.5, color="#9ca3af", linestyle=":", linewidth=1)
    label(axes[0, 0], "reading 1: each run at a fixed rate", "epoch", "validation accuracy")
    label(axes[0, 1], "reading 2: one run, rate ÷ 10 at each line", "epoch", "validation accuracy")
    columns = ["lr_searched", "schedule", "epoch", "lr", "train_loss", "val_accuracy"]
    return Findings(table=pd.concat(rows)[columns], measures=measures, figure=figure)
