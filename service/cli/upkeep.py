"""`isoflop delete` and `isoflop gc`: making room."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from service.cli.options import DEFAULT_LEDGER, JsonOption, LedgerOption, emit, open_ledger


def delete(
    search_id: Annotated[str, typer.Argument(help="A search that has ended.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    ledger: LedgerOption = DEFAULT_LEDGER,
    as_json: JsonOption = False,
) -> None:
    """Delete a search with its files. What it used stays booked in energy statements."""
    from service.search.removal import delete_search

    with open_ledger(ledger) as opened:
        opened.search(search_id)
        if not yes:
            typer.confirm(
                f"delete {search_id}: configurations, curves, results, report and weights?",
                abort=True,
            )
        removed = delete_search(opened, search_id)
    text = (
        f"{search_id} is deleted, {removed.num_bytes / 1e6:.3g} MB freed; its energy stays booked"
    )
    emit(as_json, {"search": search_id, "bytes": removed.num_bytes}, text)


def gc(
    days: Annotated[
        float | None, typer.Option(min=0, help="Of searches that ended so many days ago.")
    ] = None,
    max_gb: Annotated[
        float | None, typer.Option(min=0, help="The oldest first, until so much is left.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="A service's config, for its `storage.keep`.")
    ] = None,
    ledger: LedgerOption = DEFAULT_LEDGER,
    as_json: JsonOption = False,
) -> None:
    """Remove checkpoints of ended searches; reports, tables and winners' weights stay.

    Example: isoflop gc --days 30 --max-gb 100
    """
    from service.search.removal import collect_garbage
    from trainers.errors import ConfigError

    if config is not None:
        from service.jobs.settings import ServiceSettings

        settings = ServiceSettings.from_yaml(config)
        ledger = settings.ledger.resolved()
        keep = settings.storage.keep
        days, max_gb = days or keep.days, max_gb or keep.max_gb
    if days is None and max_gb is None:
        raise ConfigError(
            "`gc` needs a rule, but got none; e.g. --days 30, --max-gb 100, or --config with "
            "`storage.keep`"
        )
    with open_ledger(ledger) as opened:
        removed = collect_garbage(opened, days=days, max_gb=max_gb)
    text = (
        f"{removed.num_files} checkpoints of {len(removed.search_ids)} searches removed, "
        f"{removed.num_bytes / 1e9:.3g} GB freed"
    )
    answer = {"searches": removed.search_ids, "files": removed.num_files,
              "bytes": removed.num_bytes}  # fmt: skip
    emit(as_json, answer, text)
