"""The energy statement's rows: dated factors, and editions of what was published."""

from __future__ import annotations

import time
from typing import Any

import sqlalchemy as sa

from service.ledger.book_records import Edition, Factor, check_new
from service.ledger.records import SearchRecord
from service.ledger.schema import searches, spans
from service.ledger.searches import SearchStore
from service.ledger.service_schema import factors, statements
from service.ledger.store import missing, record_of, row_of
from trainers.errors import ConfigError


class BookStore(SearchStore):
    """Factors and statements. Rows are only ever added; a factor can be given its end once."""

    def add_factor(self, factor: Factor, added_by: str = "") -> None:
        """Add a factor.

        Raises:
            ConfigError: another one of its site and basis is valid at the same time.

        """
        with self._writing() as connection:
            rows = connection.execute(sa.select(factors)).mappings()
            check_new([record_of(Factor, row) for row in rows], factor)
            row = row_of(factor, added_by=added_by, added_unix_s=time.time())
            connection.execute(sa.insert(factors), row)

    def end_factor(self, site: str, basis: str, unix_s: float) -> None:
        """End the factor that is valid until further notice.

        Raises:
            ConfigError: there is none, or it began later.

        """
        with self._writing() as connection:
            ended = connection.execute(
                sa.update(factors)
                .where(
                    factors.c.site == site,
                    factors.c.basis == basis,
                    factors.c.valid_to_unix_s.is_(None),
                    factors.c.valid_from_unix_s < unix_s,
                )
                .values(valid_to_unix_s=unix_s)
            )
            if not ended.rowcount:
                raise ConfigError(
                    f"site `{site}` has no {basis} factor that is valid until further notice and "
                    "began earlier; `isoflop factors list` shows what there is"
                )

    def factors(self) -> list[Factor]:
        """Return all factors, by site, basis and time."""
        order = (factors.c.site, factors.c.basis, factors.c.valid_from_unix_s)
        with self._reading() as connection:
            rows = connection.execute(sa.select(factors).order_by(*order)).mappings()
            return [record_of(Factor, row) for row in rows]

    def publish(self, edition: Edition) -> Edition:
        """Freeze an edition; its number must be the next.

        Raises:
            ConfigError: somebody else published that edition in the meantime.

        """
        with self._writing() as connection:
            number = connection.execute(
                sa.select(sa.func.count()).where(statements.c.name == edition.name)
            ).scalar_one()
            if edition.edition != number + 1:
                raise ConfigError(
                    f"edition {edition.edition} of `{edition.name}` was published in the meantime; "
                    "look at it, then publish again"
                )
            connection.execute(sa.insert(statements), row_of(edition))
        return edition

    def edition(self, name: str, number: int | None = None) -> Edition:
        """Return a published statement: its last edition, or the one of that number.

        Raises:
            MissingError: if there is none.

        """
        found = [e for e in self.editions(name) if number in (None, e.edition)]
        if not found:
            known = [f"{e.name} edition {e.edition}" for e in self.editions()]
            raise missing("statement", name if number is None else f"{name} {number}", known)
        return found[-1]

    def editions(self, name: str | None = None) -> list[Edition]:
        """Return what was published, by name and edition."""
        query = sa.select(statements).order_by(statements.c.name, statements.c.edition)
        if name is not None:
            query = query.where(statements.c.name == name)
        with self._reading() as connection:
            return [record_of(Edition, row) for row in connection.execute(query).mappings()]

    def searches_between(self, from_unix_s: float, to_unix_s: float) -> list[SearchRecord]:
        """Return the searches that anybody worked on in [from, to), oldest first."""
        ended: Any = spans.c.started_unix_s + (spans.c.ended_s - spans.c.started_s)
        query = (
            sa.select(spans.c.search_id)
            .join(searches, searches.c.search_id == spans.c.search_id)
            .where(spans.c.started_unix_s < to_unix_s, ended >= from_unix_s)
            .distinct()
        )
        with self._reading() as connection:
            ids = list(connection.execute(query).scalars())
        return sorted(
            (self.search(search_id) for search_id in ids),
            key=lambda search: (search.created_unix_s, search.search_id),
        )
