"""`isoflop serve`: the service for a team, or for one person on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from service.cli.options import AddressOption


def serve(
    config: Annotated[
        Path | None, typer.Option(help="A YAML file with `kind: service`; options override it.")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="0: any free port.")] = None,
    ledger: Annotated[
        str | None, typer.Option("--ledger", envvar="ISOFLOP_LEDGER", help="File or URL.")
    ] = None,
    address: AddressOption = None,
) -> None:
    """Serve the dashboard and the REST API, and run what people submit.

    Without --address a Ray head is started on this machine, reachable from here only. Without
    users (`isoflop users add`) the service answers this machine only.

    Example: isoflop serve --port 8700 --ledger isoflop.db
    """
    from service.jobs.settings import ServiceSettings
    from service.web.server import run

    settings = ServiceSettings() if config is None else ServiceSettings.from_yaml(config)
    run(_overridden(settings.model_dump(), host, port, ledger, address))


def _overridden(
    values: dict[str, Any],
    host: str | None,
    port: int | None,
    ledger: str | None,
    address: str | None,
) -> Any:
    from service.jobs.settings import ServiceSettings

    for name, value in (("host", host), ("port", port)):
        if value is not None:
            values["listen"][name] = value
    if ledger is not None:
        values["ledger"] = {"url": ledger}
    if address is not None:
        values["cluster"]["address"] = address
    return ServiceSettings.from_mapping(values)
