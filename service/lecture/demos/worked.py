"""The worked nets of pages 12 and 21 to 25, gradient by gradient, against autograd."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Annotated

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from torch import Tensor

from service.lecture.findings import PALETTE, Findings, label, new_figure
from trainers.activations import activate, derivative
from trainers.config import Activation, Count, Section


class Worked(Section):
    """A net of fully connected layers on one random row, in float64."""

    widths: Annotated[tuple[Count, ...], Field(min_length=2)] = (4, 5, 3)
    """Inputs, hidden units and outputs; (2, 3, 1) is page 24's net."""
    activation: Activation = "sigmoid"
    loss: str = Field(default="cross_entropy", pattern="^(cross_entropy|half_mse)$")
    seed: int = 0


def gradients(settings: Worked) -> Findings:
    """Compute every gradient by the page's equations and compare it with autograd's."""
    torch.manual_seed(settings.seed)
    weights, biases = _draw(settings.widths)
    x = torch.randn(settings.widths[0], dtype=torch.float64)
    target = torch.zeros(settings.widths[-1], dtype=torch.float64)
    target[0] = 1.0
    ours = by_equations(weights, biases, x, target, settings)
    theirs = _by_autograd(weights, biases, x, target, settings)
    rows = []
    for layer, ((weight_grad, bias_grad), (weight_true, bias_true)) in enumerate(
        zip(ours, theirs, strict=True), start=1
    ):
        for name, mine, truth in (
            (f"dL/dW{layer}", weight_grad, weight_true),
            (f"dL/db{layer}", bias_grad, bias_true),
        ):
            rows.append(
                {"gradient": name, "shape": "×".join(map(str, mine.shape)),
                 "norm": float(mine.norm()), "difference": float((mine - truth).abs().max())}
            )  # fmt: skip
    figure, axes = new_figure(1, 2)
    axes[0, 0].bar([str(r["gradient"]) for r in rows], [r["norm"] for r in rows], color=PALETTE[0])
    for (mine, _), (truth, _) in zip(ours, theirs, strict=True):
        axes[0, 1].plot(truth.flatten(), mine.flatten(), "o")
    both = torch.cat([truth.flatten() for truth, _ in theirs])
    axes[0, 1].plot([both.min(), both.max()], [both.min(), both.max()], color="#9ca3af", zorder=0)
    axes[0, 0].tick_params(axis="x", rotation=45)
    label(axes[0, 0], "size of each gradient", "gradient", "norm", legend=False)
    label(axes[0, 1], "weight gradients", "autograd", "the page's equations", legend=False)
    measures = {
        "largest difference from autograd": max(float(str(r["difference"])) for r in rows),
        "parameters": float(
            sum(w.numel() + b.numel() for w, b in zip(weights, biases, strict=True))
        ),
        "error terms computed": float(len(weights)),
    }
    return Findings(table=pd.DataFrame(rows), measures=measures, figure=figure)


def _draw(widths: Sequence[int]) -> tuple[list[Tensor], list[Tensor]]:
    pairs = list(itertools.pairwise(widths))
    weights = [torch.randn(out, into, dtype=torch.float64) / into**0.5 for into, out in pairs]
    return weights, [0.1 * torch.randn(out, dtype=torch.float64) for _, out in pairs]


def by_equations(
    weights: Sequence[Tensor], biases: Sequence[Tensor], x: Tensor, y: Tensor, settings: Worked
) -> list[tuple[Tensor, Tensor]]:
    """Return (dL/dW, dL/db) of each layer by page 25's equations, each error term used twice.

    delta_L = softmax(z) - y, or z - y; delta_l = (W_(l+1)^T delta_(l+1)) * g'(z_l);
    dL/dW_l = delta_l a_(l-1)^T (an outer product), dL/db_l = delta_l.
    """
    activations, inputs = [x], []
    for weight, bias in zip(weights, biases, strict=True):
        inputs.append(weight @ activations[-1] + bias)
        activations.append(activate(settings.activation, inputs[-1]))
    out = inputs[-1].softmax(0) if settings.loss == "cross_entropy" else inputs[-1]
    delta = out - y
    found: list[tuple[Tensor, Tensor]] = []
    for layer in reversed(range(len(weights))):
        found.append((torch.outer(delta, activations[layer]), delta))
        if layer:
            slope = derivative(settings.activation, inputs[layer - 1])
            delta = (weights[layer].T @ delta) * slope
    return found[::-1]


def _by_autograd(
    weights: Sequence[Tensor], biases: Sequence[Tensor], x: Tensor, y: Tensor, settings: Worked
) -> list[tuple[Tensor, Tensor]]:
    own = [tensor.clone().requires_grad_() for tensor in (*weights, *biases)]
    num = len(weights)
    a = x
    for layer in range(num):
        z = own[layer] @ a + own[num + layer]
        a = activate(settings.activation, z) if layer < num - 1 else z
    if settings.loss == "cross_entropy":
        loss = torch.nn.functional.cross_entropy(a[None], y[None])
    else:
        loss = 0.5 * (a - y).square().sum()
    grads = torch.autograd.grad(loss, own)
    return list(zip(grads[:num], grads[num:], strict=True))


class Perceptron(Section):
    """A step unit that learns two-input logic by Rosenblatt's rule (1958)."""

    passes: Count = 25
    lr: Annotated[float, Field(gt=0)] = 1.0


def perceptron(settings: Perceptron) -> Findings:
    """Train the unit on AND, OR and XOR; no line separates XOR (p. 12)."""
    x = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], dtype=float)
    tasks = {"AND": [0, 0, 0, 1], "OR": [0, 1, 1, 1], "XOR": [0, 1, 1, 0]}
    figure, axes = new_figure(1, 4, height=3.2)
    figure.set_size_inches(13, 3.2)
    rows, measures = [], dict[str, float | str]()
    for place, (name, wanted) in enumerate(tasks.items()):
        w, b = np.zeros(2), 0.0
        for step in range(settings.passes):
            for row, target in zip(x, wanted, strict=True):
                error = target - float(row @ w + b > 0)
                w, b = w + settings.lr * error * row, b + settings.lr * error
            right = float(np.mean((x @ w + b > 0) == np.array(wanted)))
            rows.append({"task": name, "pass": step + 1, "accuracy": right})
        axes[0, 0].plot([r["accuracy"] for r in rows if r["task"] == name], label=name)
        one = axes[0, place + 1]
        one.scatter(x[:, 0], x[:, 1], c=wanted, s=90, cmap="coolwarm", edgecolors="#1b1e24")
        if abs(w[1]) > 1e-9:
            line = np.array([-0.5, 1.5])
            one.plot(line, -(w[0] * line + b) / w[1], color="#059669")
        one.set_ylim(-0.5, 1.5)
        measures[f"accuracy on {name}"] = right
        label(one, f"{name}: {right:.0%}", "x1", "x2", legend=False)
    label(axes[0, 0], "accuracy", "pass over the four rows", "share right")
    return Findings(table=pd.DataFrame(rows), measures=measures, figure=figure)
