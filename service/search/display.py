"""What a running search tells whoever watches it; the terminal's version is in `service.cli`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from trainers.trial import EpochRow

if TYPE_CHECKING:
    from service.search.context import SearchContext


class Display(Protocol):
    """Somebody who watches a search."""

    def note(self, text: str) -> None:
        """Show one line that matters: a verdict, a reason, a warning."""

    def epochs(self, rows: Sequence[EpochRow]) -> None:
        """Take note of finished epochs."""

    def tick(self, context: SearchContext) -> None:
        """Refresh, if it is time to."""


class Silent:
    """Shows nothing: for the Python API and for tests."""

    def note(self, text: str) -> None:
        """Show nothing."""

    def epochs(self, rows: Sequence[EpochRow]) -> None:
        """Show nothing."""

    def tick(self, context: SearchContext) -> None:
        """Show nothing."""
