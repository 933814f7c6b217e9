"""Positions in a list as text that travels in an address; nothing but a position."""

from __future__ import annotations

import base64
import json
from typing import Any

from trainers.errors import ConfigError


def to_text(position: tuple[Any, ...] | None) -> str | None:
    """Write a position."""
    if position is None:
        return None
    return base64.urlsafe_b64encode(json.dumps(position).encode()).decode().rstrip("=")


def from_text(text: str | None, *kinds: tuple[type, ...]) -> tuple[Any, ...] | None:
    """Read a position.

    Args:
        text: what `to_text` wrote; None: the first page.
        kinds: what each of its values may be.

    Raises:
        ConfigError: if it is none of ours.

    """
    if text is None:
        return None
    try:
        padded = text + "=" * (-len(text) % 4)
        values = json.loads(base64.urlsafe_b64decode(padded.encode("ascii", "strict")))
    except (ValueError, RecursionError):
        values = None
    if (
        not isinstance(values, list)
        or len(values) != len(kinds)
        or not all(map(_fits, values, kinds))
    ):
        raise ConfigError(
            f"`after` must be the `next` of the page before, but got {text[:40]!r}; leave it out "
            "for the first page"
        )
    return tuple(values)


def _fits(value: Any, kinds: tuple[type, ...]) -> bool:
    """Say whether a database can compare the value: no text for a number, no number too large."""
    return isinstance(value, kinds) and (not isinstance(value, int) or abs(value) < 2**63)
