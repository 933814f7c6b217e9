"""What a search shows while it runs: a live panel in a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from service.search.display import Display, Silent
from trainers.trial import EpochRow

if TYPE_CHECKING:
    from service.search.context import SearchContext

REFRESH_S = 0.5
PLAIN_LINE_EVERY_S = 10.0


@contextmanager
def display_for(as_json: bool) -> Iterator[Display]:
    """Return the display that fits the output: none for JSON, live for a terminal, else lines."""
    if as_json:
        yield Silent()
    elif sys.stdout.isatty():
        console = Console()
        with Live(console=console, refresh_per_second=4, transient=True) as live:
            yield Panel(live)
    else:
        yield PlainLines()


class Progress:
    """Counts that both displays share."""

    def __init__(self) -> None:
        self.num_epochs = 0
        self._looked_s = -1e9

    def epochs(self, rows: Sequence[EpochRow]) -> None:
        """Count finished epochs of trials."""
        self.num_epochs += len(rows)

    def due(self, every_s: float) -> bool:
        """Say whether it is time to show something again."""
        now = time.monotonic()
        if now - self._looked_s < every_s:
            return False
        self._looked_s = now
        return True


def status(context: SearchContext) -> list[tuple[str, str]]:
    """Return what is worth knowing now, as (label, value)."""
    objective = context.spec.objective_list[0]
    rounds = context.ledger.rounds(context.search_id)
    return [
        ("round", _round_text(rounds[-1].round, rounds[-1].kind) if rounds else "starting"),
        ("trials", _trials_text(context)),
        (f"best {objective.metric}", _best_text(context)),
        ("energy", f"{context.energy.own_kwh() * 1000:.3g} Wh"),
        ("time", _time_text(context)),
    ]


def _trials_text(context: SearchContext) -> str:
    counts = {str(row.state): row.num_trials for row in context.ledger.progress(context.search_id)}
    shown = {"complete": "done", "running": "running", "pruned": "pruned", "diverged": "diverged",
             "failed": "failed"}  # fmt: skip
    always = ("complete", "running", "pruned")
    return ", ".join(
        f"{counts.get(state, 0)} {word}"
        for state, word in shown.items()
        if state in always or counts.get(state)
    )


def _best_text(context: SearchContext) -> str:
    best = context.best_so_far()
    return "none yet" if best is None else f"{best[0]:.4g} (trial {best[1]})"


def _round_text(number: int, kind: str) -> str:
    return {"recipe": "recipe checks", "baseline": "baseline", "finalists": "finalists"}.get(
        kind, f"{number} ({'coarse' if number == 0 else 'refined'})"
    )


def _time_text(context: SearchContext) -> str:
    """Return the time so far and, where it can be told, the time left."""
    elapsed = context.budget.elapsed_s
    done, total = context.epochs_done_and_planned()
    if not done or done >= total:
        return f"{elapsed:.0f} s"
    left = elapsed / done * (total - done)
    return f"{elapsed:.0f} s, about {left:.0f} s left"


class Panel(Progress):
    """A table that is redrawn in place, with the notes scrolling above it."""

    def __init__(self, live: Live) -> None:
        super().__init__()
        self._live = live

    def note(self, text: str) -> None:
        """Print a line above the table."""
        self._live.console.print(Text(text))

    def tick(self, context: SearchContext) -> None:
        """Redraw the table."""
        if self.due(REFRESH_S):
            self._live.update(self._table(context))

    def _table(self, context: SearchContext) -> RenderableType:
        table = Table.grid(padding=(0, 2))
        for label, value in status(context):
            table.add_row(Text(label, style="dim"), value)
        return Group(Text(context.search_id, style="bold"), table)


class PlainLines(Progress):
    """One line now and then, for logs."""

    def note(self, text: str) -> None:
        """Print a line. Where its reader has gone (`| head`), the search goes on unseen."""
        try:
            print(text, flush=True)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    def tick(self, context: SearchContext) -> None:
        """Print the status every ten seconds."""
        if self.due(PLAIN_LINE_EVERY_S):
            self.note("; ".join(f"{label} {value}" for label, value in status(context)))
