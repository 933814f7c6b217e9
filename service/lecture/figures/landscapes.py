"""The loss around nets with and without skip connections, and between two solutions (p. 35)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import pandas as pd
from torch import nn

from service.lecture.findings import Findings, SearchRun, label, new_figure
from service.report.surfaces import draw_surfaces, numbers
from trainers.config import TrialConfig
from trainers.data import load
from trainers.interpolation import Line, loss_between
from trainers.landscape import Surface, loss_surface, scores

DEPTH, SKIP = "model.depth", "model.skip"
NUM_DIRECTIONS = 3
"""Pairs of random directions that scores are averaged over; the first is drawn."""
NUM_ROWS = 300
"""Training rows of each loss."""
SIZE = 21
"""Grid points on a side."""
NAMES = {
    "negative_curvature": "share of negative curvature",
    "monotone_rays": "share of monotone rays",
    "low_area": "share of low loss",
}


def skip_or_not(runs: Sequence[SearchRun]) -> Findings:
    """Draw the surface around each net and the line between its two seeds, with scores."""
    (run,) = runs
    drawn, lines, measures = dict[str, Surface](), dict[str, Line](), dict[str, float | str]()
    for name, (config, nets, curve) in _solutions(run).items():
        dataset = load(config.data)
        surfaces = [
            loss_surface(nets[0], config, dataset, size=SIZE, seed=seed, num_rows=NUM_ROWS)
            for seed in range(NUM_DIRECTIONS)
        ]
        drawn[name] = surfaces[0]
        found = pd.DataFrame([asdict(scores(surface)) for surface in surfaces]).mean()
        measures |= {f"{what}, {name}": float(found[score]) for score, what in NAMES.items()}
        last = curve.iloc[-1]
        measures[f"training loss at the centre, {name}"] = surfaces[0].centre
        measures[f"validation error, {name}"] = float(last["val_error"])
        measures[f"validation over training loss, {name}"] = float(
            last["val_loss"] / last["train_loss"]
        )
        if len(nets) > 1:
            lines[name] = loss_between(nets[0], nets[1], config, dataset, num_rows=NUM_ROWS)
            measures[f"loss barrier between two seeds, {name}"] = lines[name].barrier
    return Findings(
        table=numbers(drawn),
        measures=measures,
        figure=draw_surfaces(drawn, dpi=90),
        also={"line": _between(lines)} if lines else {},
    )


def _solutions(
    run: SearchRun,
) -> dict[str, tuple[TrialConfig, list[nn.Module], pd.DataFrame]]:
    """Return each net's configuration, its modules of all seeds, and the first seed's curve."""
    modules = dict(zip(run.trials["trial_id"], run.modules(), strict=True))
    found: dict[str, tuple[TrialConfig, list[nn.Module], pd.DataFrame]] = {}
    for (depth, skip), curve in run.by(DEPTH, SKIP):
        name = f"{2 * int(depth) + 2} layers, {'skip' if skip else 'no skip'}"
        config = run.spec.base.with_values({DEPTH: int(depth), SKIP: bool(skip)})
        found.setdefault(name, (config, [], curve))[1].append(modules[curve["trial_id"].iloc[0]])
    return found


def _between(lines: dict[str, Line]) -> Findings:
    """Draw the loss from one seed's solution to the other's."""
    figure, axes = new_figure()
    tables = []
    for name, line in lines.items():
        axes[0, 0].plot(line.position, line.loss, label=name)
        tables.append(pd.DataFrame({"net": name, "position": line.position, "loss": line.loss}))
    axes[0, 0].set_yscale("log")
    label(axes[0, 0], "between two solutions", "from one seed's net (0) to the other's (1)",
          "training loss")  # fmt: skip
    return Findings(table=pd.concat(tables), measures={}, figure=figure)
