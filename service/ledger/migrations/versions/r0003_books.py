"""The energy statement: dated factors and published editions; deliveries of webhooks."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "factors",
        sa.Column("site", sa.Text(), autoincrement=False, nullable=False),
        sa.Column("basis", sa.Text(), autoincrement=False, nullable=False),
        sa.Column("valid_from_unix_s", sa.Double(), autoincrement=False, nullable=False),
        sa.Column("valid_to_unix_s", sa.Double(), nullable=True),
        sa.Column("hosts", sa.Text(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("evidence", sa.Text(), nullable=False),
        sa.Column("added_by", sa.Text(), nullable=False),
        sa.Column("added_unix_s", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("site", "basis", "valid_from_unix_s"),
    )
    op.create_table(
        "statements",
        sa.Column("name", sa.Text(), autoincrement=False, nullable=False),
        sa.Column("edition", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("content", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("difference", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("published_unix_s", sa.Double(), nullable=False),
        sa.Column("published_by", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", "edition"),
    )
    op.create_table(
        "deliveries",
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("event", sa.Text(), autoincrement=False, nullable=False),
        sa.Column("noted_unix_s", sa.Double(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("next_unix_s", sa.Double(), nullable=True),
        sa.Column("delivered_unix_s", sa.Double(), nullable=True),
        sa.Column("error", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.job_id"]),
        sa.PrimaryKeyConstraint("job_id", "event"),
    )
    op.create_index("deliveries_by_time", "deliveries", ["next_unix_s"])
