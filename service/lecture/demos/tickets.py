"""Lottery tickets beside their controls (p. 58)."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import pandas as pd
from pydantic import Field

from service.lecture.findings import PALETTE, Findings, label, new_figure
from trainers.config import Count, Positive, Section, TrialConfig
from trainers.data import load
from trainers.tickets import find_tickets

SHARES = (0.21, 0.135, 0.036)
"""Shares of weights that the paper speaks of: tickets learn fastest at the first two and match
the dense net down to the last."""
TICKS = (1.0, 0.5, 0.2, 0.1, 0.05)
ARMS = {
    "ticket": "ticket",
    "reinitialised": "same mask, new weights",
    "random_mask": "random mask",
}


class Tickets(Section):
    """The paper's experiment on a small net: cuts of a fifth, the last layer's of a tenth."""

    data: str = "digits"
    depth: Count = 2
    width: Count = 64
    lr: Positive = 0.05
    epochs: Count = 20
    rounds: Count = 15
    rate: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Share of a layer's remaining weights that one cut takes."""
    seeds: Count = 4
    rewind_epoch: Annotated[int, Field(ge=0)] = 0
    """Epoch whose weights survivors go back to; 0: the initial ones."""


def tickets(settings: Tickets) -> Findings:
    """Draw error and speed of each arm against the share of weights that is left."""
    table = _means(settings)
    dense = table[table["arm"] == "dense"].iloc[0]
    measures: dict[str, float | str] = {
        "validation error, dense": float(dense["val_error"]),
        "epoch of lowest validation loss, dense": float(dense["early_stop_epoch"]),
    }
    figure, axes = new_figure(1, 2)
    drawn = (("val_error", "validation error"), ("early_stop_epoch", "epoch of lowest loss"))
    for place, (column, what) in enumerate(drawn):
        one = axes[0, place]
        one.axhline(float(dense[column]), color="#6b7280", linestyle="--", label="dense")
        for (arm, name), colour in zip(ARMS.items(), PALETTE, strict=False):
            own = table[table["arm"] == arm]
            one.fill_between(own["remaining"], own[f"{column}_lowest"], own[f"{column}_highest"],
                             color=colour, alpha=0.12, linewidth=0)  # fmt: skip
            one.plot(own["remaining"], own[column], "o-", markersize=3.5, color=colour, label=name)
        one.set_xscale("log")
        one.invert_xaxis()
        one.set_xticks(TICKS, [f"{share:.0%}" for share in TICKS])
        one.minorticks_off()
        label(one, f"{what}, mean and range of {settings.seeds} seeds", "share of weights left",
              what)  # fmt: skip
    for share in SHARES:
        for arm in ARMS:
            own = table[table["arm"] == arm]
            row = own.iloc[int((own["remaining"] - share).abs().argmin())]
            at = f"{arm}, nearest to {share:.1%} left"
            measures[f"validation error, {at}"] = float(row["val_error"])
            measures[f"epoch of lowest validation loss, {at}"] = float(row["early_stop_epoch"])
    return Findings(table=table, measures=measures, figure=figure)


def _means(settings: Tickets) -> pd.DataFrame:
    """Return means and extremes over seeds, one row per round and arm."""
    config = TrialConfig.from_mapping(
        {
            "data.name": settings.data, "model.depth": settings.depth,
            "model.width": settings.width, "optimizer.kind": "momentum",
            "optimizer.lr": settings.lr, "train.epochs": settings.epochs,
        }
    )  # fmt: skip
    found = find_tickets(
        config, load(config.data), rounds=settings.rounds, rate=settings.rate,
        head_rate=settings.rate / 2, seeds=range(settings.seeds),
        rewind_epoch=settings.rewind_epoch,
    )  # fmt: skip
    frame = pd.DataFrame([{**asdict(row), **row.metrics} for row in found.rows])
    groups = frame.groupby(["round", "arm"], sort=False)
    columns = ["remaining", "val_error", "val_loss", "early_stop_epoch"]
    extremes = [
        groups[columns[1:]].agg(how).add_suffix(suffix)
        for how, suffix in (("min", "_lowest"), ("max", "_highest"))
    ]
    return pd.concat([groups[columns].mean(), *extremes], axis=1).reset_index()
