"""Quality for time: the test error of what each rival would hand over, against wall time.

At every moment a rival's incumbent is the configuration with the lowest validation error that
its driver has heard of. Each incumbent is trained again at full length with three seeds of the
judge's own, by the same code for all, and tested. So a lucky validation error does not count.

Start-up is counted (Ray's as well) and shown apart, as the time of the first report.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.anytime_rivals import RIVALS
from tests.benchmarks.anytime_task import Judge, Report
from tests.benchmarks.machine import describe_machine
from tests.benchmarks.results import median_and_range, save

RIVALS_MODULE = "tests.benchmarks.anytime_rivals"
CHECKPOINTS = (1 / 12, 1 / 6, 1 / 3, 2 / 3, 1.0)
"""Fractions of the time at which test errors are shown."""


@dataclass(frozen=True)
class Run:
    """One rival with one seed: (seconds, test error) whenever its incumbent changed."""

    rival: str
    seed: int
    started_s: float
    num_trials: int
    curve: tuple[tuple[float, float], ...]

    def error_at(self, seconds: float) -> float:
        """Return the incumbent's test error; 1 before there is one."""
        known = [error for elapsed_s, error in self.curve if elapsed_s <= seconds]
        return known[-1] if known else 1.0

    def time_to(self, error: float) -> float | None:
        """Return when the incumbent's test error was at most `error` for the first time."""
        return next((elapsed_s for elapsed_s, found in self.curve if found <= error), None)


def run_once(rival: str, data: str, seconds: float, seed: int, judge: Judge) -> Run:
    """Let one rival search in a process of its own, then judge its incumbents."""
    done = subprocess.run(
        [sys.executable, "-m", RIVALS_MODULE, rival, data, str(seconds), str(seed)],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{rival} failed:\n{done.stderr[-2000:]}")
    reports = [Report(**each) for each in json.loads(done.stdout.strip().splitlines()[-1])]
    in_time = [report for report in reports if report.elapsed_s <= seconds]
    best, curve = float("inf"), []
    for report in in_time:
        if report.val_error < best:
            best = report.val_error
            curve.append((report.elapsed_s, judge.test_error(report.config)))
    return Run(
        rival=rival,
        seed=seed,
        started_s=reports[0].elapsed_s if reports else float("inf"),
        num_trials=len({report.trial for report in in_time}),
        curve=tuple(curve),
    )


def main(
    data_names: Sequence[str] = ("digits", "mnist1d"), num_seeds: int = 10, seconds: float = 120.0
) -> Path:
    """Run all rivals with all seeds, interleaved, and write the tables."""
    machine = describe_machine()
    tables: dict[str, list[dict[str, Any]]] = {}
    raw: dict[str, Any] = {}
    for data in data_names:
        judge, runs = Judge(data), []
        for seed in range(num_seeds):
            for rival in RIVALS:
                runs.append(run_once(rival, data, seconds, seed, judge))
                end = runs[-1].error_at(seconds)
                print(f"  {data}, seed {seed}, {rival}: test error {end:.4f}", flush=True)
        heading = f"{data}: {num_seeds} seeds, {seconds:g} s each"
        tables[heading] = [_row(rival, runs, seconds) for rival in RIVALS]
        raw[heading] = [vars(run) for run in runs]
    return save("anytime", machine, tables, raw, _remarks(num_seeds, seconds))


def _row(rival: str, runs: Sequence[Run], seconds: float) -> dict[str, Any]:
    own = [run for run in runs if run.rival == rival]
    ours = {run.seed: run for run in runs if run.rival == "isoflop"}
    row: dict[str, Any] = {
        "rival": rival,
        "first report s": median_and_range([run.started_s for run in own]),
        "trials": round(statistics.median(run.num_trials for run in own)),
    }
    for part in CHECKPOINTS:
        errors = [run.error_at(part * seconds) for run in own]
        row[f"test error at {part * seconds:.0f} s"] = median_and_range(errors)
    if rival == "isoflop":
        return row
    ends = {run.seed: run.error_at(seconds) for run in own}
    caught = [ours[seed].time_to(error) for seed, error in ends.items()]
    in_time = [float("inf") if at is None else at / seconds for at in caught]
    middle = statistics.median(in_time)
    row["isoflop reaches its end value after"] = (
        f"{100 * middle:.0f} % of the time" if middle <= 1 else "not in the median"
    )
    row["isoflop's end value minus its own"] = _interval(
        [ours[seed].error_at(seconds) - error for seed, error in ends.items()]
    )
    return row


def _interval(differences: Sequence[float]) -> str:
    """Return the mean of paired differences with its 95 % interval."""
    from service.search.objectives import t_interval

    if len(differences) < 2:
        return f"{differences[0]:+.4f}"
    found = t_interval(differences)
    return f"{found.mean:+.4f} ({found.low:+.4f} to {found.high:+.4f})"


def _remarks(num_seeds: int, seconds: float) -> list[str]:
    remarks = [
        "Errors: median over seeds (smallest-largest) of the incumbent re-trained with 3 seeds.",
        "A negative difference means that isoflop is better; interval: 95 %, paired by seed.",
    ]
    if num_seeds < 10 or seconds < 120:
        remarks.append(
            f"REDUCED: {num_seeds} seeds of {seconds:g} s instead of 10 of 120 s; "
            "too few to conclude anything from."
        )
    return remarks
