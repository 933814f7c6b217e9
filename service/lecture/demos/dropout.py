"""Dropout's masks (p. 45-47) and what testing without them approximates (p. 48)."""

from __future__ import annotations

import math
from functools import cache
from typing import Annotated

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from torch import Tensor, nn

from service.lecture.findings import PALETTE, Findings, label, new_figure
from trainers.config import Count, DataConfig, ModelConfig, Section, TrainConfig, TrialConfig
from trainers.data import load
from trainers.lanes.evaluation import to_module
from trainers.lanes.pack import train_pack
from trainers.noise import DropoutNoise
from trainers.trial import Trial


class Masks(Section):
    """A layer's masks at two steps (p. 45-47)."""

    width: Count = 4096
    rate: Annotated[float, Field(gt=0, lt=1)] = 0.5
    batch_size: Count = 32
    seed: int = 0


def masks(settings: Masks) -> Findings:
    """Draw the masks that training uses: fresh for each row and step, and independent."""
    first, second = _training_masks(settings, epoch=0, steps=2)
    (third,) = _training_masks(settings, epoch=1, steps=1)
    figure, axes = new_figure(1, 3, height=3.2)
    for place, (mask, name) in enumerate(
        ((first, "epoch 1, step 1"), (second, "epoch 1, step 2"), (third, "epoch 2, step 1"))
    ):
        axes[0, place].imshow(mask[:, :64], cmap="Greys_r", aspect="auto", vmin=0, vmax=1)
        label(axes[0, place], name, "unit (the first 64)", "row of the batch", legend=False)
    pairs = {
        "two rows of one step": (first[0], first[-1]),
        "two steps of one epoch": (first, second),
        "two epochs": (first, third),
    }
    rows = [{"pair": name, "agree": _agree(*pair)} for name, pair in pairs.items()]
    keep = 1 - settings.rate
    measures: dict[str, float | str] = {
        "share kept": float(first.double().mean()),
        **{f"units on which masks agree, {row['pair']}": float(str(row["agree"])) for row in rows},
        "agreement of independent masks": keep**2 + settings.rate**2,
        f"log10 of the number of sub-models, {settings.width} units": settings.width
        * math.log10(2),
    }
    return Findings(table=pd.DataFrame(rows), measures=measures, figure=figure)


def _training_masks(settings: Masks, epoch: int, steps: int) -> list[Tensor]:
    """Return which units the trainer keeps in the first steps of an epoch, each [rows, units]."""
    noise = DropoutNoise(
        [settings.seed], [epoch], [[settings.rate]], [(settings.width,)],
        batch_size=settings.batch_size, dtype=torch.float32, device=torch.device("cpu"),
    )  # fmt: skip
    return [noise.masks(settings.batch_size)[0][0] > 0 for _ in range(steps)]


def _agree(one: Tensor, other: Tensor) -> float:
    return float((one == other).double().mean())


class Ensemble(Section):
    """A trained net whose masks stay on at test time (p. 48)."""

    rate: Annotated[float, Field(gt=0, lt=1)] = 0.5
    width: Count = 128
    epochs: Count = 20
    passes: Annotated[int, Field(ge=4)] = 256
    seed: int = 0


def ensemble(settings: Ensemble) -> Findings:
    """Average sampled sub-models, and compare with one pass over weights scaled by 1 - p."""
    module, x, y = _trained(settings.rate, settings.width, settings.epochs, settings.seed)
    with torch.no_grad():
        scaled = module.eval()(x).softmax(1)
        torch.manual_seed(settings.seed)
        module.train()
        samples = torch.stack([module(x).softmax(1) for _ in range(settings.passes)])
        module.eval()
        strange = torch.randn_like(x) * 3
        module.train()
        far = torch.stack([module(strange).softmax(1) for _ in range(32)])
        module.eval()
    counts = [t for t in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512) if t <= settings.passes // 2]
    rows = []
    for t in counts:
        means = torch.stack(
            [samples[i : i + t].mean(0) for i in range(0, settings.passes - t + 1, t)]
        )
        rows.append(
            {"passes": t, "error": float((means.argmax(2) != y).double().mean()),
             "spread": float(means.std(0).mean()) if len(means) > 1 else math.nan,
             "distance": float((means - scaled).abs().mean())}
        )  # fmt: skip
    table = pd.DataFrame(rows)
    scaled_error = float((scaled.argmax(1) != y).double().mean())
    figure, axes = new_figure(1, 3)
    axes[0, 0].semilogx(table["passes"], table["error"], "o-", label="mean of T sub-models")
    axes[0, 0].axhline(scaled_error, color=PALETTE[1], label="one pass, weights scaled")
    axes[0, 1].loglog(table["passes"], table["spread"], "o-", label="measured")
    axes[0, 1].loglog(table["passes"], table["spread"].iloc[0] / np.sqrt(table["passes"]), "--",
                      label="1 / √T")  # fmt: skip
    axes[0, 2].hist([samples.std(0).mean(1).numpy(), far.std(0).mean(1).numpy()], bins=25,
                    density=True, label=["digits", "noise, never seen"])  # fmt: skip
    label(axes[0, 0], "ensemble of sub-models", "sub-models T", "validation error")
    label(axes[0, 1], "spread of the mean", "sub-models T", "standard deviation")
    label(axes[0, 2], "disagreement of sub-models", "standard deviation", "density")
    slope = np.polyfit(np.log(table["passes"]), np.log(table["spread"]), 1)[0]
    measures = {
        "validation error, weights scaled": scaled_error,
        "validation error, one sub-model": float(table["error"].iloc[0]),
        f"validation error, {counts[-1]} sub-models": float(table["error"].iloc[-1]),
        "mean distance of ensemble and scaled weights": float(table["distance"].iloc[-1]),
        "exponent of the spread in T": float(slope),
        "spread on digits": float(samples.std(0).mean()),
        "spread on noise": float(far.std(0).mean()),
    }
    return Findings(table=table, measures=measures, figure=figure)


@cache
def _trained(rate: float, width: int, epochs: int, seed: int) -> tuple[nn.Module, Tensor, Tensor]:
    config = TrialConfig(
        data=DataConfig(name="digits"),
        model=ModelConfig(depth=2, width=width, dropout=rate),
        train=TrainConfig(epochs=epochs),
    )
    trial = Trial(trial_id=0, config=config, seed=seed)
    dataset = load(config.data)
    result = train_pack([trial], None, epochs, dataset=dataset)
    return to_module(result.states[0], trial, dataset), dataset.x_val, dataset.y_val
