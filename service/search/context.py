"""What every part of a running search needs: the ledger, the spec, workers, meter and budget."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from service.ledger import Ledger
from service.ledger.records import RoundState, SearchRecord, TrialRecord
from service.search.allowance import Allowance
from service.search.budget import BudgetKeeper
from service.search.display import Display, Silent
from service.search.executor import Executor
from service.search.interrupt import InterruptSwitch
from service.search.samplers import Told
from service.search.samplers.process import SamplerProcess
from service.search.spec import SearchSpec
from trainers.config import TrialConfig
from trainers.data import Dataset, load
from trainers.errors import CheckpointError
from trainers.lanes.checkpoint import load_lane
from trainers.lanes.signature import signature
from trainers.trial import CheckpointRef, Trial

TRIALS_AT_HAND = 2048
"""Trials whose validated configuration is kept, so that memory does not grow with the search."""

SHARED_EPOCHS = "shared_epochs"
"""Key of a trial's `sampler_attrs`: so many epochs it shares with its parent, exactly."""


class Stopped(Exception):
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

    def worker_began(self, host: str, pid: int) -> None:
        """Count a worker's process as this search's own."""

    def book_lost(self, *, host: str, pid: int, trial_ids: Sequence[int], since_s: float) -> None:
        """Record that a worker died, so that its work since the last border shows as wasted."""


