"""What the ledger takes and gives back: frozen records, one per row of a table.

Field names equal column names. Mappings hold plain values only (JSON), of which non-finite
floats come back as they went in. Times named `unix_s` are seconds since 1970; `started_s` and
`ended_s` are time.monotonic() of the host they were taken on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

SearchState = Literal[
    "running", "finished", "interrupted", "stopped", "failed", "recipe_stopped", "deleted"
]
"""deleted: only what it used is still known."""
RoundKind = Literal["recipe", "search", "finalists", "baseline", "extension"]
RoundState = Literal["running", "finished", "ended_early"]
TrialRole = Literal["baseline", "search", "sweep", "overfit", "initial", "incumbent", "finalist"]
TrialState = Literal[
    "waiting", "running", "complete", "pruned", "diverged", "failed", "infeasible", "stopped"
]
"""pruned: lost at a rung; infeasible: broke a constraint; stopped: its search ended before it."""
SegmentState = Literal["waiting", "running", "done", "failed", "split", "cancelled"]


@dataclass(frozen=True, kw_only=True)
class SearchRecord:
    """One search: what was asked, by which code, and how it ended."""

    search_id: str
    """Name and first free number, e.g. `plates-cnn-3`: unique in the ledger, fit for file names."""
    name: str
    kind: str
    project: str
    spec: Mapping[str, Any]
    seed: int
    mode: str
    """`deterministic` or `asynchronous`."""
    state: SearchState
    reason: str
    created_unix_s: float
    finished_unix_s: float | None
    seconds: float
    """Wall time spent on it: the sum over its spans, so pauses between kills do not count."""
    versions: Mapping[str, str]
    code_fingerprint: str
    test_looks: int
    """How often the test rows were looked at."""
    out_dir: str | None
    owner: str | None = None
    """The user of the service who asked for it; None: it was run from the command line."""


@dataclass(frozen=True, kw_only=True)
class RoundRecord:
    """One space plus one sampler plus one budget."""

    round: int
    """-1: the recipe's checks; 0: coarse; each refinement is the next."""
    kind: RoundKind
    sampler: str
    sampler_reason: str
    space: Mapping[str, Any]
    reasons: Sequence[Mapping[str, Any]] = ()
    """Why the space is what it is: one mapping per dimension that changed, or stayed."""
    epochs: int
    planned_trials: int
    state: RoundState
    reason: str = ""
    outcome: Mapping[str, Any] = field(default_factory=dict)
    started_unix_s: float | None = None
    finished_unix_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """One configuration with one seed, and what became of it."""

    trial_id: int
    """Dense in its search, from 0."""
    round: int
    batch: int
    role: TrialRole
    config: Mapping[str, Any]
    params: Mapping[str, Any]
    """The searched values only: dotted path -> value."""
    config_id: str
    """Fingerprint of `config`; equal for seeds of one configuration."""
    seed: int
    """In [0, 2**63)."""
    horizon_epochs: int
    epochs_done: int = 0
    state: TrialState = "waiting"
    reason: str = ""
    parent_trial: int | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Final metrics."""
    sampler_attrs: Mapping[str, Any] = field(default_factory=dict)
    """State that CMA-ES and NSGA-II keep on their trials."""
    num_params: int | None = None
    flops_per_epoch: float | None = None
    stopped_early: bool = False


@dataclass(frozen=True, kw_only=True)
class TrialProgress:
    """How far a search's trials of one state have come, in sum."""

    state: TrialState
    num_trials: int
    epochs_done: int
    horizon_epochs: int


@dataclass(frozen=True, kw_only=True)
class SegmentRecord:
    """One pack to be trained to `stop_epoch`: the unit of scheduling and retry."""

    segment_id: str
    round: int
    batch: int
    rung: int
    trial_ids: tuple[int, ...]
    stop_epoch: int
    attempt: int = 0
    """The fencing token; 0: never begun."""
    state: SegmentState = "waiting"
    error: str = ""
    seconds: float = 0.0
    host: str = ""


@dataclass(frozen=True, kw_only=True)
class SpanRecord:
    """A stretch of time during which one driver process worked on a search, on one host."""

    search_id: str
    span: int
    host: str
    boot_id: str
    """Which boot of the host its monotonic clock counts from."""
    pid: int
    started_s: float
    ended_s: float
    started_unix_s: float


@dataclass(frozen=True, kw_only=True)
class EventRecord:
    """Something to remember that is no result: a decision, a retry, a look at the test set."""

    event_id: int
    unix_s: float
    kind: str
    payload: Mapping[str, Any]
