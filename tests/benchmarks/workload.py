"""The work that everybody is given: random search over an MLP on the digits, the same for all.

Data, split, batches, architecture, update rule and number of epochs are equal; each rival draws
its own configurations from the same distributions, as its users would have it do.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

NUM_WORKERS = 2
LR = (1e-3, 1e-1)
"""Log-uniform."""
MOMENTUM = (0.0, 0.95)
"""Uniform."""
WEIGHT_DECAY = (1e-6, 1e-3)
"""Log-uniform, torch's convention."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """`num_trials` trainings of an MLP 64-width-width-10."""

    num_trials: int = 64
    width: int = 128
    epochs: int = 20
    batch_size: int = 64
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one run of one rival came to."""

    rival: str
    num_trials: int
    wall_s: float
    """From the call to the result; imports of the calling process and the start of Ray excluded."""
    started_s: float
    """The part of `wall_s` until the first worker took up its first trial."""
    best_error: float
    median_error: float
    """Over the trials: says that all trained the same thing."""
    notes: str = ""

    def to_mapping(self) -> dict[str, Any]:
        return asdict(self)


def outcome_of(
    rival: str, errors: Sequence[float], *, wall_s: float, started_s: float, notes: str = ""
) -> Outcome:
    """Sum up the validation errors of all trials."""
    return Outcome(
        rival=rival,
        num_trials=len(errors),
        wall_s=wall_s,
        started_s=started_s,
        best_error=min(errors),
        median_error=statistics.median(errors),
        notes=notes,
    )


@dataclass(frozen=True)
class Arrays:
    """Flat rows on which everybody trains: x float32 [N, 64], y int64 [N]."""

    x_train: Tensor
    y_train: Tensor
    x_val: Tensor
    y_val: Tensor


@cache
def digits() -> Arrays:
    """Load isoflop's split of the digits, so that all rivals see the same rows."""
    from trainers.config import DataConfig
    from trainers.data import load

    data = load(DataConfig(name="digits"))
    return Arrays(data.x_train.flatten(1), data.y_train, data.x_val.flatten(1), data.y_val)


def make_net(width: int) -> nn.Module:
    """Build MLP 64-width-width-10 with torch's own initial weights."""
    return nn.Sequential(
        nn.Linear(64, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10)
    )


def train_plainly(
    config: dict[str, float],
    work: Work,
    data: Arrays,
    *,
    seed: int,
    report: Callable[[int, float], None] | None = None,
    optimizer_options: dict[str, bool] | None = None,
) -> float:
    """Train one trial by the loop of the textbook and return its last validation error.

    Args:
        config: lr, momentum, weight_decay.
        work: what to train.
        data: on which rows.
        seed: of the initial weights and the order of rows.
        report: called after each epoch with (epoch, validation error).
        optimizer_options: torch.optim's `foreach` or `fused`; None: its defaults.

    """
    torch.manual_seed(seed)
    net = make_net(work.width)
    optimizer = torch.optim.SGD(
        net.parameters(),
        lr=config["lr"],
        momentum=config["momentum"],
        weight_decay=config["weight_decay"],
        **(optimizer_options or {}),
    )
    error = 1.0
    for epoch in range(1, work.epochs + 1):
        order = torch.randperm(len(data.x_train))
        for rows in order.split(work.batch_size):
            logits = net(data.x_train.index_select(0, rows))
            loss = F.cross_entropy(logits, data.y_train.index_select(0, rows))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            hits = (net(data.x_val).argmax(dim=1) == data.y_val).float().mean()
        error = 1.0 - float(hits)
        if report is not None:
            report(epoch, error)
    return error


def draw_configs(work: Work) -> list[dict[str, float]]:
    """Draw the trials of a hand-written random search."""
    import numpy as np

    rng = np.random.default_rng(work.seed)

    def log_uniform(low: float, high: float) -> float:
        return float(np.exp(rng.uniform(np.log(low), np.log(high))))

    return [
        {
            "lr": log_uniform(*LR),
            "momentum": float(rng.uniform(*MOMENTUM)),
            "weight_decay": log_uniform(*WEIGHT_DECAY),
        }
        for _ in range(work.num_trials)
    ]


def best_optimizer_options(work: Work, data: Arrays) -> dict[str, bool]:
    """Return which of torch.optim's implementations is fastest here, by one short trial each."""
    config = {"lr": 0.01, "momentum": 0.9, "weight_decay": 1e-5}
    short = Work(width=work.width, epochs=2)
    seconds: dict[str, float] = {}
    choices: dict[str, dict[str, bool]] = {
        "default": {},
        "foreach": {"foreach": True},
        "fused": {"fused": True},
    }
    for name, options in choices.items():
        times = []
        for _ in range(3):
            began_s = time.perf_counter()
            train_plainly(config, short, data, seed=0, optimizer_options=options)
            times.append(time.perf_counter() - began_s)
        seconds[name] = min(times)
    return choices[min(seconds, key=lambda name: seconds[name])]
