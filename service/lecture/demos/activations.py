"""Activations and their derivatives (p. 13), and what a net is without them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

from service.lecture.findings import Findings, label, new_figure
from trainers.activations import activate, derivative
from trainers.config import Activation, Count, DataConfig, ModelConfig, Section, TrialConfig
from trainers.lanes.pack import train_pack
from trainers.trial import Trial


class Activations(Section):
    """The interval drawn, and the net trained with and without activation."""

    reach: float = 5.0
    kinds: tuple[Activation, ...] = ("sigmoid", "tanh", "relu", "elu")
    epochs: Count = 30
    depth: Count = 3


def curves(settings: Activations) -> Findings:
    """Draw g and g', and train the same net with `identity` and with each activation on moons."""
    z = torch.linspace(-settings.reach, settings.reach, 401, dtype=torch.float64)
    figure, axes = new_figure(1, 3)
    frames, measures = [], dict[str, float | str]()
    for kind in settings.kinds:
        value, slope = activate(kind, z), derivative(kind, z)
        axes[0, 0].plot(z, value, label=kind)
        axes[0, 1].plot(z, slope, label=kind)
        measures[f"largest derivative, {kind}"] = float(slope.max())
        frames.append(pd.DataFrame({"activation": kind, "x": z, "g": value, "slope": slope}))
    for kind in (*settings.kinds, "identity"):
        error = _error(kind, settings)
        axes[0, 2].bar(kind, 1 - error, width=0.6)
        measures[f"accuracy on two half circles, {kind}"] = 1 - error
    axes[0, 0].set_ylim(-1.5, 3)
    axes[0, 2].set_ylim(0.5, 1)
    label(axes[0, 0], "activation", "x", "g(x)")
    label(axes[0, 1], "derivative", "x", "g'(x)")
    label(axes[0, 2], f"{settings.depth} hidden layers on moons", "", "validation accuracy",
          legend=False)  # fmt: skip
    return Findings(table=pd.concat(frames), measures=measures, figure=figure)


def _error(kind: Activation, settings: Activations) -> float:
    config = TrialConfig(
        data=DataConfig(name="moons"),
        model=ModelConfig(depth=settings.depth, width=16, activation=kind),
    ).with_values({"train.epochs": settings.epochs, "optimizer.lr": 0.01, "train.batch_size": 32})
    result = train_pack([Trial(trial_id=0, config=config, seed=0)], None, settings.epochs)
    return float(np.asarray(result.rows[0].metrics["val_error"]))
