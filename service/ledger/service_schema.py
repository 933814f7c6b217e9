"""The ledger's tables of the service: users, jobs and their logs, the audit."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    Table,
    Text,
    UniqueConstraint,
)

from service.ledger.schema import json_column, key_column, metadata, of_trial

users = Table(
    "users",
    metadata,
    Column("user_id", Text, primary_key=True),
    Column("role", Text, nullable=False),
    Column("projects", json_column(), nullable=False),
    Column("quota", json_column(), nullable=False),
    Column("created_unix_s", Double, nullable=False),
    Column("disabled", Boolean, nullable=False),
)

tokens = Table(
    "tokens",
    metadata,
    Column("token_id", Text, primary_key=True),
    Column("user_id", Text, ForeignKey("users.user_id"), nullable=False),
    Column("label", Text, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("created_unix_s", Double, nullable=False),
    Column("expires_unix_s", Double),
    Column("revoked_unix_s", Double),
    Column("last_used_unix_s", Double),
    Index("tokens_by_user", "user_id"),
)

web_sessions = Table(
    "web_sessions",
    metadata,
    Column("session_sha256", Text, primary_key=True),
    Column("user_id", Text, ForeignKey("users.user_id"), nullable=False),
    Column("created_unix_s", Double, nullable=False),
    Column("expires_unix_s", Double, nullable=False),
    Index("web_sessions_by_user", "user_id"),
)

jobs = Table(  # no key into searches: a job is remembered when its search was deleted
    "jobs",
    metadata,
    Column("job_id", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("action", json_column(), nullable=False),
    Column("name", Text, nullable=False),
    Column("project", Text, nullable=False),
    Column("spec", json_column(), nullable=False),
    Column("priority", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("search_id", Text),
    Column("submission_id", Text),
    Column("attempt", Integer, nullable=False),
    Column("idempotency_key", Text),
    Column("workers_wanted", Integer, nullable=False),
    Column("workers_allowed", Integer, nullable=False),
    Column("workers_busy", Integer, nullable=False),
    Column("cpus_per_worker", Double, nullable=False),
    Column("gpus_per_worker", Double, nullable=False),
    Column("estimated_s", Double),
    Column("exit_code", Integer),
    Column("log_open", Boolean, nullable=False),
    Column("webhook_url", Text),
    Column("created_unix_s", Double, nullable=False),
    Column("queued_unix_s", Double, nullable=False),
    Column("started_unix_s", Double),
    Column("stopping_unix_s", Double),
    Column("finished_unix_s", Double),
    Column("heartbeat_unix_s", Double),
    UniqueConstraint("owner", "idempotency_key", name="one_job_per_owner_and_key"),
    Index("jobs_by_time", "created_unix_s", "job_id"),
    Index("jobs_by_owner", "owner", "created_unix_s", "job_id"),
    Index("jobs_by_state", "state", "created_unix_s", "job_id"),
    Index("jobs_by_search", "search_id"),
    Index("jobs_by_log", "log_open"),
)

job_logs = Table(
    "job_logs",
    metadata,
    Column("job_id", Text, ForeignKey("jobs.job_id"), primary_key=True),
    key_column("attempt", Integer),
    key_column("seq", Integer),
    Column("first_byte", BigInteger, nullable=False),
    Column("num_bytes", BigInteger, nullable=False),
    Column("text", Text, nullable=False),
    Index("job_logs_by_byte", "job_id", "first_byte"),
)

audit = Table(
    "audit",
    metadata,
    Column("event_id", Integer, primary_key=True, autoincrement=True),
    Column("unix_s", Double, nullable=False),
    Column("user_id", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("detail", json_column(), nullable=False),
    Index("audit_by_user", "user_id", "event_id"),
    Index("audit_by_action", "action", "event_id"),
)

trial_stops = Table(
    "trial_stops",
    metadata,
    key_column("search_id"),
    key_column("trial_id", Integer),
    Column("requested_by", Text, nullable=False),
    Column("unix_s", Double, nullable=False),
    of_trial(),
)

factors = Table(
    "factors",
    metadata,
    key_column("site"),
    key_column("basis"),
    Column("valid_from_unix_s", Double, primary_key=True, autoincrement=False),
    Column("valid_to_unix_s", Double),
    Column("hosts", Text, nullable=False),
    Column("value", Double, nullable=False),
    Column("source", Text, nullable=False),
    Column("evidence", Text, nullable=False),
    Column("added_by", Text, nullable=False),
    Column("added_unix_s", Double, nullable=False),
)

statements = Table(
    "statements",
    metadata,
    key_column("name"),
    key_column("edition", Integer),
    Column("content", json_column(), nullable=False),
    Column("sha256", Text, nullable=False),
    Column("difference", json_column(), nullable=False),
    Column("reason", Text, nullable=False),
    Column("published_unix_s", Double, nullable=False),
    Column("published_by", Text, nullable=False),
)

deliveries = Table(  # of webhooks
    "deliveries",
    metadata,
    Column("job_id", Text, ForeignKey("jobs.job_id"), primary_key=True),
    key_column("event"),
    Column("noted_unix_s", Double, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("next_unix_s", Double),
    Column("delivered_unix_s", Double),
    Column("error", Text, nullable=False),
    Index("deliveries_by_time", "next_unix_s"),
)