@dataclass
class SearchContext:
    """One running search."""

    ledger: Ledger
    record: SearchRecord
    spec: SearchSpec
    executor: Executor
    energy: Meter
    budget: BudgetKeeper
    samplers: SamplerProcess
    interrupt: InterruptSwitch
    out_dir: Path
    display: Display = field(default_factory=Silent)
    evidence: Sequence[Told] = ()
    """Trials from elsewhere, told to samplers at equal length only."""
    allowance: Allowance | None = None
    """Who says how many workers the search may hold; None: it keeps all that it began with."""
    kept_bytes: int = 0
    """Size of the checkpoints that the last tidying kept."""
    batches_open: int = 2
    """Batches in flight in the deterministic mode: one trains while the next is proposed."""
    _trials: dict[int, Trial] = field(default_factory=dict)
    _signatures: dict[str, str] = field(default_factory=dict)
    _best: tuple[float, int] | None = None
    _knows_earlier_best: bool = False
    _damaged: set[tuple[str, int]] = field(default_factory=set)
    """(file, lane) of checkpoints that were found to be altered."""
    _rungs: dict[tuple[int, int, int], Mapping[str, Any]] | None = None

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

    @property
    def needs_energy(self) -> bool:
        """Whether an objective or a constraint asks for each trial's energy."""
        bounded = {constraint.metric for constraint in self.spec.constraint_list}
        return "energy_kwh" in {*self.spec.objectives, *bounded}

    @property
    def measures_gains(self) -> bool:
        """Whether rounds are compared by their best, re-trained with several seeds (step 7)."""
        planned = len(self.spec.plan())
        return self.spec.recipe.checks and max(planned, self.spec.recipe.max_rounds or 0) > 1

    @property
    def final_epochs(self) -> int:
        """The longest length that the planned rounds train to."""
        return max(spec.epochs or self.spec.base.train.epochs for spec in self.spec.plan())

    def restores_best(self, record: TrialRecord) -> bool:
        """Say whether the trial keeps the weights of its best epoch."""
        return self.trial_of(record).config.regularisation.early_stopping.restore_best

    def dummy_loss(self, config: TrialConfig) -> float:
        """Return the loss of knowing nothing: ln C, or half the target's variance."""
        return load(config.data).dummy_loss(config.train.loss)

    def trial_of(self, record: TrialRecord) -> Trial:
        """Return the trainer's view of a trial."""
        if record.trial_id not in self._trials:
            if len(self._trials) >= TRIALS_AT_HAND:
                self._trials.clear()  # most have ended, and the others are quickly read again
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

    def start_of(self, records: Sequence[TrialRecord]) -> tuple[CheckpointRef | None, ...]:
        """Return where each trial goes on: its own last border, its parent's, or its beginning."""
        own = self._present([record.trial_id for record in records])
        parents = [
            record.parent_trial
            for record in records
            if record.trial_id not in own and continues_parent(record)
        ]
        inherited = self._present([parent for parent in parents if parent is not None])
        return tuple(
            own.get(record.trial_id) or self._forked(record) or _handed_over(inherited, record)
            for record in records
        )

    def _forked(self, record: TrialRecord) -> CheckpointRef | None:
        """Return the parent's latest state within the epochs that both trials share, if any."""
        shared_epochs = record.sampler_attrs.get(SHARED_EPOCHS)
        if shared_epochs is None or record.parent_trial is None:
            return None
        refs = self._present([record.parent_trial], up_to_epoch=int(shared_epochs))
        found = refs.get(record.parent_trial)
        return None if found is None else replace(found, trial_id=record.trial_id)

    def _present(
        self, trial_ids: Sequence[int], *, up_to_epoch: int | None = None
    ) -> dict[int, CheckpointRef]:
        """Return the last checkpoints whose files are still there; see `housekeeping`."""
        latest = self.ledger.checkpoints(self.search_id, trial_ids, up_to_epoch=up_to_epoch)
        return {
            trial_id: ref
            for trial_id, ref in latest.items()
            if (ref.path, ref.lane) not in self._damaged and Path(ref.path).exists()
        }

    def drop_damaged(self, records: Sequence[TrialRecord]) -> list[int]:
        """Find the trials whose checkpoint cannot be read; from now on they start anew.

        A trial that starts anew gives the same numbers again, so nothing but time is lost.
        """
        found = []
        for record, ref in zip(records, self.start_of(records), strict=True):
            if ref is None:
                continue
            try:
                load_lane(ref)
            except CheckpointError:
                self._damaged.add((ref.path, ref.lane))
                found.append(record.trial_id)
        return found

    def follow_allowance(self, num_busy: int) -> None:
        """Hold as many workers as are allowed now; a pause does not use up the time budget."""
        if self.allowance is None:
            return
        allowed = self.allowance.workers(num_busy)
        self.executor.resize(allowed)
        self.budget.pause(allowed == 0 and num_busy == 0)

    def reason_to_stop(self) -> Stopped | None:
        """Return why nothing new may be started, or None."""
        if self.interrupt.requested:
            return Stopped("interrupted", "interrupted with Ctrl-C")
        foreign = self.allowance.reason_to_stop() if self.allowance is not None else ""
        if foreign:
            return Stopped("interrupted", foreign)
        if self.ledger.stop_requested(self.search_id):
            request = self.ledger.events(self.search_id, "stop_requested")[-1]
            return Stopped("stopped", f"stopped {request.payload['by']}")
        # The meter is read only where a limit asks for it: that takes milliseconds, and whether
        # to stop is asked at every message.
        own_kwh = self.energy.own_kwh() if self.budget.limits_energy else 0.0
        reason = self.budget.exhausted(own_kwh)
        return Stopped("budget", reason) if reason else None

    def is_finished(self, round_: int) -> bool:
        """Say whether a round was finished, in this session or an earlier one."""
        return any(
            record.round == round_ and record.state == "finished"
            for record in self.ledger.rounds(self.search_id)
        )

    def finish_round(self, round_: int, *, reason: str = "") -> None:
        """Mark a round finished."""
        self._end_round(round_, "finished", reason)

    def end_open_rounds(self, reason: str) -> None:
        """Mark rounds that are still open as ended early."""
        for record in self.ledger.rounds(self.search_id):
            if record.state == "running":
                self._end_round(record.round, "ended_early", reason)

    def _end_round(self, round_: int, state: RoundState, reason: str) -> None:
        for record in self.ledger.rounds(self.search_id):
            if record.round == round_ and record.state == "running":
                ended = replace(
                    record, state=state, reason=reason, finished_unix_s=self.now_unix_s()
                )
                self.ledger.put_round(self.search_id, ended)

    def epochs_done_and_planned(self) -> tuple[int, int]:
        """Return epochs of training done, and those that the present round still plans for.

        Trials that were stopped count as done: what they will not train is not left to do.
        """
        done = planned = 0
        for row in self.ledger.progress(self.search_id):
            ended = row.state not in ("waiting", "running")
            done += row.epochs_done
            planned += row.epochs_done if ended else row.horizon_epochs
        return done, planned

    def rung_decision(self, round_: int, batch: int, rung: int) -> Mapping[str, Any] | None:
        """Return who was promoted and pruned at a rung, or None if that is not decided yet."""
        if self._rungs is None:  # read once: what is decided from now on is added
            self._rungs = {}
            for event in self.ledger.events(self.search_id, "rung"):
                self._keep_rung(event.payload)
        return self._rungs.get((round_, batch, rung))

    def record_rung(self, decision: Mapping[str, Any]) -> None:
        """Write a rung's decision down, before it is acted on."""
        self.event("rung", dict(decision))
        self._keep_rung(decision)

    def _keep_rung(self, decision: Mapping[str, Any]) -> None:
        assert self._rungs is not None
        self._rungs[decision["round"], decision["batch"], decision["rung"]] = decision

    def note_best(self, value: float, trial_id: int) -> None:
        """Remember a finished trial's value of the first objective, for the display."""
        than = math.nan if self._best is None else self._best[0]
        if self.spec.objective_list[0].better(value, than):
            self._best = (value, trial_id)

    def best_so_far(self) -> tuple[float, int] | None:
        """Return the best value of a finished trial, of earlier sessions too, and the trial."""
        if not self._knows_earlier_best:  # read once, for the trials of a search that goes on
            self._knows_earlier_best = True
            metric = self.spec.objective_list[0].metric
            for trial in self.ledger.trials(self.search_id, states=["complete"]):
                self.note_best(trial.metrics.get(metric, math.nan), trial.trial_id)
        return self._best

    def now_unix_s(self) -> float:
        """Return the wall clock's time, for labels only."""
        return time.time()

    def warn(self, text: str) -> None:
        """Record a warning in the ledger, once, and show it."""
        known = {event.payload["text"] for event in self.ledger.events(self.search_id, "warning")}
        if text not in known:
            self.ledger.add_event(self.search_id, "warning", {"text": text})
            self.display.note(f"warning: {text}")

    def event(self, kind: str, payload: dict[str, Any]) -> None:
        """Record an event."""
        self.ledger.add_event(self.search_id, kind, payload)


def _handed_over(
    inherited: Mapping[int, CheckpointRef], record: TrialRecord
) -> CheckpointRef | None:
    """Make a parent's checkpoint out to its child, where the child may go on from it."""
    parent = record.parent_trial
    if parent is None or parent not in inherited or not continues_parent(record):
        return None
    return replace(inherited[parent], trial_id=record.trial_id)


def has_same_prefix(config: TrialConfig) -> bool:
    """Say whether a longer horizon leaves the learning rates of the first epochs as they were.

    Constant and plateau schedules without warm-up do not look at the horizon; all others
    stretch with it.
    """
    return config.schedule.kind in ("constant", "plateau") and config.schedule.warmup_fraction == 0


def continues_parent(record: TrialRecord) -> bool:
    """Say whether a trial is its parent, only longer: same seed, and the same first epochs."""
    return (
        record.role == "search"
        and record.parent_trial is not None
        and has_same_prefix(TrialConfig.model_validate(dict(record.config)))
    )
