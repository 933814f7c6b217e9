"""A study that ends in seconds."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd

from service.energy.windows import JOULES_PER_KWH, MemberUse, Window, member_key
from service.ledger import Ledger
from service.ledger.records import TrialRecord
from service.scaling.spec import run_study
from service.search.display import Display

SMALL: dict[str, Any] = {
    "kind": "study",
    "name": "small",
    "data": {"name": "digits"},
    "model": {"kind": "mlp", "depth": 1},
    "optimizer": {"kind": "momentum"},
    "schedule": {"kind": "linear", "warmup_fraction": 0.1},
    "train": {"batch_size": 16, "precision": "float64"},
    "sizes": {"model.width": [4, 8]},
    "budgets_flops": [5e5, 2e6],
    "limits": {"min_updates": 8, "max_passes": 50},
    "tune": {"trials": 2, "use": "best",
             "space": {"optimizer.lr": {"log_uniform": [0.01, 0.3], "limits": [0.01, 0.3]}}},
}  # fmt: skip


def run(folder: Path, display: Display | None = None, workers: int = 1, **changes: Any) -> str:
    """Run the small study with sections replaced; return its id."""
    spec = {**SMALL, **changes}
    return run_study(
        spec, workers=workers, ledger=folder / "ledger.db", out=folder / "out", display=display
    )


def trials_of(folder: Path, study_id: str) -> list[TrialRecord]:
    """Return a study's trials."""
    with Ledger.open(str(folder / "ledger.db")) as ledger:
        return ledger.trials(study_id)


def table(folder: Path, study_id: str) -> pd.DataFrame:
    """Return what of the trials the same seed must reproduce: all but measured time."""
    with Ledger.open(str(folder / "ledger.db")) as ledger:
        frame = ledger.trials_frame(study_id)
    return frame.drop(columns=[c for c in frame.columns if c in ("seconds", "energy_kwh")])


def busy_s(folder: Path, study_id: str) -> dict[int, float]:
    """Return the processor seconds that each trial's segments report."""
    spent: dict[int, float] = {}
    with Ledger.open(str(folder / "ledger.db")) as ledger:
        for _, _, usage in ledger.usage(study_id):
            for trial_id, seconds in usage.trial_busy_s.items():
                spent[trial_id] = spent.get(trial_id, 0.0) + seconds
    return spent


def meter_by_hand(folder: Path, study_id: str, watts_per_core: float) -> dict[int, float]:
    """Replace what the meter measured by a known power; return each trial's kWh.

    A study of a second may be over before the host's meter has started, and is a gap then.
    """
    with closing(sqlite3.connect(folder / "ledger.db")) as database, database:
        database.execute("DELETE FROM energy_windows")
    spent_s = busy_s(folder, study_id)
    with Ledger.open(str(folder / "ledger.db")) as ledger:
        [span] = ledger.spans(study_id)
        tree_s = 2 * sum(spent_s.values())  # the other half is the driver's
        window = Window(
            host=span.host, boot_id=span.boot_id, meter_epoch="by hand", seq=0,
            started_s=span.started_s, ended_s=span.ended_s,
            started_unix_s=span.started_unix_s, cpu_j=watts_per_core * tree_s, cpu_idle_j=0.0,
            ram_j=0.0, busy_core_s=tree_s,
            members={member_key(study_id, span.pid): MemberUse(cpu_s=tree_s)},
        )  # fmt: skip
        ledger.put_windows([window.to_row()])
    return {trial: watts_per_core * s / JOULES_PER_KWH for trial, s in spent_s.items()}
