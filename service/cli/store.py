"""`isoflop data`: tables registered once and named in specs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from service.cli.options import JsonOption, emit


def add(
    name: Annotated[str, typer.Argument(help="The name that specs will use.")],
    path: Annotated[Path, typer.Argument(help="A .npz, .csv or .parquet file.")],
    target: Annotated[str, typer.Option(help="The column (or npz array) to predict.")],
    task: Annotated[
        str | None,
        typer.Option(help="classification or regression. Default: decided from the target"),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check, describe, hash and copy a table to where workers read it."""
    from trainers.data import register

    meta = register(name, path, target, task=task)
    summary = (
        f"registered `{name}`: {meta['rows']} rows, {meta['task']}, target `{target}`, "
        f"sha256 {meta['sha256'][:12]}\nuse it with   data: {{name: {name}}}"
    )
    emit(as_json, meta, summary)


def list_(as_json: JsonOption = False) -> None:
    """List registered tables and the data sets that are built in."""
    from rich.table import Table

    from trainers.data import BUILT_IN, registered

    rows = registered()
    table = Table("name", "rows", "task", "target", "sha256")
    for name, about in BUILT_IN.items():
        table.add_row(name, "", about, "", "built in")
    for meta in rows:
        table.add_row(
            meta["name"], str(meta["rows"]), meta["task"], meta["target"], meta["sha256"][:12]
        )
    emit(as_json, {"registered": rows, "built_in": dict(BUILT_IN)}, table)
