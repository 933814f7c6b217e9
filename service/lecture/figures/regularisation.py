"""Penalties' weight histograms (p. 44) and early stopping (p. 49)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch

from service.lecture.findings import Findings, SearchRun, label, lowest, new_figure

TINY = 1e-6
PENALTIES = {(False, False): "none", (True, False): "L1", (False, True): "L2", (True, True): "both"}


def histograms(runs: Sequence[SearchRun]) -> Findings:
    """Draw the weights of the first layer under each penalty, and count those that are zero."""
    (run,) = runs
    figure, axes = new_figure(1, 2)
    rows, measures = [], dict[str, float | str]()
    bins = np.linspace(-0.4, 0.4, 81)
    modules = dict(zip(run.trials["trial_id"], run.modules(), strict=True))
    for (l1, l2), curve in run.by("regularisation.l1", "regularisation.l2"):
        name = PENALTIES[l1 > 0, l2 > 0]
        module = modules[curve["trial_id"].iloc[0]]
        weights = torch.cat([p.detach().flatten() for p in module.parameters() if p.ndim > 1])
        counts, _ = np.histogram(weights.numpy(), bins)
        axes[0, 0].step(bins[:-1], np.maximum(counts, 0.5), where="post", label=name)
        zeros = float((weights.abs() < TINY).double().mean())
        measures[f"share of weights |w| < 1e-6, {name}"] = zeros
        measures[f"standard deviation of weights, {name}"] = float(weights.std())
        measures[f"validation error, {name}"] = float(curve["val_error"].iloc[-1])
        rows.append(pd.DataFrame({"penalty": name, "from": bins[:-1], "weights": counts}))
        axes[0, 1].bar(name, zeros, width=0.6)
    axes[0, 0].set_yscale("log")
    label(axes[0, 0], "weights after training", "weight", "number")
    label(axes[0, 1], "share of weights that are zero", "penalty", "share", legend=False)
    return Findings(table=pd.concat(rows), measures=measures, figure=figure)


def early_stopping(runs: Sequence[SearchRun]) -> Findings:
    """Draw both losses with the epoch where validation turns, and where the trial stopped."""
    (run,) = runs
    figure, axes = new_figure(1, 1)
    rows, measures = [], dict[str, float | str]()
    for (patience,), curve in run.by("regularisation.early_stopping.patience_epochs"):
        name = "to the end" if patience == 0 else f"patience {patience:g}"
        rows.append(curve.assign(run=name))
        turn = int(curve["epoch"].iloc[lowest(curve["val_loss"])])
        if patience == 0:
            axes[0, 0].plot(curve["epoch"], curve["train_loss"], label="training loss")
            axes[0, 0].plot(curve["epoch"], curve["val_loss"], label="validation loss")
            axes[0, 0].axvline(turn, color="#9ca3af", linestyle=":", label="validation turns")
            measures["epoch at which validation turns"] = turn
        else:
            stopped = int(curve["epoch"].iloc[-1])
            axes[0, 0].axvline(stopped, color="#d97706", linestyle="--",
                               label=f"stops here, keeps epoch {turn}")  # fmt: skip
            measures[f"stopped at epoch, {name}"] = stopped
            measures[f"epoch kept, {name}"] = turn
        measures[f"lowest validation loss, {name}"] = float(curve["val_loss"].min())
        measures[f"last validation loss, {name}"] = float(curve["val_loss"].iloc[-1])
    label(axes[0, 0], "stop where validation turns", "epoch", "loss")
    columns = ["run", "epoch", "train_loss", "val_loss", "val_error"]
    return Findings(table=pd.concat(rows)[columns], measures=measures, figure=figure)
