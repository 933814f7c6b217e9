"""Batch normalisation by the page's formulas: one batch (p. 52) and running averages (p. 53)."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from torch import nn

from service.lecture.findings import Findings, label, new_figure
from trainers.config import Count, Fraction, NonNegative, Section


class OneBatch(Section):
    """A batch of units with mean 2 and standard deviation 3 (p. 52)."""

    batch_sizes: tuple[Annotated[int, Field(ge=2)], ...] = (4, 8, 16, 32, 64, 128, 256)
    units: Count = 64
    eps: NonNegative = 1e-5
    seed: int = 0


def one_batch(settings: OneBatch) -> Findings:
    """Normalise by (a - mu) / sqrt(var + eps); see how well a batch stands for all of the data."""
    torch.manual_seed(settings.seed)
    figure, axes = new_figure(1, 2)
    rows, measures = [], dict[str, float | str]()
    for size in settings.batch_sizes:
        a = 2 + 3 * torch.randn(200, size, settings.units, dtype=torch.float64)
        mean, var = a.mean(1, keepdim=True), a.var(1, correction=0, keepdim=True)
        ours = (a - mean) / torch.sqrt(var + settings.eps)
        theirs = nn.BatchNorm1d(settings.units, eps=max(settings.eps, 1e-300)).double()(a[0])
        rows.append(
            {"batch_size": size, "spread_of_mean": float(mean.std()),
             "spread_of_std": float(var.sqrt().std()),
             "difference_from_torch": float((ours[0] - theirs).abs().max().detach())}
        )  # fmt: skip
    outside = float((ours.abs() > 1).double().mean())
    axes[0, 0].hist(a[0].flatten().numpy(), 60, density=True, alpha=0.6, label="before")
    axes[0, 0].hist(ours[0].flatten().numpy(), 60, density=True, alpha=0.6, label="after")
    table = pd.DataFrame(rows)
    axes[0, 1].loglog(table["batch_size"], table["spread_of_mean"], "o-", label="batch mean")
    axes[0, 1].loglog(table["batch_size"], table["spread_of_std"], "o-", label="batch σ")
    label(axes[0, 0], f"batch of {settings.batch_sizes[-1]}", "value", "density")
    label(axes[0, 1], "a batch as a sample of the data", "batch size B", "standard deviation")
    measures |= {
        "largest difference from torch.nn.BatchNorm1d": float(table["difference_from_torch"].max()),
        "share of normalised values outside ±1": outside,
        "exponent of the batch mean's spread in B": float(
            np.polyfit(np.log(table["batch_size"]), np.log(table["spread_of_mean"]), 1)[0]
        ),
    }
    return Findings(table=table, measures=measures, figure=figure)


class Running(Section):
    """Running averages over batches of 64 whose mean jumps from 0 to 2 (p. 53)."""

    decays: tuple[Fraction, ...] = (0.9, 0.99)
    """0.9 is torch's default (momentum 0.1), 0.99 the page's."""
    steps: Annotated[int, Field(ge=10)] = 800
    seed: int = 0


def running(settings: Running) -> Findings:
    """Follow the page's running mean beside torch's; torch's momentum is 1 - decay."""
    rng = np.random.default_rng(settings.seed)
    level = np.where(np.arange(settings.steps) < settings.steps // 2, 0.0, 2.0)
    batches = level[:, None] + rng.normal(size=(settings.steps, 64))
    figure, axes = new_figure(1, 1)
    axes[0, 0].plot(batches.mean(1), color="#d1d5db", linewidth=0.8, label="batch mean")
    rows, measures = [], dict[str, float | str]()
    for decay in settings.decays:
        norm = nn.BatchNorm1d(1, momentum=1 - decay).double()
        mean, path, gap = 0.0, [], 0.0
        for batch in batches:
            mean = decay * mean + (1 - decay) * batch.mean()
            norm(torch.from_numpy(batch)[:, None])
            assert norm.running_mean is not None
            gap = max(gap, abs(mean - float(norm.running_mean[0])))
            path.append(mean)
        axes[0, 0].plot(path, label=f"decay {decay:g} (torch momentum {1 - decay:g})")
        after = np.flatnonzero(np.array(path[settings.steps // 2 :]) > 0.9 * 2)
        measures[f"difference from torch, decay {decay:g}"] = gap
        measures[f"batches to follow 90 % of a jump, decay {decay:g}"] = (
            float(after[0]) + 1 if len(after) else f"more than {settings.steps // 2}"
        )
        rows.append(pd.DataFrame({"decay": decay, "step": range(settings.steps), "mean": path}))
    label(axes[0, 0], "running mean", "training step", "mean")
    return Findings(table=pd.concat(rows), measures=measures, figure=figure)
