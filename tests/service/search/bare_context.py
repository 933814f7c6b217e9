"""A search's context over a real ledger, with nobody working: for the parts that only decide."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from small_search import small_spec

from service.ledger import Ledger
from service.ledger.records import RoundRecord, TrialRecord
from service.search.budget import BudgetKeeper
from service.search.context import SearchContext
from service.search.executor import InlineExecutor
from service.search.interrupt import InterruptSwitch
from service.search.samplers.process import SamplerProcess


class Meter:
    """Says what the test wants to have been used."""

    def __init__(self) -> None:
        self.kwh = 0.0

    def mark(self) -> None: ...

    def flush(self) -> None: ...

    def own_kwh(self) -> float:
        return self.kwh

    def worker_began(self, host: str, pid: int) -> None: ...

    def book_lost(self, **_: Any) -> None: ...


def bare_context(folder: Path, **changes: Any) -> SearchContext:
    """Return the context of a search that has not begun."""
    spec = small_spec(**changes)
    ledger = Ledger.open(str(folder / "ledger.db"))
    record = ledger.create_search(
        name="bare", kind="search", project="", spec=spec.to_mapping(), seed=0, mode=spec.mode,
        versions={}, code_fingerprint="", out_dir=str(folder),
    )  # fmt: skip
    return SearchContext(
        ledger=ledger, record=record, spec=spec, executor=InlineExecutor(), energy=Meter(),
        budget=BudgetKeeper(), samplers=SamplerProcess(), interrupt=InterruptSwitch(),
        out_dir=folder,
    )  # fmt: skip


def put_round(context: SearchContext, number: int, **fields: Any) -> None:
    """Record a round of the spec's own space."""
    fields = {"kind": "search", "state": "running", "epochs": 4, "planned_trials": 8, **fields}
    fields.setdefault("space", context.spec.space.to_mapping())
    context.ledger.put_round(
        context.search_id,
        RoundRecord(
            round=number, sampler="random", sampler_reason="", started_unix_s=0.0, **fields
        ),
    )


def put_trial(context: SearchContext, trial_id: int, lr: float, **fields: Any) -> None:
    """Record one trial; `error` is its `val_error`."""
    params = {"optimizer.lr": lr, "model.dropout": 0.1}
    epochs = fields.pop("horizon_epochs", 4)
    config = context.spec.configure(params, epochs=epochs)
    if "error" in fields:
        fields["metrics"] = {"val_error": fields.pop("error")}
    known = {"round": 0, "batch": 0, "role": "search", "state": "complete", "seed": trial_id}
    context.ledger.add_trials(
        context.search_id,
        [
            TrialRecord(
                trial_id=trial_id,
                config=config.full_mapping(),
                config_id=config.fingerprint(),
                params=params,
                horizon_epochs=epochs,
                **{**known, **fields},
            )
        ],
    )
