"""Our own throughput against workers, from real searches: a one-dimensional scaling curve.

    frame = throughput("search_spaces/demo.yaml", workers=(1, 2, 4), folder="runs/throughput")
    frame.to_csv("throughput.csv", index=False)

    isoflop scale fit throughput.csv --x workers --y trials_per_s --increasing

Each row is a whole search with the same seed, so all of them train the same trials; only the
workers differ. What limits the curve is then the machine (cores, memory bandwidth), the search's
barriers and the one writer of the ledger.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from service.api import run_search
from service.ledger import Ledger
from service.search.spec import SearchSpec
from trainers.errors import ConfigError


def throughput(
    spec: SearchSpec | Mapping[str, Any] | str | Path,
    *,
    workers: Sequence[int],
    folder: str | Path,
    repeats: int = 1,
) -> pd.DataFrame:
    """Run one search with each number of workers; return trials per second.

    Args:
        spec: the search.
        workers: numbers of workers.
        folder: where the searches' ledgers and reports go.
        repeats: searches for each number; more of them show the noise.

    Returns:
        One row per search: `workers`, `repeat`, `trials` that ended, `seconds` from the first
        trial's beginning to the last one's end (starting workers and writing the report left
        out), `trials_per_s`, `flops_per_s`, `speedup` and `efficiency` against the mean of the
        fewest workers.

    Raises:
        ConfigError: `workers` is empty or holds less than 1, or the spec breaks a rule.

    """
    if not workers or min(workers) < 1 or repeats < 1:
        raise ConfigError(
            "throughput needs numbers of workers >= 1 and repeats >= 1, but got "
            f"{list(workers)} and {repeats}; try workers=(1, 2, 4)"
        )
    rows = []
    for num in workers:
        for repeat in range(repeats):
            home = Path(folder) / f"workers{num}-{repeat}"
            home.mkdir(parents=True, exist_ok=True)
            result = run_search(spec, workers=num, ledger=home / "ledger.db", out=home)
            rows.append({"workers": num, "repeat": repeat, **_measured(home, result.search_id)})
    frame = pd.DataFrame(rows)
    fewest = frame["workers"] == frame["workers"].min()
    base = frame.loc[fewest, "trials_per_s"].mean()
    frame["speedup"] = frame["trials_per_s"] / base
    frame["efficiency"] = frame["speedup"] * frame["workers"].min() / frame["workers"]
    return frame


def _measured(home: Path, search_id: str) -> dict[str, float]:
    """Return what a finished search did, and the time its rounds took."""
    with Ledger.open(str(home / "ledger.db")) as ledger:
        trials = [trial for trial in ledger.trials(search_id) if trial.epochs_done]
        usage = [used for _, _, used in ledger.usage(search_id)]
    seconds = max(used.ended_s for used in usage) - min(used.started_s for used in usage)
    flops = sum((trial.flops_per_epoch or 0.0) * trial.epochs_done for trial in trials)
    return {
        "trials": len(trials),
        "seconds": seconds,
        "trials_per_s": len(trials) / seconds,
        "flops_per_s": flops / seconds,
    }
