"""The task of `anytime`: one space, a plain way to train one of its points, and a fair judge."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from search_spaces import Space, choice, log_uniform, uniform
from trainers import train_pack
from trainers.config import TrialConfig
from trainers.data import Dataset, load
from trainers.initialisation import initialise
from trainers.lanes.evaluation import evaluate
from trainers.models import build_model
from trainers.trial import Trial

MAX_EPOCHS = 27
JUDGE_SEEDS = 3
WIDTHS = (32, 64, 128, 256)
DEPTHS = (1, 2, 3)
ACTIVATIONS = ("relu", "tanh", "elu")
BATCH_SIZES = (32, 64, 128)
KINDS = ("adam", "momentum")
LR = (1e-4, 1.0)
MOMENTUM = (0.5, 0.98)
WEIGHT_DECAY = (1e-6, 1e-2)
DROPOUT = (0.0, 0.5)

Config = Mapping[str, Any]
"""Dotted path -> value."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """One epoch of one trial, as a rival's driver came to know it."""

    elapsed_s: float
    """Since the call; start-up is counted."""
    trial: str
    epoch: int
    val_error: float
    config: Config

    def to_mapping(self) -> dict[str, Any]:
        return asdict(self)


def space() -> Space:
    """Return the space in isoflop's own words; rivals say the same in theirs."""
    return Space(
        {
            "optimizer.kind": choice(*KINDS),
            "optimizer.lr": log_uniform(*LR),
            "optimizer.momentum": uniform(*MOMENTUM, when={"optimizer.kind": "momentum"}),
            "optimizer.weight_decay": log_uniform(*WEIGHT_DECAY),
            "model.dropout": uniform(*DROPOUT),
            "model.width": choice(*WIDTHS),
            "model.depth": choice(*DEPTHS),
            "model.activation": choice(*ACTIVATIONS),
            "train.batch_size": choice(*BATCH_SIZES),
        }
    )


def trial_config(data: str, config: Config) -> TrialConfig:
    """Return a point of the space as a full-length trial."""
    return TrialConfig.from_mapping(
        {"data.name": data, "model.kind": "mlp", "train.epochs": MAX_EPOCHS, **config}
    )


def train_point(data: str, config: Config, seed: int, report: Callable[[int, float], None]) -> None:
    """Train one point by a plain loop; `report` may raise to stop it."""
    full = trial_config(data, config)
    dataset = load(full.data)
    torch.manual_seed(seed)
    net = build_model(full.model, dataset.input_shape, dataset.num_outputs)
    initialise(net, full.init, full.model.activation, seed)
    optimizer = _optimizer(net, full)
    for epoch in range(1, MAX_EPOCHS + 1):
        net.train()
        for rows in torch.randperm(len(dataset.x_train)).split(full.train.batch_size):
            logits = net(dataset.x_train.index_select(0, rows))
            loss = F.cross_entropy(logits, dataset.y_train.index_select(0, rows))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        net.eval()
        with torch.no_grad():
            hits = (net(dataset.x_val).argmax(dim=1) == dataset.y_val).float().mean()
        report(epoch, 1.0 - float(hits))


def _optimizer(net: nn.Module, full: TrialConfig) -> torch.optim.Optimizer:
    settings = full.optimizer
    if settings.kind == "adam":
        return torch.optim.Adam(
            net.parameters(), lr=settings.lr, weight_decay=settings.weight_decay
        )
    return torch.optim.SGD(
        net.parameters(),
        lr=settings.lr,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
    )


class Judge:
    """Re-trains configurations at full length with seeds of its own and tests them."""

    def __init__(self, data: str) -> None:
        self._data = data
        self._test_error = cache(self._retrain)

    def test_error(self, config: Config) -> float:
        """Return the mean test error over `JUDGE_SEEDS` seeds."""
        return self._test_error(tuple(sorted(config.items())))

    def _retrain(self, items: tuple[tuple[str, Any], ...]) -> float:
        full = trial_config(self._data, dict(items))
        dataset: Dataset = load(full.data)
        trials = [Trial(trial_id=i, seed=10_000 + i, config=full) for i in range(JUDGE_SEEDS)]
        result = train_pack(trials, None, MAX_EPOCHS, dataset=dataset, device="cpu")
        found = evaluate(result.states, trials, dataset, "test")
        errors = [one.metrics["test_error"] for one in found]
        # A seed that diverged knows nothing, whatever its weights say.
        return sum(error if math.isfinite(error) else 1.0 for error in errors) / JUDGE_SEEDS


class Stopwatch:
    """Makes reports from what a rival says."""

    def __init__(self) -> None:
        self.began_s = time.perf_counter()
        self.reports: list[Report] = []

    @property
    def elapsed_s(self) -> float:
        return time.perf_counter() - self.began_s

    def note(self, trial: str, epoch: int, val_error: float, config: Config) -> None:
        """Take note of an epoch now."""
        self.reports.append(
            Report(
                elapsed_s=self.elapsed_s,
                trial=trial,
                epoch=epoch,
                val_error=val_error,
                config=dict(config),
            )
        )
