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


def from_text(text: str | None, length: int) -> tuple[Any, ...] | None:
    """Read a position of so many values.

    Raises:
        ConfigError: if it is none of ours.

    """
    if text is None:
        return None
    try:
        padded = text + "=" * (-len(text) % 4)
        values = json.loads(base64.urlsafe_b64decode(padded.encode("ascii", "strict")))
    except ValueError:
        values = None
    plain_values = (str, int, float, type(None))
    if (
        not isinstance(values, list)
        or len(values) != length
        or not all(isinstance(value, plain_values) for value in values)
    ):
        raise ConfigError(
            f"`after` must be the `next` of the page before, but got {text[:40]!r}; leave it out "
            "for the first page"
        )
    return tuple(values)
