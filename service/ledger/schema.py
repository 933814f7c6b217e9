"""The ledger's tables. A change here needs a migration beside it (a test compares the two).

Every table is keyed by what its rows mean, never by a running number, so that writing a row
twice is the same as writing it once. Epochs are wide: one row per trial and epoch, with a column
per common metric (four times faster than a row per metric).
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

from service.ledger.codec import COMMON_METRICS

metadata = MetaData()


def json_column() -> JSON:
    """Return the type of a column that holds plain values."""
    return JSON(none_as_null=True)


def key_column(name: str, kind: type[Text] | type[Integer] = Text) -> Column[Any]:
    """Return a column of a primary key that the database does not count up by itself."""
    return Column(name, kind, primary_key=True, autoincrement=False)


def _search() -> Column[str]:
    return Column("search_id", Text, ForeignKey("searches.search_id"), primary_key=True)


def of_trial() -> ForeignKeyConstraint:
    """Return the key of a row that belongs to a trial."""
    return ForeignKeyConstraint(["search_id", "trial_id"], ["trials.search_id", "trials.trial_id"])


def _of_segment() -> ForeignKeyConstraint:
    return ForeignKeyConstraint(
        ["search_id", "segment_id"], ["segments.search_id", "segments.segment_id"]
    )


searches = Table(
    "searches",
    metadata,
    Column("search_id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("number", Integer, nullable=False),
    Column("kind", Text, nullable=False),
    Column("project", Text, nullable=False),
    Column("spec", json_column(), nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("mode", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("created_unix_s", Double, nullable=False),
    Column("finished_unix_s", Double),
    Column("versions", json_column(), nullable=False),
    Column("code_fingerprint", Text, nullable=False),
    Column("test_looks", Integer, nullable=False),
    Column("stop_requested", Boolean, nullable=False),
    Column("out_dir", Text),
    Column("owner", Text),
    UniqueConstraint("name", "number", name="one_search_per_name_and_number"),
    Index("searches_by_time", "created_unix_s", "search_id"),
    Index("searches_by_owner", "owner", "created_unix_s", "search_id"),
    Index("searches_by_state", "state", "owner", "project"),
)

rounds = Table(
    "rounds",
    metadata,
    _search(),
    key_column("round", Integer),
    Column("kind", Text, nullable=False),
    Column("sampler", Text, nullable=False),
    Column("sampler_reason", Text, nullable=False),
    Column("space", json_column(), nullable=False),
    Column("reasons", json_column(), nullable=False),
    Column("epochs", Integer, nullable=False),
    Column("planned_trials", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("outcome", json_column(), nullable=False),
    Column("started_unix_s", Double),
    Column("finished_unix_s", Double),
)

trials = Table(
    "trials",
    metadata,
    _search(),
    key_column("trial_id", Integer),
    Column("round", Integer, nullable=False),
    Column("batch", Integer, nullable=False),
    Column("role", Text, nullable=False),
    Column("config", json_column(), nullable=False),
    Column("params", json_column(), nullable=False),
    Column("config_id", Text, nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("horizon_epochs", Integer, nullable=False),
    Column("epochs_done", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("parent_trial", Integer),
    Column("metrics", json_column(), nullable=False),
    Column("sampler_attrs", json_column(), nullable=False),
    Column("num_params", BigInteger),
    Column("flops_per_epoch", Double),
    Column("stopped_early", Boolean, nullable=False),
    Index("trials_by_batch", "search_id", "round", "batch"),
    Index("trials_by_state", "search_id", "state"),
)

segments = Table(
    "segments",
    metadata,
    _search(),
    key_column("segment_id"),
    Column("position", Integer, nullable=False),
    Column("round", Integer, nullable=False),
    Column("batch", Integer, nullable=False),
    Column("rung", Integer, nullable=False),
    Column("trial_ids", json_column(), nullable=False),
    Column("stop_epoch", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("error", Text, nullable=False),
    Column("seconds", Double, nullable=False),
    Column("host", Text, nullable=False),
    Index("segments_by_rung", "search_id", "round", "batch", "rung"),
)

borders = Table(  # which borders are already in: what makes applying one twice harmless
    "borders",
    metadata,
    key_column("search_id"),
    key_column("segment_id"),
    key_column("attempt", Integer),
    key_column("sequence", Integer),
    _of_segment(),
    sqlite_with_rowid=False,
)

epochs = Table(
    "epochs",
    metadata,
    key_column("search_id"),
    key_column("trial_id", Integer),
    key_column("epoch", Integer),
    Column("attempt", Integer, nullable=False),
    Column("status", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("busy_s", Double, nullable=False),
    *(Column(name, Double) for name in COMMON_METRICS),
    Column("extras", json_column()),
    of_trial(),
    sqlite_with_rowid=False,
)

checkpoints = Table(
    "checkpoints",
    metadata,
    key_column("search_id"),
    key_column("trial_id", Integer),
    key_column("epoch", Integer),
    Column("attempt", Integer, nullable=False),
    Column("path", Text, nullable=False),
    Column("lane", Integer, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("num_bytes", BigInteger, nullable=False),
    of_trial(),
    sqlite_with_rowid=False,
)

plans = Table(
    "plans",
    metadata,
    _search(),
    key_column("signature"),
    Column("plan", json_column(), nullable=False),
)

usage = Table(
    "usage",
    metadata,
    key_column("search_id"),
    key_column("segment_id"),
    key_column("attempt", Integer),
    key_column("sequence", Integer),
    key_column("item", Integer),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("started_s", Double, nullable=False),
    Column("ended_s", Double, nullable=False),
    Column("trial_busy_s", json_column(), nullable=False),
    Column("padding_s", Double, nullable=False),
    Column("device", Text, nullable=False),
    _of_segment(),
)

spans = Table(
    "spans",
    metadata,
    _search(),
    key_column("span", Integer),
    Column("host", Text, nullable=False),
    Column("boot_id", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("started_s", Double, nullable=False),
    Column("ended_s", Double, nullable=False),
    Column("started_unix_s", Double, nullable=False),
)

energy_windows = Table(  # of the host, not of a search: two searches share them
    "energy_windows",
    metadata,
    key_column("host"),
    key_column("boot_id"),
    key_column("meter_epoch"),
    key_column("seq", Integer),
    Column("started_s", Double, nullable=False),
    Column("ended_s", Double, nullable=False),
    Column("started_unix_s", Double, nullable=False),
    Column("payload", json_column(), nullable=False),
    Index("windows_by_time", "host", "boot_id", "ended_s"),
)

events = Table(
    "events",
    metadata,
    Column("event_id", Integer, primary_key=True, autoincrement=True),
    Column("search_id", Text, ForeignKey("searches.search_id"), nullable=False),
    Column("unix_s", Double, nullable=False),
    Column("kind", Text, nullable=False),
    Column("payload", json_column(), nullable=False),
    Index("events_by_kind", "search_id", "kind", "event_id"),
)
