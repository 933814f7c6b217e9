"""A study that ends in seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

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
    "tune": {"trials": 2, "space": {"optimizer.lr": {"log_uniform": [0.01, 0.3],
                                                     "limits": [0.01, 0.3]}}},
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
