"""The energy statement: dated factors, and editions of what was published."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the two tables."""
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
