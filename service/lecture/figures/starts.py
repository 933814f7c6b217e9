"""Initialisation: cost curves and boundaries (p. 56, 57), each activation's match (p. 58)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch

from service.lecture.findings import Findings, SearchRun, label, new_figure
from trainers.data import load
from trainers.errors import ConfigError

KIND = "init.kind"


def curves(runs: Sequence[SearchRun]) -> Findings:
    """Draw cost against epoch for each start (p. 55, 57)."""
    (run,) = runs
    figure, axes = new_figure(1, 2)
    rows, measures = [], dict[str, float | str]()
    for (kind,), curve in run.by(KIND):
        axes[0, 0].plot(curve["epoch"], curve["train_loss"], label=kind)
        axes[0, 1].plot(curve["epoch"], 1 - curve["val_error"], label=kind)
        measures[f"final cost, {kind}"] = float(curve["train_loss"].iloc[-1])
        measures[f"validation accuracy, {kind}"] = float(1 - curve["val_error"].iloc[-1])
        rows.append(curve.assign(init=kind)[["init", "epoch", "train_loss", "val_error"]])
    axes[0, 0].axhline(math.log(2), color="#9ca3af", linestyle=":", label="ln 2: guessing")
    axes[0, 0].set_yscale("log")
    label(axes[0, 0], "cost", "epoch", "training loss")
    label(axes[0, 1], "accuracy", "epoch", "validation accuracy")
    return Findings(table=pd.concat(rows), measures=measures, figure=figure)


def boundaries(runs: Sequence[SearchRun]) -> Findings:
    """Draw the decision boundary that each start ends with (p. 56)."""
    (run,) = runs
    data = load(run.spec.base.data)
    if data.input_shape != (2,):
        raise ConfigError(
            f"a boundary is drawn over two inputs, but `{data.name}` has rows of shape "
            f"{data.input_shape}; use data.name=moons"
        )
    modules = dict(zip(run.trials["trial_id"], run.modules(), strict=True))
    figure, axes = new_figure(1, len(modules), height=3.2)
    figure.set_size_inches(3.2 * len(modules), 3.2)
    rows, measures = [], dict[str, float | str]()
    grid = torch.cartesian_prod(*(torch.linspace(-2.5, 2.5, 101),) * 2)
    for place, ((name,), curve) in enumerate(run.by(KIND)):
        module = modules[curve["trial_id"].iloc[0]]
        with torch.no_grad():
            chance = torch.softmax(module(grid), dim=1)[:, 1]
            right = (module(data.x_val).argmax(1) == data.y_val).double().mean()
        one = axes[0, place]
        one.contourf(*(grid[:, i].reshape(101, 101) for i in (0, 1)), chance.reshape(101, 101),
                     levels=np.linspace(0, 1, 11), cmap="RdBu_r", alpha=0.7)  # fmt: skip
        one.scatter(data.x_val[:, 0], data.x_val[:, 1], c=data.y_val, s=5, cmap="RdBu_r",
                    edgecolors="#1b1e24", linewidths=0.2)  # fmt: skip
        label(one, f"{name}: {right:.1%}", "x1", "x2", legend=False)
        measures[f"validation accuracy, {name}"] = float(right)
        measures[f"spread of predicted chances, {name}"] = float(chance.std())
        rows.append(pd.DataFrame({"init": name, "x1": grid[:, 0], "x2": grid[:, 1],
                                  "chance_of_class_1": chance}))  # fmt: skip
    return Findings(table=pd.concat(rows), measures=measures, figure=figure)


def matching(runs: Sequence[SearchRun]) -> Findings:
    """Draw loss curves of each activation under each initialisation (p. 58)."""
    (run,) = runs
    groups: dict[tuple[str, str], list[pd.DataFrame]] = {}
    for (activation, kind), curve in run.by("model.activation", KIND):
        groups.setdefault((activation, kind), []).append(curve)
    activations = list(dict.fromkeys(activation for activation, _ in groups))
    figure, axes = new_figure(1, len(activations), height=3.2)
    figure.set_size_inches(3.3 * len(activations), 3.2)
    rows, measures = [], dict[str, float | str]()
    for (activation, kind), curves in groups.items():
        mean = pd.concat(curves).groupby("epoch")[["train_loss", "val_error"]].mean().reset_index()
        one = axes[0, activations.index(activation)]
        one.plot(mean["epoch"], mean["train_loss"], label=kind)
        label(one, activation, "epoch", "training loss")
        measures[f"training loss, {activation}, {kind}"] = float(mean["train_loss"].iloc[-1])
        rows.append(mean.assign(activation=activation, init=kind))
    for activation in activations:
        scores = {
            kind: float(measures[f"training loss, {activation}, {kind}"])
            for name, kind in groups if name == activation
        }  # fmt: skip
        measures[f"lowest training loss, {activation}"] = min(scores, key=lambda k: scores[k])
    return Findings(table=pd.concat(rows), measures=measures, figure=figure)
