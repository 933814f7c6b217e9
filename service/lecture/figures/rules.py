"""Learning rules side by side (p. 32, 34): error, training error's course, cosine with backprop."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from service.lecture.findings import PALETTE, Findings, SearchRun, label, lowest, new_figure

RULE, LR = "learning_rule.kind", "optimizer.lr"
COSINE = "cos_backprop"


def comparison(runs: Sequence[SearchRun]) -> Findings:
    """Show each rule at its best rate by validation error."""
    (run,) = runs
    best: dict[str, tuple[float, float, pd.DataFrame]] = {}
    for (rule, rate), curve in run.by(RULE, LR):
        error = float(curve["val_error"].iloc[-1])
        if not math.isfinite(error):
            continue
        if rule not in best or error < best[rule][0]:
            best[rule] = (error, rate, curve)
    lowest(run.trials["val_error"])
    ranked = sorted(best, key=lambda rule: best[rule][0])
    figure, axes = new_figure(1, 3, height=4.2)
    rows, measures = [], dict[str, float | str]()
    for place, rule in enumerate(ranked):
        error, rate, curve = best[rule]
        style = {"color": PALETTE[place % len(PALETTE)], "linestyle": "-" if place < 8 else "--"}
        axes[0, 0].barh(rule, error, color=style["color"])
        axes[0, 1].plot(curve["epoch"], curve["train_loss"], label=rule, **style)
        measures[f"validation error, {rule}"] = error
        if COSINE in curve and curve[COSINE].notna().any():
            axes[0, 2].plot(curve["epoch"], curve[COSINE], label=rule, **style)
            measures[f"cosine with backprop at the end, {rule}"] = float(curve[COSINE].iloc[-1])
            layers = [name for name in map(str, curve) if name.startswith(f"{COSINE}_")]
            measures[f"cosine of each hidden layer, first to last, {rule}"] = " ".join(
                f"{value:.2f}" for value in curve[layers].iloc[-1]
            )
        rows.append(curve.assign(rule=rule, lr_searched=rate))
    axes[0, 0].invert_yaxis()
    label(axes[0, 0], "validation error, best of the rates", "error", "", legend=False)
    label(axes[0, 1], "training", "epoch", "training loss", legend=False)
    label(axes[0, 2], "hidden layers' update against the gradient", "epoch", "cosine", legend=False)
    # Thirteen names would cover the curves wherever they stood inside.
    figure.legend(
        *axes[0, 1].get_legend_handles_labels(),
        loc="outside right upper",
        frameon=False,
        fontsize=8,
    )
    columns = ["rule", "lr_searched", "epoch", "train_loss", "val_loss", "val_error", COSINE]
    table = pd.concat(rows)
    columns += sorted(name for name in map(str, table) if name.startswith(f"{COSINE}_"))
    kept = [name for name in columns if name in table]
    return Findings(table=table[kept], measures=measures, figure=figure)
