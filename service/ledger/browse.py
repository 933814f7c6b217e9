"""Pages of searches and trials, for people who look at many of them.

Every query names a search or follows an index, and returns one page: nothing here reads a whole
table, however large the ledger has grown.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from service.jobs.records import UserRecord
from service.ledger.access import readable
from service.ledger.codec import COMMON_METRICS, StoredMapping
from service.ledger.json_values import number_of, text_of
from service.ledger.records import SearchRecord, TrialRecord
from service.ledger.schema import epochs, rounds, searches, spans, trials
from service.ledger.store import Store, record_of
from trainers.errors import ConfigError, nearest

T = TypeVar("T")
Operator = Literal["=", "!=", "<", "<=", ">", ">="]
TRIAL_COLUMNS = (
    "trial_id",
    "round",
    "role",
    "state",
    "epochs_done",
    "horizon_epochs",
    "seed",
    "num_params",
    "config_id",
)
_TEXT_COLUMNS = {"role", "state", "config_id"}
MAX_PAGE = 500


@dataclass(frozen=True, kw_only=True)
class Page(Generic[T]):
    """Some rows in order, and where the next page begins."""

    items: list[T]
    next: tuple[Any, ...] | None
    """What to pass as `after` for the next page; None: this was the last."""


@dataclass(frozen=True, kw_only=True)
class Condition:
    """One condition on trials, e.g. metrics.val_error <= 0.1 or params.optimizer.kind = adam."""

    field: str
    operator: Operator
    value: str | float


class BrowseStore(Store):
    """Reading page by page."""

    def page_searches(
        self,
        *,
        readable_by: UserRecord | None = None,
        kinds: Collection[str] | None = None,
        states: Collection[str] | None = None,
        project: str | None = None,
        text: str | None = None,
        limit: int = 50,
        after: tuple[Any, ...] | None = None,
    ) -> Page[SearchRecord]:
        """Return searches, newest first.

        Args:
            readable_by: that this user may read; None: all.
            kinds: `search`, `study`.
            states: of SearchRecord.state.
            project: exactly this project.
            text: a part of the id or the project.
            limit: rows of a page, at most 500.
            after: `next` of the page before.

        """
        seconds = (
            sa.select(sa.func.coalesce(sa.func.sum(spans.c.ended_s - spans.c.started_s), 0.0))
            .where(spans.c.search_id == searches.c.search_id)
            .scalar_subquery()
            .label("seconds")
        )
        query = sa.select(searches, seconds).where(searches.c.state != "deleted")
        for column, values in ((searches.c.kind, kinds), (searches.c.state, states)):
            if values is not None:
                query = query.where(column.in_(list(values)))
        if project is not None:
            query = query.where(searches.c.project == project)
        if text:
            query = query.where(
                searches.c.search_id.icontains(text, autoescape=True)
                | searches.c.project.icontains(text, autoescape=True)
            )
        if after is not None:
            created, search_id = after
            query = query.where(
                sa.tuple_(searches.c.created_unix_s, searches.c.search_id)
                < sa.tuple_(sa.literal(float(created)), sa.literal(str(search_id)))
            )
        order = (searches.c.created_unix_s.desc(), searches.c.search_id.desc())
        with self._reading() as connection:
            query = query.where(readable(connection, searches, readable_by))
            rows = connection.execute(query.order_by(*order).limit(_page_size(limit) + 1))
            found = [record_of(SearchRecord, row) for row in rows.mappings()]
        items = found[:limit]
        more = len(found) > limit
        return Page(
            items=items,
            next=(items[-1].created_unix_s, items[-1].search_id) if more else None,
        )

    def count_searches(self, readable_by: UserRecord | None = None) -> dict[str, int]:
        """Return the number of searches by state, of those that a user may read."""
        query = (
            sa.select(searches.c.state, sa.func.count())
            .where(searches.c.state != "deleted")
            .group_by(searches.c.state)
        )
        with self._reading() as connection:
            query = query.where(readable(connection, searches, readable_by))
            return {state: count for state, count in connection.execute(query)}

    def count_trials(self, search_ids: Sequence[str]) -> dict[str, dict[str, int]]:
        """Return the number of trials by state, for a page of searches."""
        query = (
            sa.select(trials.c.search_id, trials.c.state, sa.func.count())
            .where(trials.c.search_id.in_(list(search_ids)))
            .group_by(trials.c.search_id, trials.c.state)
        )
        counts: dict[str, dict[str, int]] = {search_id: {} for search_id in search_ids}
        with self._reading() as connection:
            for search_id, state, count in connection.execute(query):
                counts[search_id][state] = count
        return counts

    def kwh_of(self, search_ids: Sequence[str]) -> dict[str, float]:
        """Return what each search had used when its last finished round ended, in kWh."""
        query = sa.select(rounds.c.search_id, rounds.c.outcome).where(
            rounds.c.search_id.in_(list(search_ids))
        )
        used: dict[str, float] = {}
        with self._reading() as connection:
            for search_id, outcome in connection.execute(query):
                kwh = (outcome or {}).get("own_kwh_at_end")
                if kwh is not None:
                    used[search_id] = max(used.get(search_id, 0.0), float(kwh))
        return used

    def total_kwh(self) -> float:
        """Return the energy of all searches until their last finished round, in kWh."""
        with self._reading() as connection:
            kwh = number_of(connection, rounds.c.outcome, "own_kwh_at_end")
            latest = (
                sa.select(sa.func.max(kwh).label("kwh")).group_by(rounds.c.search_id).subquery()
            )
            return float(connection.execute(sa.select(sa.func.sum(latest.c.kwh))).scalar() or 0.0)

    def best_value(self, search_id: str, metric: str, *, maximize: bool = False) -> float | None:
        """Return the best finite value of a metric among finished trials of the longest length."""
        with self._reading() as connection:
            value = number_of(connection, trials.c.metrics, metric)
            done = (trials.c.search_id == search_id, trials.c.state == "complete")
            longest = sa.select(sa.func.max(trials.c.horizon_epochs)).where(
                *done, trials.c.role == "search"
            )
            pick = sa.func.max(value) if maximize else sa.func.min(value)
            found: float | None = connection.execute(
                sa.select(pick).where(*done, trials.c.horizon_epochs == longest.scalar_subquery())
            ).scalar()
        return found

    def page_trials(
        self,
        search_id: str,
        *,
        conditions: Sequence[Condition] = (),
        sort: str = "trial_id",
        descending: bool = False,
        limit: int = 100,
        after: tuple[Any, ...] | None = None,
    ) -> Page[TrialRecord]:
        """Return a search's trials, filtered and sorted by the database.

        Args:
            search_id: which search.
            conditions: all must hold.
            sort: a column (`trial_id`, `state`, ...), `metrics.NAME` or `params.PATH`; trials
                without a value come last.
            descending: largest first.
            limit: rows of a page, at most 500.
            after: `next` of the page before.

        Raises:
            LedgerError: for an unknown search.
            ConfigError: for an unknown field or a condition that cannot be.

        """
        columns = [column for column in trials.columns if column is not trials.c.config]
        config = sa.cast(trials.c.config, sa.Text).label("config_text")
        with self._reading() as connection:
            self._require_search(connection, search_id)
            key = _sort_value(connection, sort)
            query = sa.select(*columns, config, key.label("sort_key")).where(
                trials.c.search_id == search_id,
                *(_condition(connection, condition) for condition in conditions),
            )
            if after is not None:
                query = query.where(_follows(key, after, descending))
            order = (key.is_(None), key.desc() if descending else key, trials.c.trial_id)
            rows = list(
                connection.execute(query.order_by(*order).limit(_page_size(limit) + 1)).mappings()
            )
        items = [
            record_of(TrialRecord, row, config=StoredMapping(row["config_text"]))
            for row in rows[:limit]
        ]
        more = len(rows) > limit
        last = rows[limit - 1] if more else None
        return Page(items=items, next=(last["sort_key"], last["trial_id"]) if last else None)

    def matching_trials(self, search_id: str, conditions: Sequence[Condition]) -> list[int]:
        """Return the ids of all trials that meet the conditions, ascending."""
        with self._reading() as connection:
            self._require_search(connection, search_id)
            query = sa.select(trials.c.trial_id).where(
                trials.c.search_id == search_id,
                *(_condition(connection, condition) for condition in conditions),
            )
            return list(connection.execute(query.order_by(trials.c.trial_id)).scalars())

    def trial_values(
        self, search_id: str, conditions: Sequence[Condition], metric: str
    ) -> list[tuple[int, float | None]]:
        """Return (trial_id, final value of a metric) of the trials that meet the conditions."""
        with self._reading() as connection:
            self._require_search(connection, search_id)
            value = number_of(connection, trials.c.metrics, metric)
            query = sa.select(trials.c.trial_id, value).where(
                trials.c.search_id == search_id,
                *(_condition(connection, condition) for condition in conditions),
            )
            rows = connection.execute(query.order_by(trials.c.trial_id))
            return [(trial_id, found) for trial_id, found in rows]

    def curve_points(
        self, search_id: str, trial_ids: Sequence[int], metric: str, *, max_points: int = 200
    ) -> dict[int, list[tuple[int, float]]]:
        """Return (epoch, value) of some trials, thinned to about `max_points` epochs each.

        Every trial keeps its last epoch.

        Raises:
            ConfigError: for a metric that curves do not have.

        """
        if metric not in COMMON_METRICS:
            raise ConfigError(
                f"curves hold {', '.join(COMMON_METRICS)}, but `{metric}` was asked for"
                + nearest(metric, COMMON_METRICS)
            )
        value = epochs.c[metric]
        own = (epochs.c.search_id == search_id, epochs.c.trial_id.in_(list(trial_ids)))
        curves: dict[int, list[tuple[int, float]]] = {}
        with self._reading() as connection:
            self._require_search(connection, search_id)
            longest = connection.execute(
                sa.select(sa.func.max(epochs.c.epoch)).where(*own)
            ).scalar()
            stride = max(1, -(-(longest or 1) // max_points))
            last = (
                sa.select(epochs.c.trial_id, sa.func.max(epochs.c.epoch).label("epoch"))
                .where(*own)
                .group_by(epochs.c.trial_id)
                .subquery()
            )
            query = (
                sa.select(epochs.c.trial_id, epochs.c.epoch, value)
                .join(last, last.c.trial_id == epochs.c.trial_id)
                .where(*own, (epochs.c.epoch % stride == 0) | (epochs.c.epoch == last.c.epoch))
                .order_by(epochs.c.trial_id, epochs.c.epoch)
            )
            for trial_id, epoch, found in connection.execute(query):
                if found is not None:
                    curves.setdefault(trial_id, []).append((epoch, found))
        return curves


def _page_size(limit: int) -> int:
    if not 1 <= limit <= MAX_PAGE:
        raise ConfigError(f"`limit` must be from 1 to {MAX_PAGE}, but got {limit}")
    return limit


def _sort_value(connection: Connection, field: str) -> sa.ColumnElement[Any]:
    place, _, name = field.partition(".")
    if place == "metrics" and name:
        return number_of(connection, trials.c.metrics, name)
    if place == "params" and name:
        return number_of(connection, trials.c.params, name)
    if field in TRIAL_COLUMNS:
        return trials.c[field]
    raise ConfigError(
        f"trials are sorted and filtered by a column, `metrics.NAME` or `params.PATH`, but got "
        f"`{field}`{nearest(field, TRIAL_COLUMNS)}"
    )


def _condition(connection: Connection, condition: Condition) -> sa.ColumnElement[bool]:
    """Turn a condition into SQL; numbers are compared as numbers, all else as text."""
    value: Any = condition.value
    column = _sort_value(connection, condition.field)
    as_number = _number(value)
    if condition.field in _TEXT_COLUMNS:
        value = str(value)
    elif as_number is not None:
        value = as_number
    elif condition.field.startswith("params."):
        column = text_of(connection, trials.c.params, condition.field.partition(".")[2])
    else:
        raise ConfigError(
            f"`{condition.field}` is a number, but it is compared with {value!r}; give a number"
        )
    if isinstance(value, str) and condition.operator not in ("=", "!="):
        raise ConfigError(
            f"`{condition.field}` is text, so it takes = and !=, but got {condition.operator}"
        )
    compared: Mapping[str, sa.ColumnElement[bool]] = {
        "=": column == value,
        "!=": column != value,
        "<": column < value,
        "<=": column <= value,
        ">": column > value,
        ">=": column >= value,
    }
    return compared[condition.operator]


def _number(value: str | float) -> float | None:
    try:
        return float(value)
    except ValueError:
        return None


def _follows(
    key: sa.ColumnElement[Any], after: tuple[Any, ...], descending: bool
) -> sa.ColumnElement[bool]:
    """Say which rows come after a page's last, in the order value, then trial id, NULL last."""
    value, trial_id = after
    later = trials.c.trial_id > int(trial_id)
    if value is None:
        return key.is_(None) & later
    beyond = key < value if descending else key > value
    return sa.or_(beyond, sa.and_(key == value, later), key.is_(None))
