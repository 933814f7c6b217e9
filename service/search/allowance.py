"""Sharing a cluster with other searches: what a running search asks about once a second."""

from __future__ import annotations

from typing import Protocol


class Allowance(Protocol):
    """Who shares a cluster out among searches; asked about once a second."""

    def workers(self, num_busy: int) -> int:
        """Return how many workers the search may hold now; `num_busy` is how many it uses."""
        ...

    def reason_to_stop(self) -> str:
        """Return why this process must leave the search alone, or an empty string."""
        ...
