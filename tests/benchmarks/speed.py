"""Wall time from the call to the result, isoflop against five rivals, in the same run.

Rounds are interleaved (every rival once, then every rival again) so that a busy spell of the
machine falls on all. Each ratio is made within one round; the table shows their median and range.

What is not counted: imports and reading data in the calling process, and the start of Ray
(`ray.init`) for those that use it. What is counted for everybody in the first columns: the start
of their worker processes. The columns "at work" leave that out too, for all alike: they count from
the moment the first worker took up its first trial. For isoflop this also leaves out what its
driver does in the meantime (drawing and recording the trials), and still counts the report.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tests.benchmarks.machine import describe_machine
from tests.benchmarks.results import median_and_range, save
from tests.benchmarks.workload import Outcome, Work

TIMEOUT_S = 1800
AIMS: Mapping[Work, Mapping[str, float]] = {
    Work(num_trials=256, width=32): {"d": 6.0},
    Work(num_trials=256, width=128): {"a": 60.0, "b": 5.0, "c": 5.0, "d": 2.5, "e": 50.0},
    Work(num_trials=64, width=512): {"d": 0.95},
}
"""Work -> rival -> how many times its speed isoflop should reach."""
REMARKS = (
    "wall: from the call to the result, with the start of worker processes, without imports and "
    "reading data in the calling process, and without the start of Ray.",
    "at work: from the moment the first worker took up its first trial.",
    "best and median error: on the validation rows, over the trials. Each rival draws its own "
    "configurations from the same distributions, so medians differ by the luck of the draw.",
    "isoflop keeps its ledger, checkpoints, energy meter and report; rivals keep what their "
    "documentation's example keeps.",
    "Where `trials run` is smaller than the heading says, seconds are scaled per trial.",
)


@dataclass(frozen=True, kw_only=True)
class Contest:
    """Who runs which work; `few` rivals get fewer trials and are scaled per trial."""

    work: Work
    rivals: tuple[str, ...]
    few: Mapping[str, int]


def contests(few: int = 32) -> list[Contest]:
    """Return the contests of the issue: 64 and 256 trials at width 128, both other widths."""
    slow = {"a": few, "e": few}
    return [
        Contest(
            work=Work(num_trials=256, width=128),
            rivals=("d", "d-best", "b", "c", "a", "e"),
            few=slow,
        ),
        Contest(work=Work(num_trials=256, width=32), rivals=("d", "d-best"), few={}),
        Contest(work=Work(num_trials=64, width=512), rivals=("d", "d-best"), few={}),
        Contest(work=Work(num_trials=64, width=128), rivals=("d", "d-best", "b", "c"), few={}),
    ]


def run_rival(name: str, work: Work) -> Outcome:
    """Run one rival in a process of its own.

    Raises:
        RuntimeError: with the last lines that it printed, if it failed.

    """
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.rivals", name, json.dumps(asdict(work))],
        cwd=root,
        env={**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"rival {name} failed:\n{done.stderr[-2000:]}")
    return Outcome(**json.loads(done.stdout.strip().splitlines()[-1]))


def run_round(contest: Contest) -> dict[str, Outcome]:
    """Run isoflop and every rival once, as neighbours in time."""
    outcomes: dict[str, Outcome] = {}
    for name in ("isoflop", *contest.rivals):
        work = replace(contest.work, num_trials=contest.few.get(name, contest.work.num_trials))
        outcomes[name] = run_rival(name, work)
        outcome = outcomes[name]
        print(
            f"  width {work.width}, {outcome.num_trials} trials, {outcome.rival}: "
            f"{outcome.wall_s:.1f} s (first trial after {outcome.started_s:.1f} s), "
            f"median error {outcome.median_error:.3f}  {outcome.notes}",
            flush=True,
        )
    return outcomes


def scaled_s(outcome: Outcome, num_trials: int) -> tuple[float, float]:
    """Return (wall, at work) in seconds for `num_trials`, in proportion to what was run."""
    factor = num_trials / outcome.num_trials
    return outcome.wall_s * factor, (outcome.wall_s - outcome.started_s) * factor


def table(contest: Contest, rounds: Sequence[Mapping[str, Outcome]]) -> list[dict[str, Any]]:
    """Return one row per rival: seconds, and how many times isoflop is faster."""
    rows = []
    for name in ("isoflop", *contest.rivals):
        pairs = [
            (
                scaled_s(each[name], contest.work.num_trials),
                scaled_s(each["isoflop"], contest.work.num_trials),
            )
            for each in rounds
        ]
        first = rounds[0][name]
        aim = AIMS.get(contest.work, {}).get(name.removesuffix("-best"))
        rows.append(
            {
                "rival": first.rival + (f" ({name[0]})" if name != "isoflop" else ""),
                "trials run": first.num_trials,
                "wall s": median_and_range([theirs[0] for theirs, _ in pairs]),
                "at work s": median_and_range([theirs[1] for theirs, _ in pairs]),
                "isoflop is faster, wall": median_and_range(
                    [theirs[0] / ours[0] for theirs, ours in pairs]
                ),
                "at work": median_and_range([theirs[1] / ours[1] for theirs, ours in pairs]),
                "aim": "" if aim is None else f"{aim:g}x",
                "best error": min(each[name].best_error for each in rounds),
                "median error": statistics.median(each[name].median_error for each in rounds),
            }
        )
    return rows


def main(repeats: int = 3, few: int = 32, only: Sequence[int] | None = None) -> Path:
    """Run all contests; `only` picks some by their place in the list."""
    machine = describe_machine()
    chosen = [c for i, c in enumerate(contests(few)) if only is None or i in only]
    tables: dict[str, list[dict[str, Any]]] = {}
    raw: dict[str, Any] = {}
    path = Path()
    for contest in chosen:
        work = contest.work
        heading = (
            f"{work.num_trials} trials, MLP 64-{work.width}-{work.width}-10 on digits, "
            f"{work.epochs} epochs, batch {work.batch_size}"
        )
        print(heading, flush=True)
        rounds = [run_round(contest) for _ in range(repeats)]
        tables[heading] = table(contest, rounds)
        raw[heading] = [{k: v.to_mapping() for k, v in each.items()} for each in rounds]
        path = save("speed", machine, tables, raw, REMARKS)
    return path
