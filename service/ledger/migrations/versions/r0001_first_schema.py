"""The first schema: searches down to epochs, checkpoints, energy windows and events."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create all tables."""
    op.create_table(
        "energy_windows",
        sa.Column("host", sa.Text(), autoincrement=False, nullable=False),
        sa.Column("boot_id", sa.Text(), autoincrement=False, nullable=False),
        sa.Column("meter_epoch", sa.Text(), autoincrement=False, nullable=False),
        sa.Column("seq", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("started_s", sa.Double(), nullable=False),
        sa.Column("ended_s", sa.Double(), nullable=False),
        sa.Column("started_unix_s", sa.Double(), nullable=False),
        sa.Column("payload", sa.JSON(none_as_null=True), nullable=False),
        sa.PrimaryKeyConstraint("host", "boot_id", "meter_epoch", "seq"),
    )
    op.create_index(
        "windows_by_time", "energy_windows", ["host", "boot_id", "ended_s"], unique=False
    )
    op.create_table(
        "searches",
        sa.Column("search_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("spec", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_unix_s", sa.Double(), nullable=False),
        sa.Column("finished_unix_s", sa.Double(), nullable=True),
        sa.Column("versions", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("code_fingerprint", sa.Text(), nullable=False),
        sa.Column("test_looks", sa.Integer(), nullable=False),
        sa.Column("stop_requested", sa.Boolean(), nullable=False),
        sa.Column("out_dir", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("search_id"),
        sa.UniqueConstraint("name", "number", name="one_search_per_name_and_number"),
    )
    op.create_table(
        "events",
        sa.Column("event_id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("search_id", sa.Text(), nullable=False),
        sa.Column("unix_s", sa.Double(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("payload", sa.JSON(none_as_null=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["search_id"],
            ["searches.search_id"],
        ),
        sa.PrimaryKeyConstraint("event_id"),
    )
    op.create_index("events_by_kind", "events", ["search_id", "kind", "event_id"], unique=False)
    op.create_table(
        "plans",
        sa.Column("search_id", sa.Text(), nullable=False),
        sa.Column("signature", sa.Text(), autoincrement=False, nullable=False),
        sa.Column("plan", sa.JSON(none_as_null=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["search_id"],
            ["searches.search_id"],
        ),
        sa.PrimaryKeyConstraint("search_id", "signature"),
    )
    op.create_table(
        "rounds",
        sa.Column("search_id", sa.Text(), nullable=False),
        sa.Column("round", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("sampler", sa.Text(), nullable=False),
        sa.Column("sampler_reason", sa.Text(), nullable=False),
        sa.Column("space", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("reasons", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("epochs", sa.Integer(), nullable=False),
        sa.Column("planned_trials", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("outcome", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("started_unix_s", sa.Double(), nullable=True),
        sa.Column("finished_unix_s", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(
            ["search_id"],
            ["searches.search_id"],
        ),
        sa.PrimaryKeyConstraint("search_id", "round"),
    )
    op.create_table(
        "segments",
        sa.Column("search_id", sa.Text(), nullable=False),
        sa.Column("segment_id", sa.Text(), autoincrement=False, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("batch", sa.Integer(), nullable=False),
        sa.Column("rung", sa.Integer(), nullable=False),
        sa.Column("trial_ids", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("stop_epoch", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["search_id"],
            ["searches.search_id"],
        ),
        sa.PrimaryKeyConstraint("search_id", "segment_id"),
    )
    op.create_index(
        "segments_by_rung", "segments", ["search_id", "round", "batch", "rung"], unique=False
    )
    op.create_table(
        "spans",
        sa.Column("search_id", sa.Text(), nullable=False),
        sa.Column("span", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("boot_id", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("started_s", sa.Double(), nullable=False),
        sa.Column("ended_s", sa.Double(), nullable=False),
        sa.Column("started_unix_s", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["search_id"],
            ["searches.search_id"],
        ),
        sa.PrimaryKeyConstraint("search_id", "span"),
    )
    op.create_table(
        "trials",
        sa.Column("search_id", sa.Text(), nullable=False),
        sa.Column("trial_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("batch", sa.Integer(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("config", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("params", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("config_id", sa.Text(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("horizon_epochs", sa.Integer(), nullable=False),
        sa.Column("epochs_done", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("parent_trial", sa.Integer(), nullable=True),
        sa.Column("metrics", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("sampler_attrs", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("num_params", sa.BigInteger(), nullable=True),
        sa.Column("flops_per_epoch", sa.Double(), nullable=True),
        sa.Column("stopped_early", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["search_id"],
            ["searches.search_id"],
        ),
        sa.PrimaryKeyConstraint("search_id", "trial_id"),
    )
    op.create_index("trials_by_batch", "trials", ["search_id", "round", "batch"], unique=False)
    op.create_index("trials_by_state", "trials", ["search_id", "state"], unique=False)
    op.create_table(
        "borders",
        sa.Column("search_id", sa.Text(), autoincrement=False, nullable=False),
        sa.Column("segment_id", sa.Text(), autoincrement=False, nullable=False),
        sa.Column("attempt", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("sequence", sa.Integer(), autoincrement=False, nullable=False),
        sa.ForeignKeyConstraint(
            ["search_id", "segment_id"],
            ["segments.search_id", "segments.segment_id"],
        ),
        sa.PrimaryKeyConstraint("search_id", "segment_id", "attempt", "sequence"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "checkpoints",
        sa.Column("search_id", sa.Text(), autoincrement=False, nullable=False),
        sa.Column("trial_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("epoch", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("lane", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("num_bytes", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["search_id", "trial_id"],
            ["trials.search_id", "trials.trial_id"],
        ),
        sa.PrimaryKeyConstraint("search_id", "trial_id", "epoch"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "epochs",
        sa.Column("search_id", sa.Text(), autoincrement=False, nullable=False),
        sa.Column("trial_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("epoch", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("busy_s", sa.Double(), nullable=False),
        sa.Column("train_loss", sa.Double(), nullable=True),
        sa.Column("val_loss", sa.Double(), nullable=True),
        sa.Column("val_error", sa.Double(), nullable=True),
        sa.Column("val_rmse", sa.Double(), nullable=True),
        sa.Column("val_r2", sa.Double(), nullable=True),
        sa.Column("lr", sa.Double(), nullable=True),
        sa.Column("grad_norm", sa.Double(), nullable=True),
        sa.Column("best_val_loss", sa.Double(), nullable=True),
        sa.Column("best_epoch", sa.Double(), nullable=True),
        sa.Column("extras", sa.JSON(none_as_null=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["search_id", "trial_id"],
            ["trials.search_id", "trials.trial_id"],
        ),
        sa.PrimaryKeyConstraint("search_id", "trial_id", "epoch"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "usage",
        sa.Column("search_id", sa.Text(), autoincrement=False, nullable=False),
        sa.Column("segment_id", sa.Text(), autoincrement=False, nullable=False),
        sa.Column("attempt", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("sequence", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("item", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("started_s", sa.Double(), nullable=False),
        sa.Column("ended_s", sa.Double(), nullable=False),
        sa.Column("trial_busy_s", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("padding_s", sa.Double(), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["search_id", "segment_id"],
            ["segments.search_id", "segments.segment_id"],
        ),
        sa.PrimaryKeyConstraint("search_id", "segment_id", "attempt", "sequence", "item"),
    )
