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


def _json() -> JSON:
    return JSON(none_as_null=True)


def _key(name: str, kind: type[Text] | type[Integer] = Text) -> Column[Any]:
    return Column(name, kind, primary_key=True, autoincrement=False)


def _search() -> Column[str]:
    return Column("search_id", Text, ForeignKey("searches.search_id"), primary_key=True)


def _of_trial() -> ForeignKeyConstraint:
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
    Column("spec", _json(), nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("mode", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("created_unix_s", Double, nullable=False),
    Column("finished_unix_s", Double),
    Column("versions", _json(), nullable=False),
    Column("code_fingerprint", Text, nullable=False),
    Column("test_looks", Integer, nullable=False),
    Column("stop_requested", Boolean, nullable=False),
    Column("out_dir", Text),
    UniqueConstraint("name", "number", name="one_search_per_name_and_number"),
)

rounds = Table(
    "rounds",
    metadata,
    _search(),
    _key("round", Integer),
    Column("kind", Text, nullable=False),
    Column("sampler", Text, nullable=False),
    Column("sampler_reason", Text, nullable=False),
    Column("space", _json(), nullable=False),
    Column("reasons", _json(), nullable=False),
    Column("epochs", Integer, nullable=False),
    Column("planned_trials", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("outcome", _json(), nullable=False),
    Column("started_unix_s", Double),
    Column("finished_unix_s", Double),
)

trials = Table(
    "trials",
    metadata,
    _search(),
    _key("trial_id", Integer),
    Column("round", Integer, nullable=False),
    Column("batch", Integer, nullable=False),
    Column("role", Text, nullable=False),
    Column("config", _json(), nullable=False),
    Column("params", _json(), nullable=False),
    Column("config_id", Text, nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("horizon_epochs", Integer, nullable=False),
    Column("epochs_done", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("parent_trial", Integer),
    Column("metrics", _json(), nullable=False),
    Column("sampler_attrs", _json(), nullable=False),
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
    _key("segment_id"),
    Column("position", Integer, nullable=False),
    Column("round", Integer, nullable=False),
    Column("batch", Integer, nullable=False),
    Column("rung", Integer, nullable=False),
    Column("trial_ids", _json(), nullable=False),
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
    _key("search_id"),
    _key("segment_id"),
    _key("attempt", Integer),
    _key("sequence", Integer),
    _of_segment(),
    sqlite_with_rowid=False,
)

epochs = Table(
    "epochs",
    metadata,
    _key("search_id"),
    _key("trial_id", Integer),
    _key("epoch", Integer),
    Column("attempt", Integer, nullable=False),
    Column("status", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("busy_s", Double, nullable=False),
    *(Column(name, Double) for name in COMMON_METRICS),
    Column("extras", _json()),
    _of_trial(),
    sqlite_with_rowid=False,
)

checkpoints = Table(
    "checkpoints",
    metadata,
    _key("search_id"),
    _key("trial_id", Integer),
    _key("epoch", Integer),
    Column("attempt", Integer, nullable=False),
    Column("path", Text, nullable=False),
    Column("lane", Integer, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("num_bytes", BigInteger, nullable=False),
    _of_trial(),
    sqlite_with_rowid=False,
)

plans = Table(
    "plans",
    metadata,
    _search(),
    _key("signature"),
    Column("plan", _json(), nullable=False),
)

usage = Table(
    "usage",
    metadata,
    _key("search_id"),
    _key("segment_id"),
    _key("attempt", Integer),
    _key("sequence", Integer),
    _key("item", Integer),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("started_s", Double, nullable=False),
    Column("ended_s", Double, nullable=False),
    Column("trial_busy_s", _json(), nullable=False),
    Column("padding_s", Double, nullable=False),
    Column("device", Text, nullable=False),
    _of_segment(),
)

spans = Table(
    "spans",
    metadata,
    _search(),
    _key("span", Integer),
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
    _key("host"),
    _key("boot_id"),
    _key("meter_epoch"),
    _key("seq", Integer),
    Column("started_s", Double, nullable=False),
    Column("ended_s", Double, nullable=False),
    Column("started_unix_s", Double, nullable=False),
    Column("payload", _json(), nullable=False),
    Index("windows_by_time", "host", "boot_id", "ended_s"),
)

events = Table(
    "events",
    metadata,
    Column("event_id", Integer, primary_key=True, autoincrement=True),
    Column("search_id", Text, ForeignKey("searches.search_id"), nullable=False),
    Column("unix_s", Double, nullable=False),
    Column("kind", Text, nullable=False),
    Column("payload", _json(), nullable=False),
    Index("events_by_kind", "search_id", "kind", "event_id"),
)
