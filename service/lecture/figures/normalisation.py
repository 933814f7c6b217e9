"""Batch normalisation: what layers see (p. 51) and which rates train (p. 54)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import nn

from service.lecture.findings import PALETTE, Findings, SearchRun, label, new_figure
from trainers.data import load
from trainers.diagnostics import layer_signals

TRAINS = 0.2
"""A validation error below this after the page's epochs counts as training (chance is 0.9)."""
REACHED = 0.06
"""How fast: epochs until the validation error is below this."""


def layers(runs: Sequence[SearchRun]) -> Findings:
    """Draw the values that enter the last ReLU, and the share of dead units in each layer."""
    (run,) = runs
    figure, axes = new_figure(1, 3)
    rows, measures = [], dict[str, float | str]()
    x = load(run.spec.base.data).x_val
    modules = dict(zip(run.trials["trial_id"], run.modules(), strict=True))
    cases = zip(run.by("model.batch_norm", "init.scale"), cycle(PALETTE), strict=False)
    for ((place, scale), curve), colour in cases:
        module = modules[curve["trial_id"].iloc[0]]
        name = f"{'without' if place == 'none' else 'with'}, init × {scale:g}"
        signals = layer_signals(module, x)
        z = _entering(module.get_submodule(signals[-1].name), module, x)
        if scale == 1.0:
            counts, edges = np.histogram(z, np.linspace(-8, 8, 65), density=True)
            axes[0, 0].step(edges[:-1], counts, where="post", label=name, color=colour)
            measures[f"share of values outside ±1, {name}"] = float((np.abs(z) > 1).mean())
        axes[0, 1].plot([s.dead_share for s in signals], marker="o", color=colour)
        axes[0, 2].plot(curve["epoch"], curve["train_loss"], label=name, color=colour)
        dead = float(np.mean([s.dead_share for s in signals]))
        measures[f"dead units, {name}"] = dead
        error = float(curve["val_error"].iloc[-1])
        measures[f"validation error, {name}"] = error
        for depth, signal in enumerate(signals):
            rows.append(
                {"batch_norm": place, "init_scale": scale, "layer": depth, "std": signal.std,
                 "dead_share": signal.dead_share, "val_error": error}
            )  # fmt: skip
    axes[0, 2].set_yscale("log")
    label(axes[0, 0], "values entering the last ReLU", "value", "density")
    label(axes[0, 1], "dead units", "layer", "share", legend=False)
    label(axes[0, 2], "training", "epoch", "training loss")
    return Findings(table=pd.DataFrame(rows), measures=measures, figure=figure)


def _entering(layer: nn.Module, model: nn.Module, x: torch.Tensor) -> npt.NDArray[np.float32]:
    """Return every value that enters `layer` when the model evaluates rows x."""
    seen: list[torch.Tensor] = []
    handle = layer.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach()))
    layer_signals(model, x)
    handle.remove()
    values: npt.NDArray[np.float32] = seen[0].flatten().numpy()
    return values


def rates(runs: Sequence[SearchRun]) -> Findings:
    """Draw the error against the rate, and find the highest rate that trains."""
    (run,) = runs
    figure, axes = new_figure(1, 2)
    rows, measures = [], dict[str, float | str]()
    ends = [
        (str(place), float(rate), curve) for (place, rate), curve in
        run.by("model.batch_norm", "optimizer.lr")
    ]  # fmt: skip
    for place in dict.fromkeys(name for name, _, _ in ends):
        own = [(rate, curve) for name, rate, curve in ends if name == place]
        own.sort(key=lambda pair: pair[0])
        errors = [_last_error(curve) for _, curve in own]
        axes[0, 0].plot([rate for rate, _ in own], errors, marker="o", label=place)
        stable = [rate for (rate, _), error in zip(own, errors, strict=True) if error < TRAINS]
        if stable:
            measures[f"highest rate that trains, {place}"] = max(stable)
            measures[f"lowest rate that trains, {place}"] = min(stable)
        best = int(np.argmin(errors))
        rate, curve = own[best]
        measures[f"lowest error, {place}"] = errors[best]
        measures[f"epochs to an error of {REACHED:g} at the best rate, {place}"] = _epochs(curve)
        axes[0, 1].plot(curve["epoch"], curve["train_loss"], label=f"{place}, lr {rate:g}")
        rows += [
            {"batch_norm": place, "lr": rate, "val_error": error}
            for (rate, _), error in zip(own, errors, strict=True)
        ]
    if {"highest rate that trains, none", "highest rate that trains, before"} <= set(measures):
        before, none = (measures[f"highest rate that trains, {p}"] for p in ("before", "none"))
        measures["highest rate, with over without"] = float(before) / float(none)
    axes[0, 0].set_xscale("log")
    axes[0, 1].set_yscale("log")
    label(axes[0, 0], "error against rate", "learning rate", "validation error")
    label(axes[0, 1], "training at each one's best rate", "epoch", "training loss")
    return Findings(table=pd.DataFrame(rows), measures=measures, figure=figure)


def _last_error(curve: pd.DataFrame) -> float:
    """Return the last validation error; a diverged net guesses."""
    error = float(curve["val_error"].iloc[-1])
    return error if np.isfinite(error) else 0.9


def _epochs(curve: pd.DataFrame) -> float:
    reached = curve[curve["val_error"] < REACHED]
    return float(reached["epoch"].iloc[0]) if len(reached) else float("inf")
