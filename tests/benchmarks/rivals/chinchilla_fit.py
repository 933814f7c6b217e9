"""Fit by the package `chinchilla` (PyPI) in a process of its own: `python -m ...chinchilla_fit`.

Reads {"points": {"N": [..], "D": [..], "loss": [..]}, "loss_fn": NAME} from stdin; writes its
parameters and the wall and processor seconds of `fit()` alone as JSON to stdout. It has a process
of its own because the package forks a pool of workers through global closures.
"""

from __future__ import annotations

import json
import multiprocessing
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

LOSSES = ("default", "log_huber", "log_huber x 1e6")
GRID = {
    "E": np.linspace(1.0, 2.0, 3),
    "a": np.linspace(1.0, 10.0, 3),
    "b": np.linspace(1.0, 10.0, 3),
    "alpha": np.linspace(0.1, 0.7, 3),
    "beta": np.linspace(0.1, 0.7, 3),
}
"""The ranges of its README, three values each: 243 starts."""
QUIET = 40
DELTA = 1e-3


def fit(points: pd.DataFrame, loss: str) -> dict[str, Any]:
    """Fit, and return `params`, `wall_s` and `processor_s`."""
    from chinchilla import Chinchilla
    from chinchilla._metrics import log_huber

    scale = 1e6 if loss.endswith("1e6") else 1.0
    options: dict[str, Any] = {}
    if loss != "default":
        options["loss_fn"] = lambda true, predicted: scale * log_huber(true, predicted, DELTA)
    with tempfile.TemporaryDirectory() as folder:
        points.assign(C=6 * points["N"] * points["D"])[["C", "N", "D", "loss"]].to_csv(
            Path(folder) / "df.csv", index=False
        )
        rival = Chinchilla(folder, param_grid=GRID, log_level=QUIET, **options)
        began_s, processor_began_s = time.perf_counter(), processor_s()
        rival.fit()
        return {
            "wall_s": time.perf_counter() - began_s,
            "processor_s": processor_s() - processor_began_s,
            "params": rival.params,
        }


def processor_s() -> float:
    """Return the processor seconds of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def main() -> None:
    """Answer one request."""
    multiprocessing.set_start_method("fork")
    request = json.load(sys.stdin)
    found = fit(pd.DataFrame(request["points"]), request["loss_fn"])
    print(json.dumps(found))


if __name__ == "__main__":
    main()
