"""How to search: two layouts (p. 61) and the seven steps (p. 62)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from service.lecture.findings import Findings, SearchRun, label, lowest, new_figure
from service.ledger import Ledger

LR, DROPOUT = "param.optimizer.lr", "param.model.dropout"


def layouts(runs: Sequence[SearchRun]) -> Findings:
    """Draw where each layout tries, and the values of the important parameter that it tests."""
    figure, axes = new_figure(1, len(runs) + 1)
    tables, measures = [], dict[str, float | str]()
    for place, run in enumerate(runs):
        name = str(run.spec.plan()[0].sampler)
        trials = run.trials.assign(layout=name, val_error=run.trials["val_error"].fillna(0.9))
        lr = _column(trials, run, "optimizer.lr")
        dropout = _column(trials, run, "model.dropout")
        shown = axes[0, place].scatter(lr, dropout, c=trials["val_error"], s=70, cmap="viridis_r")
        axes[0, place].set_xscale("log")
        figure.colorbar(shown, ax=axes[0, place], label="validation error")
        label(
            axes[0, place], f"{name} layout", "learning rate (important)", "dropout", legend=False
        )
        order = np.argsort(lr)
        axes[0, -1].plot(lr[order], trials["val_error"].to_numpy()[order], "o", label=name)
        measures[f"distinct rates tested, {name}"] = float(len(np.unique(lr)))
        measures[f"best validation error, {name}"] = float(trials["val_error"].min())
        tables.append(trials.assign(lr=lr, dropout=dropout))
    axes[0, -1].set_xscale("log")
    label(axes[0, -1], "what each learned about the rate", "learning rate", "validation error")
    columns = ["layout", "trial_id", "lr", "dropout", "val_error"]
    return Findings(table=pd.concat(tables)[columns], measures=measures, figure=figure)


def _column(
    trials: pd.DataFrame, run: SearchRun, path: str
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return a path's value per trial, the spec's own where it is not searched."""
    name = f"param.{path}"
    if name in trials:
        return trials[name].to_numpy(float)
    return np.full(len(trials), float(run.spec.base.value(path)))


def seven_steps(runs: Sequence[SearchRun]) -> Findings:
    """Draw the sweep, the rounds closing in and the curves, with each step's verdict."""
    (run,) = runs
    with Ledger.open(run.ledger_url) as ledger:
        events = ledger.events(run.search_id, "verdict")
        sweep = ledger.curves_frame(run.search_id)
        everyone = ledger.trials_frame(run.search_id)
    verdicts = [dict(event.payload) for event in events]
    figure, axes = new_figure(1, 3)
    swept = everyone[everyone["role"] == "sweep"].merge(
        sweep.groupby("trial_id")["train_loss"].last().rename("last_loss"), on="trial_id"
    )
    if len(swept):
        axes[0, 0].plot(
            _rates(run, list(swept["trial_id"])), swept["last_loss"], ".", color="#2563eb"
        )
        axes[0, 0].set_xscale("log")
        axes[0, 0].set_yscale("log")
        # What diverged stands at the upper edge instead of squeezing the others together.
        axes[0, 0].set_ylim(top=30 * float(swept["last_loss"].median()))
    label(axes[0, 0], "step 3: sweep of rates", "learning rate", "training loss", legend=False)
    for number, trials in run.trials.groupby("round"):
        axes[0, 1].plot(_column(trials, run, "optimizer.lr"), trials["val_error"], "o",
                        label=f"round {number}")  # fmt: skip
    axes[0, 1].set_xscale("log")
    label(axes[0, 1], "steps 4 and 5: coarse, then finer", "learning rate", "validation error")
    best = run.trials["trial_id"].iloc[lowest(run.trials["val_error"])]
    curve = run.curves[run.curves["trial_id"] == best]
    axes[0, 2].plot(curve["epoch"], curve["train_loss"], label="training loss")
    axes[0, 2].plot(curve["epoch"], curve["val_loss"], label="validation loss")
    label(axes[0, 2], "step 6: the best trial's curves", "epoch", "loss")
    measures: dict[str, float | str] = {
        f"step {v['step']}: {v['name']} (round {v['round']})": str(v["verdict"]) for v in verdicts
    }
    measures["best validation error"] = float(run.trials["val_error"].min())
    columns = ["step", "name", "round", "verdict", "reason"]
    return Findings(table=pd.DataFrame(verdicts, columns=columns), measures=measures, figure=figure)


def _rates(run: SearchRun, trial_ids: Sequence[int]) -> list[float]:
    with Ledger.open(run.ledger_url) as ledger:
        records = ledger.trials(run.search_id, trial_ids=[int(i) for i in trial_ids])
    return [float(record.config["optimizer"]["lr"]) for record in records]
