"""Publishing a statement: frozen with its factors and a hash; a correction is the next edition."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.ledger.book_records import Edition, digest
from service.recipe.record import plain
from trainers.errors import ConfigError

COMPARED = ("kwh", "kwh_with_pue", "kgco2e_location", "kgco2e_market", "kwh_gap")


def next_edition(
    content: Mapping[str, Any],
    before: Edition | None,
    *,
    name: str,
    reason: str,
    published_by: str,
    unix_s: float,
) -> Edition:
    """Return the statement as it would be published now.

    Raises:
        ConfigError: nothing changed since the last edition, the span of time or the grouping did,
            or a correction gives no reason.

    """
    content = plain(dict(content))
    if before is None:
        difference: dict[str, Any] = {}
    else:
        _check_correction(content, before, reason)
        difference = _difference(before.content, content)
    return Edition(
        name=name,
        edition=1 if before is None else before.edition + 1,
        content=content,
        sha256=digest(content),
        difference=difference,
        reason=reason,
        published_unix_s=unix_s,
        published_by=published_by,
    )


def _check_correction(content: Mapping[str, Any], before: Edition, reason: str) -> None:
    if digest(content) == before.sha256:
        raise ConfigError(
            f"statement `{before.name}` is published as edition {before.edition} with just these "
            "numbers; there is nothing to correct"
        )
    for key in ("from", "to", "by"):
        if content[key] != before.content[key]:
            raise ConfigError(
                f"edition {before.edition + 1} of `{before.name}` must have the same `{key}` as "
                f"edition {before.edition} ({before.content[key]}), but got {content[key]}; "
                "publish it under another name"
            )
    if not reason.strip():
        raise ConfigError(
            f"`{before.name}` is published; a correction needs a reason: --reason 'new factor'"
        )


def _difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Return what changed: in the total, and in each group of rows."""
    by = list(new["by"])
    before = {tuple(row[key] for key in by): row for row in old["rows"]}
    after = {tuple(row[key] for key in by): row for row in new["rows"]}
    rows = [
        {**dict(zip(by, key, strict=True)), **_changes(before.get(key, {}), after.get(key, {}))}
        for key in sorted({*before, *after})
        if _changes(before.get(key, {}), after.get(key, {}))
    ]
    return {"total": _changes(old["total"], new["total"]), "rows": rows}


def _changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, float]:
    changes = {name: (new.get(name) or 0.0) - (old.get(name) or 0.0) for name in COMPARED}
    return {name: change for name, change in changes.items() if change != 0}
