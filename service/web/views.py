"""What the API answers with: plain models, described in the OpenAPI document.

Numbers that are not finite become null; times are seconds since 1970.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, Field

from service.jobs.records import AuditRecord, JobRecord, UserRecord
from service.ledger.records import RoundRecord, SearchRecord, TrialRecord
from service.recipe.record import plain

T = TypeVar("T")
Cursor = Annotated[
    str | None, Field(description="Pass as `after` for the next page; null: this is the last.")
]


class PageView(BaseModel, Generic[T]):
    """One page of a list."""

    items: list[T]
    next: Cursor = None


class JobView(BaseModel):
    """A request to the service, and how far it has come."""

    job_id: str
    owner: str
    kind: str
    action: dict[str, Any]
    name: str
    project: str
    priority: str
    state: str
    reason: str
    search_id: str | None
    attempt: int
    workers_wanted: int
    workers_allowed: int
    workers_busy: int
    estimated_s: float | None
    position: int | None = Field(None, description="Place in the queue, from 1.")
    estimated_start_unix_s: float | None = None
    created_unix_s: float
    started_unix_s: float | None
    finished_unix_s: float | None

    @classmethod
    def of(cls, job: JobRecord, **more: Any) -> JobView:
        """Show a record."""
        fields = {name: getattr(job, name) for name in cls.model_fields if hasattr(job, name)}
        return cls(**plain(fields), **more)


class SearchView(BaseModel):
    """A search or study."""

    search_id: str
    kind: str
    name: str
    project: str
    owner: str | None
    state: str
    reason: str
    seed: int
    mode: str
    metric: str = Field(description="The first objective.")
    direction: str
    best: float | None = Field(None, description="Best value among the longest finished trials.")
    trials: dict[str, int] = Field(default_factory=dict, description="Number by state.")
    kwh: float | None = Field(None, description="Own energy when the last finished round ended.")
    co2e_kg: float | None = None
    seconds: float
    test_looks: int
    created_unix_s: float
    finished_unix_s: float | None

    @classmethod
    def of(cls, search: SearchRecord, **more: Any) -> SearchView:
        """Show a record."""
        fields = {name: getattr(search, name) for name in cls.model_fields if hasattr(search, name)}
        metric, direction = objective_of(search.spec)
        return cls(**plain(fields), metric=metric, direction=direction, **more)


class TrialView(BaseModel):
    """One configuration with one seed."""

    trial_id: int
    round: int
    role: str
    state: str
    reason: str
    params: dict[str, Any]
    metrics: dict[str, float | None]
    epochs_done: int
    horizon_epochs: int
    seed: int
    config_id: str
    num_params: int | None
    flops_per_epoch: float | None
    parent_trial: int | None
    stopped_early: bool

    @classmethod
    def of(cls, trial: TrialRecord) -> TrialView:
        """Show a record."""
        return cls(**plain({name: getattr(trial, name) for name in cls.model_fields}))


class TrialDetail(TrialView):
    """A trial with its whole configuration."""

    config: dict[str, Any]
    active_kwh: float | None = None
    unmeasured_kwh: float | None = None
    """Estimated, for time that no meter covered; not in `active_kwh`."""


class RoundView(BaseModel):
    """One space, one sampler, one budget, and why."""

    round: int
    kind: str
    sampler: str
    sampler_reason: str
    space: dict[str, Any]
    reasons: list[dict[str, Any]]
    epochs: int
    planned_trials: int
    state: str
    reason: str
    outcome: dict[str, Any]

    @classmethod
    def of(cls, record: RoundRecord) -> RoundView:
        """Show a record."""
        return cls(**plain({name: getattr(record, name) for name in cls.model_fields}))


class CurvesView(BaseModel):
    """Learning curves, thinned."""

    metric: str
    epochs: dict[int, list[int]] = Field(description="Trial -> epochs.")
    values: dict[int, list[float | None]] = Field(description="Trial -> values at those epochs.")


class MeView(BaseModel):
    """Who asks, and what may still be used."""

    user_id: str
    role: str
    via: str
    projects: list[str]
    quota: dict[str, float]

    @classmethod
    def of(cls, user: UserRecord, via: str) -> MeView:
        """Show a user."""
        return cls(
            user_id=user.user_id,
            role=user.role,
            via=via,
            projects=list(user.projects),
            quota=user.quota.to_mapping(),
        )


class AuditView(BaseModel):
    """Who did what."""

    event_id: int
    unix_s: float
    user_id: str
    action: str
    target: str
    outcome: str
    address: str
    detail: dict[str, Any]

    @classmethod
    def of(cls, record: AuditRecord) -> AuditView:
        """Show a record."""
        return cls(**plain({name: getattr(record, name) for name in cls.model_fields}))


def objective_of(spec: Mapping[str, Any]) -> tuple[str, str]:
    """Return a spec's first objective and its direction; what a spec without one means."""
    objectives = spec.get("objectives") or {"val_error": "minimize"}
    metric, direction = next(iter(objectives.items()))
    return str(metric), str(direction)
