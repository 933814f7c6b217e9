"""What every part of a running search needs: the ledger, the spec, workers, meter and budget."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from service.ledger import Ledger
from service.ledger.records import SearchRecord, TrialRecord
from service.search.budget import BudgetKeeper
from service.search.display import Display
from service.search.executor import Executor
from service.search.interrupt import InterruptSwitch
from service.search.spec import SearchSpec
from trainers.config import TrialConfig
from trainers.data import Dataset, load
from trainers.lanes import signature
from trainers.trial import Trial


class Stopped(Exception):  # noqa: N818 - a request, not an error
    """The search was asked to end before its last round; all work is saved.

    `kind` is `interrupted` (Ctrl-C), `stopped` (isoflop stop), `budget` or `target`.
    """

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind
        self.reason = reason


class Meter(Protocol):
    """The part of an energy session that a search uses while it runs."""

    def mark(self) -> None:
        """Close a window now, so that a border falls on its edge."""

    def flush(self) -> None:
        """Bring the windows measured so far into the ledger."""

    def own_kwh(self) -> float:
        """Return the energy that this search has caused so far."""


@dataclass
class SearchContext:
    """One running search."""

    ledger: Ledger
    record: SearchRecord
    spec: SearchSpec
    executor: Executor
    energy: Meter
    budget: BudgetKeeper
    display: Display
    interrupt: InterruptSwitch
    out_dir: Path
    _trials: dict[int, Trial] = field(default_factory=dict)
    _signatures: dict[str, str] = field(default_factory=dict)

    @property
    def search_id(self) -> str:
        """The search's short name, unique in its ledger."""
        return self.record.search_id

    @property
    def seed(self) -> int:
        """The search's seed; every other seed follows from it."""
        return self.record.seed

    @property
    def deterministic(self) -> bool:
        """Whether the result table must not depend on timing."""
        return self.record.mode == "deterministic"

    @property
    def checkpoint_dir(self) -> Path:
        """Where workers save; on a cluster this must be shared storage."""
        return self.out_dir / "checkpoints"

    @property
    def dataset(self) -> Dataset:
        """The data of the spec's own `data` section, loaded once."""
        return load(self.spec.base.data)

    def trial_of(self, record: TrialRecord) -> Trial:
        """Return the trainer's view of a trial."""
        if record.trial_id not in self._trials:
            config = TrialConfig.model_validate(dict(record.config))
            self._trials[record.trial_id] = Trial(
                trial_id=record.trial_id, config=config, seed=record.seed
            )
        return self._trials[record.trial_id]

    def signature_of(self, record: TrialRecord) -> str:
        """Return the signature that decides which trials may share a pack."""
        if record.config_id not in self._signatures:
            config = self.trial_of(record).config
            self._signatures[record.config_id] = signature(config, load(config.data))
        return self._signatures[record.config_id]

    def reason_to_stop(self) -> Stopped | None:
        """Return why nothing new may be started, or None."""
        if self.interrupt.requested:
            return Stopped("interrupted", "interrupted with Ctrl-C")
        if self.ledger.stop_requested(self.search_id):
            return Stopped("stopped", "stopped with `isoflop stop`")
        reason = self.budget.exhausted(self.energy.own_kwh())
        return Stopped("budget", reason) if reason else None

    def warn(self, text: str) -> None:
        """Record a warning in the ledger, once, and show it."""
        known = {event.payload["text"] for event in self.ledger.events(self.search_id, "warning")}
        if text not in known:
            self.ledger.add_event(self.search_id, "warning", {"text": text})
            self.display.note(f"warning: {text}")

    def event(self, kind: str, payload: dict[str, Any]) -> None:
        """Record an event."""
        self.ledger.add_event(self.search_id, kind, payload)
