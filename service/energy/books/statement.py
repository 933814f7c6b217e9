"""The statement: lines summed into rows, factors applied, totals equal to the sum of rows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from service.energy.books.factors import FactorBook
from service.energy.books.lines import FAILED_STATES, Attempt, Line, attempts_of, lines_of
from service.ledger import Ledger, SearchRecord
from service.ledger.book_records import day, month
from trainers.errors import ConfigError, nearest

GROUPINGS = ("project", "owner", "month", "site", "search", "kind")
METHOD_VERSION = 1


@dataclass
class Row:
    """One group of a statement; energies in kWh, emissions in kgCO2e."""

    group: dict[str, str]
    searches: int = 0
    trials: int = 0
    complete: int = 0
    pruned: int = 0
    failed: int = 0
    """failed, diverged, infeasible or stopped before their end."""
    kwh: float = 0.0
    kwh_pruned: float = 0.0
    kwh_failed: float = 0.0
    kwh_wasted: float = 0.0
    kwh_measured: float = 0.0
    kwh_with_pue: float = 0.0
    kgco2e_location: float | None = None
    kgco2e_market: float | None = None
    kwh_without_location: float = 0.0
    """Facility energy that no location-based factor covers: not in kgco2e_location."""
    kwh_without_market: float = 0.0
    kwh_gap: float = 0.0
    """Estimated for time that no meter saw; stated, and counted nowhere else."""
    gap_hours: float = 0.0
    sources: list[str] = field(default_factory=list)
    _seen: set[str] = field(default_factory=set, repr=False)

    @property
    def pue(self) -> float | None:
        """Facility energy per IT energy, as applied."""
        return self.kwh_with_pue / self.kwh if self.kwh > 0 else None

    @property
    def measured_share(self) -> float | None:
        """Share of the energy that a sensor gave; the rest is a model's estimate."""
        return self.kwh_measured / self.kwh if self.kwh > 0 else None

    def to_mapping(self) -> dict[str, Any]:
        """Return plain values, the group's keys first."""
        values = asdict(self)
        group, sources = values.pop("group"), values.pop("sources")
        values.pop("_seen")
        return {
            **group,
            **values,
            "pue": self.pue,
            "measured_share": self.measured_share,
            "source": "; ".join(sources),
        }


@dataclass(frozen=True, kw_only=True)
class Statement:
    """What was used between two moments."""

    from_unix_s: float
    to_unix_s: float
    by: tuple[str, ...]
    rows: tuple[Row, ...]
    total: Row
    factors: tuple[dict[str, Any], ...]
    site: str
    """What was said about hosts that no dated factor names."""

    def to_mapping(self) -> dict[str, Any]:
        """Return plain values: what is published, hashed and compared."""
        return {
            "method_version": METHOD_VERSION,
            "from": day(self.from_unix_s),
            "to": day(self.to_unix_s),
            "by": list(self.by),
            "rows": [row.to_mapping() for row in self.rows],
            "total": self.total.to_mapping(),
            "factors": list(self.factors),
            "otherwise": self.site,
        }


