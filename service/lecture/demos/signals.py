"""How far signals and gradients travel in an untrained net (p. 55, 58)."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from torch import nn

from service.lecture.findings import Findings, label, new_figure
from trainers.config import Activation, Count, InitConfig, InitKind, Section
from trainers.diagnostics import layer_signals
from trainers.initialisation import initialise
from trainers.models.mlp import Mlp

Case = tuple[Activation, InitKind, float]
CASES: tuple[Case, ...] = (
    ("tanh", "xavier", 1.0), ("tanh", "xavier", 0.1), ("tanh", "xavier", 10.0),
    ("relu", "he", 1.0), ("relu", "he", 0.1), ("relu", "he", 10.0), ("sigmoid", "xavier", 1.0),
)  # fmt: skip


class Signals(Section):
    """Depth, width and rows; each case is an activation, an initialisation and a factor on it."""

    depth: Annotated[int, Field(ge=2, le=100)] = 10
    width: Count = 256
    rows: Count = 256
    cases: tuple[Case, ...] = CASES
    seed: int = 0


def depths(settings: Signals) -> Findings:
    """Draw each layer's spread and each weight's gradient; large weights explode them."""
    figure, axes = new_figure(1, 2)
    rows, measures = [], dict[str, float | str]()
    torch.manual_seed(settings.seed)
    x = torch.randn(settings.rows, settings.width, dtype=torch.float64)
    y = torch.randint(0, 10, (settings.rows,))
    for activation, kind, scale in settings.cases:
        name = f"{activation}, {kind} × {scale:g}"
        model = Mlp((settings.width,), 10, depth=settings.depth, width=settings.width,
                    activation=activation).double()  # fmt: skip
        initialise(model, InitConfig(kind=kind, scale=scale), activation, settings.seed)
        spread = [signal.std for signal in layer_signals(model, x)]
        weights = [p for p in model.parameters() if p.ndim > 1]
        loss = nn.functional.cross_entropy(model(x), y)
        grads = [float(grad.norm()) for grad in torch.autograd.grad(loss, weights)]
        axes[0, 0].semilogy(range(1, len(spread) + 1), np.maximum(spread, 1e-16), ".-", label=name)
        axes[0, 1].semilogy(range(1, len(grads) + 1), np.maximum(grads, 1e-16), ".-", label=name)
        measures[f"spread last / first layer, {name}"] = spread[-1] / spread[0]
        measures[f"gradient first / last weight, {name}"] = grads[0] / grads[-1]
        rows += [
            {"case": name, "layer": i + 1, "std": s, "gradient_norm": g}
            for i, (s, g) in enumerate(zip(spread, grads, strict=False))
        ]
    label(axes[0, 0], "spread of activations", "layer", "standard deviation")
    label(axes[0, 1], "gradients of weights", "layer", "norm", legend=False)
    return Findings(table=pd.DataFrame(rows), measures=measures, figure=figure)
