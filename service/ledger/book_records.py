"""What the energy statement keeps in the ledger: dated factors, and published editions."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any, Literal, get_args

from trainers.errors import ConfigError, nearest

Basis = Literal["location", "market", "pue"]
BASES: tuple[Basis, ...] = get_args(Basis)
UNITS = {"location": "gCO2e/kWh", "market": "gCO2e/kWh", "pue": "1"}


@dataclass(frozen=True, kw_only=True)
class Factor:
    """One factor, valid for a site's hosts from a moment on, until another."""

    site: str
    hosts: str = "*"
    """Pattern of host names that stand there."""
    basis: Basis
    """location: the grid's average; market: what was bought by contract; pue: facility / IT."""
    value: float
    valid_from_unix_s: float
    valid_to_unix_s: float | None = None
    """None: until further notice."""
    source: str
    evidence: str = ""
    """Where the source can be looked up: a document's name, an address, a contract's number."""

    def __post_init__(self) -> None:
        if self.basis not in BASES:
            raise ConfigError(f"`basis` is one of {', '.join(BASES)}, but got {self.basis!r}"
                              f"{nearest(self.basis, BASES)}")  # fmt: skip
        least = 1.0 if self.basis == "pue" else 0.0
        if not (math.isfinite(self.value) and self.value >= least):
            raise ConfigError(
                f"a factor on the basis `{self.basis}` must be a number >= {least:g} "
                f"({UNITS[self.basis]}), but got {self.value!r}"
            )
        if not self.source.strip():
            raise ConfigError("a factor needs its `source`, so that others can check it")
        until = self.valid_to_unix_s
        if until is not None and until <= self.valid_from_unix_s:
            raise ConfigError("a factor's `to` must be later than its `from`; swap them")

    def covers(self, host: str, basis: str, unix_s: float) -> bool:
        """Say whether it is the factor for a host at a moment."""
        until = math.inf if self.valid_to_unix_s is None else self.valid_to_unix_s
        return (
            self.basis == basis
            and self.valid_from_unix_s <= unix_s < until
            and fnmatchcase(host, self.hosts)
        )

    def overlaps(self, other: Factor) -> bool:
        """Say whether both claim the same site, basis and time."""
        ends = [math.inf if f.valid_to_unix_s is None else f.valid_to_unix_s for f in (self, other)]
        starts = [self.valid_from_unix_s, other.valid_from_unix_s]
        same = (self.site, self.basis) == (other.site, other.basis)
        return same and max(starts) < min(ends)

    def to_mapping(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Edition:
    """A statement as it was published."""

    name: str
    edition: int
    content: Mapping[str, Any]
    sha256: str
    """Over the content as canonical JSON."""
    difference: Mapping[str, Any]
    """What a correction changed, against the edition before; empty for the first."""
    reason: str
    published_unix_s: float
    published_by: str

    def verify(self) -> bool:
        """Say whether the content is still what was published."""
        return digest(self.content) == self.sha256

    def to_mapping(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "name": self.name,
            "edition": self.edition,
            "sha256": self.sha256,
            "reason": self.reason,
            "published_unix_s": self.published_unix_s,
            "published_by": self.published_by,
            "difference": dict(self.difference),
            **self.content,
        }


def digest(content: Mapping[str, Any]) -> str:
    """Return the SHA-256 of plain values, whatever the order of their keys."""
    text = json.dumps(dict(content), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def check_new(known: Sequence[Factor], factor: Factor) -> None:
    """Refuse a factor that would make two values true at once.

    Raises:
        ConfigError: naming the factor that is in the way.

    """
    for other in known:
        if factor.overlaps(other):
            raise ConfigError(
                f"site `{factor.site}` has one {factor.basis} factor at a time, but "
                f"{other.value:g} is valid from {day(other.valid_from_unix_s)} to "
                f"{day(other.valid_to_unix_s)}; "
                "give this one another time, or end that one first"
            )


def day(unix_s: float | None) -> str:
    """Write a moment as its day (UTC)."""
    if unix_s is None:
        return "further notice"
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%d")


def month(unix_s: float) -> str:
    """Write a moment as its month (UTC)."""
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m")


def unix_s_of(text: str) -> float:
    """Read a day or month, `2026-11-24` or `2026-11`, as its first moment (UTC).

    Raises:
        ConfigError: if it is neither.

    """
    for pattern in ("%Y-%m-%d", "%Y-%m"):
        try:
            return datetime.strptime(text, pattern).replace(tzinfo=UTC).timestamp()
        except ValueError:
            continue
    raise ConfigError(f"a day is written 2026-11-24 and a month 2026-11, but got {text!r}")