def make_statement(
    ledger: Ledger,
    book: FactorBook,
    *,
    from_unix_s: float,
    to_unix_s: float,
    by: Sequence[str] = ("project",),
    searches: Iterable[SearchRecord] | None = None,
) -> Statement:
    """Sum what searches used in [from, to) by groups.

    Args:
        ledger: the open ledger.
        book: factors.
        from_unix_s: first moment.
        to_unix_s: first moment after.
        by: of `GROUPINGS`, in the order of the columns.
        searches: only these; None: all that anybody worked on in that time.

    Raises:
        ConfigError: for an unknown grouping, or an empty span of time.

    """
    _check(from_unix_s, to_unix_s, by)
    wanted = ledger.searches_between(from_unix_s, to_unix_s) if searches is None else searches
    rows: dict[tuple[str, ...], Row] = {}

    def row_of(line: Line | Attempt) -> Row:
        keys = tuple(_key(name, line, book) for name in by)
        group = dict(zip(by, keys, strict=True))
        return rows.setdefault(keys, Row(group=group))

    for search in wanted:
        for line in lines_of(ledger, search):
            if from_unix_s <= line.unix_s < to_unix_s:
                _add(row_of(line), line, book)
        for attempt in attempts_of(ledger, search):
            if from_unix_s <= attempt.unix_s < to_unix_s:
                _count(row_of(attempt), attempt)
    ordered = tuple(rows[key] for key in sorted(rows))
    return Statement(
        from_unix_s=from_unix_s,
        to_unix_s=to_unix_s,
        by=tuple(by),
        rows=ordered,
        total=_sum(ordered),
        factors=tuple(factor.to_mapping() for factor in book.factors),
        site=book.environment.describe(),
    )


def _check(from_unix_s: float, to_unix_s: float, by: Sequence[str]) -> None:
    for name in by:
        if name not in GROUPINGS:
            raise ConfigError(
                f"a statement is grouped by {', '.join(GROUPINGS)}, but got `{name}`"
                f"{nearest(name, GROUPINGS)}"
            )
    if not by or len(set(by)) < len(by):
        raise ConfigError("`--by` needs at least one grouping, each once; e.g. project,month")
    if to_unix_s <= from_unix_s:
        raise ConfigError(
            f"`--to` must be later than `--from`, but got {day(from_unix_s)} to {day(to_unix_s)}"
        )


def _key(name: str, line: Line | Attempt, book: FactorBook) -> str:
    if name == "month":
        return month(line.unix_s)
    if name == "site":
        return book.site_of(line.host)
    if name == "search":
        return line.search.search_id
    return str(getattr(line.search, name) or "(none)")


def _add(row: Row, line: Line, book: FactorBook) -> None:
    if line.search.search_id not in row._seen:
        row._seen.add(line.search.search_id)
        row.searches += 1
    pue, pue_source = book.value(line.host, "pue", line.unix_s)
    facility = line.kwh * (pue or 1.0)
    row.kwh += line.kwh
    row.kwh_pruned += line.pruned_kwh
    row.kwh_failed += line.failed_kwh
    row.kwh_wasted += line.wasted_kwh
    row.kwh_measured += line.measured_kwh
    row.kwh_with_pue += facility
    row.kwh_gap += line.gap_kwh
    row.gap_hours += line.gap_s / 3600
    _name(row, pue_source)
    location, source = book.value(line.host, "location", line.unix_s)
    _name(row, source)
    if location is None:
        row.kwh_without_location += facility
    else:
        row.kgco2e_location = (row.kgco2e_location or 0.0) + facility * location / 1000
    market, source = book.value(line.host, "market", line.unix_s)
    _name(row, source)
    if market is None:
        row.kwh_without_market += facility
    else:
        row.kgco2e_market = (row.kgco2e_market or 0.0) + facility * market / 1000


def _name(row: Row, source: str) -> None:
    if source and source not in row.sources:
        row.sources.append(source)


def _count(row: Row, attempt: Attempt) -> None:
    row.trials += 1
    row.complete += attempt.state == "complete"
    row.pruned += attempt.state == "pruned"
    row.failed += attempt.state in FAILED_STATES


def _sum(rows: Sequence[Row]) -> Row:
    """Return the totals: each the sum of its column; of searches, how many there are."""
    total = Row(group={})
    for name, value in vars(total).items():
        if name in ("group", "sources", "_seen"):
            continue
        values = [getattr(row, name) for row in rows if getattr(row, name) is not None]
        if isinstance(value, int):
            setattr(total, name, sum(values))
        elif values:
            setattr(total, name, math.fsum(values))
    total.searches = len(set().union(*(row._seen for row in rows)))
    total.sources = list(dict.fromkeys(source for row in rows for source in row.sources))
    return total
