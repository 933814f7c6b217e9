"""A statement as text for other programs, and the page that says how it is made."""

from __future__ import annotations

import json
from importlib.resources import files

from service.energy.books.statement import Statement
from service.ledger.book_records import day
from service.ledger.export import harmless
from service.recipe.record import plain
from trainers.errors import ConfigError, nearest

FORMATS = ("json", "csv", "boamps")
MEDIA_TYPES = {"json": "application/json", "csv": "text/csv", "boamps": "application/json"}
SUFFIXES = {"json": "json", "csv": "csv", "boamps": "boamps.json"}


def written(statement: Statement, format: str) -> str:
    """Return the statement as `json`, `csv` (one line per row) or `boamps` (a BoAmps report).

    Raises:
        ConfigError: for another format.

    """
    if format == "csv":
        import pandas as pd

        columns = [*statement.by, *statement.total.to_mapping()]
        rows = [row.to_mapping() for row in statement.rows]
        return harmless(pd.DataFrame(rows, columns=columns)).to_csv(index=False)
    if format == "json":
        return _json(statement.to_mapping())
    if format == "boamps":
        from service.energy.books.boamps import boamps_report

        return _json(boamps_report(statement, name=f"isoflop-{day(statement.from_unix_s)}"))
    raise ConfigError(
        f"a statement is written as {', '.join(FORMATS)}, but got {format!r}"
        f"{nearest(format, FORMATS)}"
    )


def method_text() -> str:
    """Return the page that says how statements are made."""
    return (files("service.energy.books") / "method.md").read_text(encoding="utf-8")


def _json(values: object) -> str:
    return json.dumps(plain(values), indent=2, allow_nan=False) + "\n"
