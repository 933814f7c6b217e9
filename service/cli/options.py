"""Options that several commands share, and how they print."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import RenderableType

    from service.ledger import Ledger

LedgerOption = Annotated[
    str,
    typer.Option(
        "--ledger",
        envvar="ISOFLOP_LEDGER",
        help="Where everything is recorded: a file, sqlite:///FILE or postgresql://...",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print machine-readable JSON.")]
OutOption = Annotated[
    Path | None,
    typer.Option("--out", help="Folder for report.html and tables. Default: runs/ID"),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        "--workers", min=1, help="Trials are spread over so many processes. Default: all cores"
    ),
]
AddressOption = Annotated[
    str | None,
    typer.Option("--address", help="Join this Ray cluster (`auto` or HOST:PORT)."),
]
DEFAULT_LEDGER = "isoflop.db"


def open_ledger(url: str) -> Ledger:
    """Open a ledger that must already exist."""
    from service.ledger import Ledger

    return Ledger.open(url, create=False)


def emit(as_json: bool, data: Any, renderable: RenderableType | None = None) -> None:
    """Print `data` as JSON, or its picture for people."""
    if as_json:
        typer.echo(json.dumps(data, indent=2, default=str))
        return
    shown = renderable if renderable is not None else data
    if isinstance(shown, str):  # as it is: a wrapped path or command cannot be copied
        typer.echo(shown)
        return
    from rich.console import Console

    Console().print(shown)
