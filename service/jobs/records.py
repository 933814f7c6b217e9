"""Who uses the service and what they asked for: frozen records, one per row of a table.

Field names equal column names. Times named `unix_s` are seconds since 1970.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, Self, get_args

from trainers.errors import ConfigError, nearest

Role = Literal["viewer", "submitter", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)
JobKind = Literal["search", "study"]
JobState = Literal[
    "queued", "starting", "running", "stopping", "stopped", "finished", "failed", "cancelled"
]
"""stopped: its work is saved and can be resumed; cancelled: it never began."""
LIVE_STATES: tuple[JobState, ...] = ("queued", "starting", "running", "stopping")
STARTED_STATES: tuple[JobState, ...] = ("starting", "running", "stopping")
ENDED_STATES: tuple[JobState, ...] = ("stopped", "finished", "failed", "cancelled")


@dataclass(frozen=True, kw_only=True)
class Quota:
    """What one user may hold at a time, and use in a calendar month; None: the service's rule."""

    max_workers: int | None = None
    max_jobs: int | None = None
    """Jobs that have begun and not ended; more of them wait in the queue."""
    kwh_per_month: float | None = None

    def __post_init__(self) -> None:
        for name, value in self.to_mapping().items():
            if not isinstance(value, int | float) or not value >= 0:
                raise ConfigError(f"quota `{name}` must be a number >= 0, but got {value!r}")

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> Self:
        """Read plain values.

        Raises:
            ConfigError: for an unknown key or a value that is no number >= 0.

        """
        valid = [known.name for known in fields(cls)]
        for name in mapping:
            if name not in valid:
                raise ConfigError(f"a quota has no key {name!r}{nearest(name, valid)}")
        return cls(**mapping)

    def to_mapping(self) -> dict[str, float]:
        """Return the limits that are set."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class UserRecord:
    """Somebody who may sign in."""

    user_id: str
    role: Role
    projects: tuple[str, ...] = ()
    """Patterns of the projects that may be read besides one's own jobs, e.g. `vision/*`."""
    quota: Quota = field(default_factory=Quota)
    created_unix_s: float = 0.0
    disabled: bool = False


@dataclass(frozen=True, kw_only=True)
class TokenRecord:
    """A token as the ledger knows it: never its secret, only that secret's hash."""

    token_id: str
    user_id: str
    label: str
    created_unix_s: float
    expires_unix_s: float | None
    revoked_unix_s: float | None
    last_used_unix_s: float | None
    """Kept to the minute."""


@dataclass(frozen=True, kw_only=True)
class SessionRecord:
    """A browser that is signed in; the cookie's value is known to the browser alone."""

    user_id: str
    created_unix_s: float
    expires_unix_s: float


@dataclass(frozen=True, kw_only=True)
class JobRecord:
    """One request to the service: run, resume or extend one search or study."""

    job_id: str
    owner: str
    kind: JobKind
    action: Mapping[str, Any]
    """`{"run": {}}`, `{"resume": search_id}` or `{"extend": search_id, "trials": ...}`."""
    name: str
    project: str
    spec: Mapping[str, Any]
    """What was asked, validated; of a resumed search, its own."""
    priority: str
    state: JobState = "queued"
    reason: str = ""
    """Why it waits, was retried, or ended as it did."""
    search_id: str | None = None
    submission_id: str | None = None
    """The cluster's name for the present attempt."""
    attempt: int = 0
    """The fencing token: a driver of an older attempt ends by itself."""
    idempotency_key: str | None = None
    workers_wanted: int = 1
    workers_allowed: int = 0
    workers_busy: int = 0
    """Workers that the driver holds, as it last said."""
    cpus_per_worker: float = 1.0
    gpus_per_worker: float = 0.0
    estimated_s: float | None = None
    """How long it takes with the workers it wants, as estimated before it was queued."""
    exit_code: int | None = None
    log_open: bool = False
    """Whether the cluster may still have more of its log than the ledger."""
    webhook_url: str | None = None
    created_unix_s: float = 0.0
    queued_unix_s: float = 0.0
    """Its place among equals; a retry keeps it."""
    started_unix_s: float | None = None
    stopping_unix_s: float | None = None
    finished_unix_s: float | None = None
    heartbeat_unix_s: float | None = None

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.state in ENDED_STATES


@dataclass(frozen=True, kw_only=True)
class AuditRecord:
    """Who did what, from where, and whether it was allowed."""

    event_id: int
    unix_s: float
    user_id: str
    action: str
    target: str
    outcome: str
    address: str
    detail: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class TrialStop:
    """A request to stop one trial; the others of its search go on."""

    search_id: str
    trial_id: int
    requested_by: str
    unix_s: float
