"""Two losses (p. 18), and the chain rule as a product with a transposed Jacobian (p. 20)."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import torch
from torch import nn

from service.lecture.findings import Findings, label, new_figure
from trainers.config import Count, Section


class Losses(Section):
    """Classes, outputs and rows of the random case that is compared with torch."""

    classes: Count = 10
    rows: Count = 32
    outputs: Count = 4
    seed: int = 0


def losses(settings: Losses) -> Findings:
    """Draw both losses, and put the page's squared error beside torch's `MSELoss`."""
    torch.manual_seed(settings.seed)
    shape = (settings.rows, settings.outputs)
    y, guess = torch.randn(shape, dtype=torch.float64), torch.randn(shape, dtype=torch.float64)
    ours = float(0.5 * (y - guess).square().sum(1).mean())
    theirs = float(nn.functional.mse_loss(guess, y))
    labels = torch.randint(settings.classes, (settings.rows,))
    flat = torch.zeros(settings.rows, settings.classes, dtype=torch.float64)
    extreme = flat.clone()
    extreme[:, 0] = 1e4
    chance = np.linspace(0.001, 1, 400)
    error = np.linspace(-3, 3, 400)
    figure, axes = new_figure(1, 2)
    axes[0, 0].plot(error, error**2 / 2, label="the page: ½ e²")
    axes[0, 0].plot(error, error**2, "--", label="torch's MSELoss: e²")
    axes[0, 1].plot(chance, -np.log(chance), label="-log p")
    axes[0, 1].axhline(math.log(settings.classes), color="#9ca3af", linestyle=":",
                       label=f"ln {settings.classes}: guessing")  # fmt: skip
    label(axes[0, 0], "squared error, one output", "error e", "loss")
    label(axes[0, 1], "cross-entropy", "probability of the right class", "loss")
    table = pd.DataFrame({"probability": chance, "cross_entropy": -np.log(chance),
                          "error": error, "half_squared": error**2 / 2})  # fmt: skip
    measures: dict[str, float | str] = {
        "half squared norm over torch's MSELoss": ours / theirs,
        "outputs / 2": settings.outputs / 2,
        "cross-entropy of a net that knows nothing": float(
            nn.functional.cross_entropy(flat, labels)
        ),
        "ln of the number of classes": math.log(settings.classes),
        "cross-entropy at a logit of 1e4": float(nn.functional.cross_entropy(extreme, labels)),
    }
    return Findings(table=table, measures=measures, figure=figure)


class Chain(Section):
    """x [d] -> y = tanh(A x) [m] -> z, a number."""

    inputs: Count = 6
    middle: Count = 9
    seed: int = 0


def chain(settings: Chain) -> Findings:
    """Multiply by the transposed Jacobian, and let autograd do the same without forming it."""
    torch.manual_seed(settings.seed)
    x = torch.randn(settings.inputs, dtype=torch.float64)
    weight = torch.randn(settings.middle, settings.inputs, dtype=torch.float64)

    def inner(v: torch.Tensor) -> torch.Tensor:
        return torch.tanh(weight @ v)

    jacobian = torch.func.jacrev(inner)(x)
    dz_dy = 2 * inner(x)  # of z = |y|^2
    by_jacobian = jacobian.T @ dz_dy
    leaf = x.clone().requires_grad_()
    (by_vjp,) = torch.autograd.grad(inner(leaf), leaf, grad_outputs=dz_dy)
    figure, axes = new_figure(1, 2)
    shown = axes[0, 0].imshow(jacobian, cmap="RdBu_r", aspect="auto")
    figure.colorbar(shown, ax=axes[0, 0])
    axes[0, 1].plot(by_jacobian, "o", markersize=9, label="(dy/dx)ᵀ dz/dy")
    axes[0, 1].plot(by_vjp, "x", markersize=9, label="vector-Jacobian product")
    label(axes[0, 0], "Jacobian dy/dx", "x", "y", legend=False)
    label(axes[0, 1], "dz/dx", "component", "value")
    table = pd.DataFrame({"by_jacobian": by_jacobian.numpy(), "by_vjp": by_vjp.numpy()})
    measures: dict[str, float | str] = {
        "largest difference": float((by_jacobian - by_vjp).abs().max()),
        "numbers in the Jacobian": float(jacobian.numel()),
        "numbers in the vector": float(by_vjp.numel()),
    }
    return Findings(table=table, measures=measures, figure=figure)
