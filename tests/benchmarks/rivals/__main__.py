"""Run one rival in a process of its own: `python -m tests.benchmarks.rivals NAME '{"width": 128}'`.

The last line of output is the outcome as JSON. A fresh process per run, so that no rival profits
or suffers from what another one left behind.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable

from tests.benchmarks.workload import Outcome, Work


def _isoflop(work: Work) -> Outcome:
    from tests.benchmarks.rivals import isoflop_search

    return isoflop_search.run(work)


def _ray_tune(work: Work) -> Outcome:
    from tests.benchmarks.rivals import ray_tune

    return ray_tune.run(work)


def _ray_tune_reused(work: Work) -> Outcome:
    from tests.benchmarks.rivals import ray_tune

    return ray_tune.run(work, reuse_actors=True)


def _optuna(work: Work) -> Outcome:
    from tests.benchmarks.rivals import optuna_alone

    return optuna_alone.run(work)


def _hand_written(work: Work) -> Outcome:
    from tests.benchmarks.rivals import hand_written

    return hand_written.run(work)


def _hand_written_best(work: Work) -> Outcome:
    from tests.benchmarks.rivals import hand_written

    return hand_written.run(work, best_options=True)


def _syne_tune(work: Work) -> Outcome:
    from tests.benchmarks.rivals import syne_tune_local

    return syne_tune_local.run(work)


RIVALS: dict[str, Callable[[Work], Outcome]] = {
    "isoflop": _isoflop,
    "a": _ray_tune,
    "b": _ray_tune_reused,
    "c": _optuna,
    "d": _hand_written,
    "d-best": _hand_written_best,
    "e": _syne_tune,
}

if __name__ == "__main__":
    name, options = sys.argv[1:3]
    outcome = RIVALS[name](Work(**json.loads(options)))
    print(json.dumps(outcome.to_mapping()))
