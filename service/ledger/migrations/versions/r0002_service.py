"""The service: users, tokens, sessions, jobs with their logs, the audit, stops of single trials."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Give searches an owner, and create the tables of the service."""
    op.add_column("searches", sa.Column("owner", sa.Text(), nullable=True))
    op.create_index("searches_by_time", "searches", ["created_unix_s", "search_id"])
    op.create_index("searches_by_owner", "searches", ["owner", "created_unix_s", "search_id"])
    op.create_index("searches_by_state", "searches", ["state", "owner", "project"])
    _create_users()
    _create_jobs()
    op.create_table(
        "audit",
        sa.Column("event_id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("unix_s", sa.Double(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("detail", sa.JSON(none_as_null=True), nullable=False),
        sa.PrimaryKeyConstraint("event_id"),
    )
    op.create_index("audit_by_user", "audit", ["user_id", "event_id"])
    op.create_index("audit_by_action", "audit", ["action", "event_id"])
    op.create_table(
        "trial_stops",
        sa.Column("search_id", sa.Text(), autoincrement=False, nullable=False),
        sa.Column("trial_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("requested_by", sa.Text(), nullable=False),
        sa.Column("unix_s", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["search_id", "trial_id"], ["trials.search_id", "trials.trial_id"]),
        sa.PrimaryKeyConstraint("search_id", "trial_id"),
    )


def _create_users() -> None:
    op.create_table(
        "users",
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("projects", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("quota", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("created_unix_s", sa.Double(), nullable=False),
        sa.Column("disabled", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("user_id"),
    )
    op.create_table(
        "tokens",
        sa.Column("token_id", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("created_unix_s", sa.Double(), nullable=False),
        sa.Column("expires_unix_s", sa.Double(), nullable=True),
        sa.Column("revoked_unix_s", sa.Double(), nullable=True),
        sa.Column("last_used_unix_s", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["user_id"], ["users.user_id"]),
        sa.PrimaryKeyConstraint("token_id"),
    )
    op.create_index("tokens_by_user", "tokens", ["user_id"])
    op.create_table(
        "web_sessions",
        sa.Column("session_sha256", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("created_unix_s", sa.Double(), nullable=False),
        sa.Column("expires_unix_s", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.user_id"]),
        sa.PrimaryKeyConstraint("session_sha256"),
    )
    op.create_index("web_sessions_by_user", "web_sessions", ["user_id"])


def _create_jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("action", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("spec", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("priority", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("search_id", sa.Text(), nullable=True),
        sa.Column("submission_id", sa.Text(), nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("idempotency_key", sa.Text(), nullable=True),
        sa.Column("workers_wanted", sa.Integer(), nullable=False),
        sa.Column("workers_allowed", sa.Integer(), nullable=False),
        sa.Column("workers_busy", sa.Integer(), nullable=False),
        sa.Column("cpus_per_worker", sa.Double(), nullable=False),
        sa.Column("gpus_per_worker", sa.Double(), nullable=False),
        sa.Column("estimated_s", sa.Double(), nullable=True),
        sa.Column("exit_code", sa.Integer(), nullable=True),
        sa.Column("log_open", sa.Boolean(), nullable=False),
        sa.Column("webhook_url", sa.Text(), nullable=True),
        sa.Column("created_unix_s", sa.Double(), nullable=False),
        sa.Column("queued_unix_s", sa.Double(), nullable=False),
        sa.Column("started_unix_s", sa.Double(), nullable=True),
        sa.Column("stopping_unix_s", sa.Double(), nullable=True),
        sa.Column("finished_unix_s", sa.Double(), nullable=True),
        sa.Column("heartbeat_unix_s", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("job_id"),
        sa.UniqueConstraint("owner", "idempotency_key", name="one_job_per_owner_and_key"),
    )
    op.create_index("jobs_by_time", "jobs", ["created_unix_s", "job_id"])
    op.create_index("jobs_by_owner", "jobs", ["owner", "created_unix_s", "job_id"])
    op.create_index("jobs_by_state", "jobs", ["state", "created_unix_s", "job_id"])
    op.create_index("jobs_by_search", "jobs", ["search_id"])
    op.create_index("jobs_by_log", "jobs", ["log_open"])
    op.create_table(
        "job_logs",
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("seq", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("first_byte", sa.BigInteger(), nullable=False),
        sa.Column("num_bytes", sa.BigInteger(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.job_id"]),
        sa.PrimaryKeyConstraint("job_id", "attempt", "seq"),
    )
    op.create_index("job_logs_by_byte", "job_logs", ["job_id", "first_byte"])
