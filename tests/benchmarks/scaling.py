"""Fits of L(N, D) = E + A / N^alpha + B / D^beta, against the package `chinchilla` (PyPI).

Both fit the same 240 points. The package runs SciPy's BFGS with finite differences in long doubles
from 243 starts, over all cores; isoflop descends from 32 starts on one core and says how many of
them reached the optimum. All results are judged by one objective: the sum of Huber losses of log L,
delta 1e-3 (Hoffmann et al. 2022, eq. 3).

The points are published ones where they are beside the repository (`shared/data`), and always 240
of a known law with 1 % noise and five outliers.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from service.scaling.fits import fit_joint
from service.scaling.points import Points
from tests.benchmarks.machine import describe_machine
from tests.benchmarks.results import median_and_range, save
from tests.benchmarks.rivals.chinchilla_fit import DELTA, LOSSES

ROOT = Path(__file__).parents[2]
PUBLISHED = ROOT.parent / "shared" / "data" / "chinchilla_epoch_points.csv"
LAW = {"E": 1.82, "A": 480.0, "B": 2100.0, "alpha": 0.347, "beta": 0.367}
RIVAL_MODULE = "tests.benchmarks.rivals.chinchilla_fit"
REMARKS = (
    "objective: sum of Huber losses of log L (delta 1e-3) over the points, whatever was minimised; "
    "above the best: in percent of the best objective in the table.",
    "wall s: the fit alone, without imports and reading; the package's pool is part of its fit.",
    "processor s: of all processes together, which neighbours on the machine do not stretch.",
    "chinchilla has no bootstrap, so its time for 400 resamples is not measured.",
    "Aim: the same optimum or a better one, at least 20 times faster than the package takes to "
    "reach it.",
)


def synthetic_points() -> pd.DataFrame:
    """Return 240 points of `LAW` over the published ranges, with noise and five outliers."""
    rng = np.random.default_rng(0)
    params = 10 ** rng.uniform(7.6, 10.2, 240)
    tokens = np.clip(params * 10 ** rng.uniform(-0.5, 2.0, 240), 1e9, 1e12)
    loss = LAW["E"] + LAW["A"] / params ** LAW["alpha"] + LAW["B"] / tokens ** LAW["beta"]
    loss = loss * np.exp(0.01 * rng.standard_normal(240))
    loss[:5] *= 1.1
    return pd.DataFrame({"N": params, "D": tokens, "loss": loss})


def published_points() -> pd.DataFrame | None:
    """Return the 240 points of Besiroglu et al. 2024, or None where they are not at hand."""
    if not PUBLISHED.exists():
        return None
    table = pd.read_csv(PUBLISHED)
    kept = table[table["epoch_outlier"] == 0]
    return kept.rename(columns={"params": "N", "tokens": "D"})[["N", "D", "loss"]]


def objective(points: pd.DataFrame, params: Mapping[str, float]) -> float:
    """Return the sum of Huber losses of log L."""
    predicted = params["E"] + params["A"] / points["N"] ** params["alpha"]
    predicted = predicted + params["B"] / points["D"] ** params["beta"]
    residual = np.abs(np.log(predicted) - np.log(points["loss"]))
    near = np.minimum(residual, DELTA)
    return float((near * (residual - near / 2)).sum())


def run_rival(points: pd.DataFrame, loss: str) -> dict[str, Any]:
    """Let the package fit in a process of its own; return what it says."""
    done = subprocess.run(
        [sys.executable, "-m", RIVAL_MODULE],
        input=json.dumps({"points": points.to_dict("list"), "loss_fn": loss}),
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"chinchilla failed:\n{done.stderr[-2000:]}")
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def run_isoflop(points: pd.DataFrame, bootstrap: int = 0) -> dict[str, Any]:
    """Fit by isoflop in this process; return its parameters, time and share of starts."""
    table = Points.from_frame(points, params="N", tokens="D", loss="loss")
    began_s = time.process_time()
    fit = fit_joint(table, bootstrap=bootstrap)
    return {
        "params": dict(fit.params),
        "wall_s": fit.seconds,
        "processor_s": time.process_time() - began_s,
        "share": fit.converged_share,
    }


def main(repeats: int = 3) -> Path:
    """Measure on all points, interleaved, and write the table."""
    machine = describe_machine()
    sets = {"240 points of a known law": synthetic_points()}
    published = published_points()
    if published is not None:
        sets = {"240 points of Hoffmann et al. 2022": published} | sets
    tables, raw = {}, {}
    for heading, points in sets.items():
        runs: dict[str, list[dict[str, Any]]] = {}
        for _ in range(repeats):
            runs.setdefault("isoflop", []).append(run_isoflop(points))
            runs.setdefault("isoflop, 400 resamples", []).append(run_isoflop(points, 400))
            for loss in LOSSES:
                runs.setdefault(f"chinchilla, {loss}", []).append(run_rival(points, loss))
        tables[heading] = _rows(points, runs)
        raw[heading] = runs
    return save("scaling", machine, tables, raw, REMARKS)


def _rows(points: pd.DataFrame, runs: Mapping[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    reached = {who: objective(points, own[0]["params"]) for who, own in runs.items()}
    best = min(reached.values())
    ours = _medians(runs["isoflop"])
    rows = []
    for who, own in runs.items():
        params, taken = own[0]["params"], _medians(own)
        rows.append(
            {
                "who": who,
                "starts": 32 if who.startswith("isoflop") else 243,
                "wall s": median_and_range([run["wall_s"] for run in own]),
                "processor s": median_and_range([run["processor_s"] for run in own]),
                "times isoflop's, wall": f"{taken['wall_s'] / ours['wall_s']:.0f}",
                "processor": f"{taken['processor_s'] / ours['processor_s']:.0f}",
                "objective": f"{reached[who]:.8f}",
                "above the best": f"{100 * (reached[who] / best - 1):.4f} %",
                "alpha": f"{params['alpha']:.4f}",
                "beta": f"{params['beta']:.4f}",
                "a": f"{params['beta'] / (params['alpha'] + params['beta']):.4f}",
                "starts at the optimum": f"{100 * own[0]['share']:.0f} %"
                if "share" in own[0]
                else "",
            }
        )
    return rows


def _medians(runs: list[dict[str, Any]]) -> dict[str, float]:
    return {key: statistics.median(run[key] for run in runs) for key in ("wall_s", "processor_s")}
