"""`isoflop gradcheck`, `tickets`, `landscape`, `compress`: look into a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from service.cli.failures import CHECK_FAILED
from service.cli.options import DEFAULT_LEDGER, JsonOption, LedgerOption, emit

SpecArgument = Annotated[Path, typer.Argument(help="The spec file (YAML).")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="Override a value: --set model.depth=3")
]


def gradcheck(
    spec: SpecArgument,
    overrides: SetOption = None,
    rows: Annotated[int, typer.Option(min=2, help="Training rows of the batch.")] = 16,
    per_tensor: Annotated[int, typer.Option(min=1, help="Weights checked per tensor.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """Check the trainer's gradients of a spec's model by finite differences in float64.

    The spec's baseline is checked, or else the centre of its space. Exit code 1: they disagree.
    """
    from dataclasses import asdict

    from service.search.examine import central_config
    from service.search.prepare import prepare
    from service.search.spec import SearchSpec
    from trainers.data import load
    from trainers.gradient_check import check_gradients

    parsed = prepare(SearchSpec.from_yaml(spec, overrides=overrides or []), None)
    config = central_config(parsed)
    checks = check_gradients(config, load(config.data), num_rows=rows, per_tensor=per_tensor)
    if as_json:
        emit(True, [{"passed": c.passed, "verdict": c.verdict, **asdict(c)} for c in checks])
    else:
        for check in checks:
            emit(False, None, _table([asdict(t) for t in check.tensors], f"by {check.tier}"))
            typer.echo(check.verdict)
    if not all(check.passed for check in checks):
        raise typer.Exit(CHECK_FAILED)


def tickets(
    spec: SpecArgument,
    overrides: SetOption = None,
    rounds: Annotated[int, typer.Option(help="Cuts.")] = 10,
    rate: Annotated[float, typer.Option(help="Share of remaining weights that a cut takes.")] = 0.2,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds, as lanes of each pack.")] = 3,
    rewind_epoch: Annotated[int, typer.Option(help="Rewind to this epoch; 0: to the start.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Look for lottery tickets in a spec's model: cut, rewind, train again, beside controls.

    Example: isoflop tickets search.yaml --set train.epochs=20 --rounds 9
    """
    from service.search.examine import central_config, ticket_rows
    from service.search.prepare import prepare
    from service.search.spec import SearchSpec

    parsed = prepare(SearchSpec.from_yaml(spec, overrides=overrides or []), None)
    found = ticket_rows(
        central_config(parsed), rounds=rounds, num_seeds=seeds, rewind_epoch=rewind_epoch, rate=rate
    )
    emit(as_json, found, _table(found, f"means over {seeds} seeds"))


def landscape(
    search_ids: Annotated[list[str], typer.Argument(help="Searches, drawn on one scale.")],
    out: Annotated[Path, typer.Option("--out", help="Picture: .png, .svg or .pdf.")] = Path(
        "landscape.png"
    ),
    size: Annotated[int, typer.Option(help="Grid points on a side; odd.")] = 21,
    span: Annotated[float, typer.Option(help="The grid reaches from -SPAN to SPAN.")] = 1.0,
    directions: Annotated[int, typer.Option(min=0, help="Seed of the two directions.")] = 0,
    rows: Annotated[int | None, typer.Option(min=1, help="Training rows. Default: all.")] = None,
    ledger: LedgerOption = DEFAULT_LEDGER,
    as_json: JsonOption = False,
) -> None:
    """Draw the loss around searches' winners, along two filter-normalised random directions.

    Example: isoflop landscape with-skip-1 without-skip-1
    """
    from dataclasses import asdict

    from service.report.surfaces import save_numbers, save_surfaces
    from service.search.examine import winner_of
    from trainers.errors import ConfigError
    from trainers.landscape import loss_surface, scores

    if out.suffix not in (".png", ".svg", ".pdf"):
        raise ConfigError(f"`--out` must end in .png, .svg or .pdf, but got {out}; rename it")
    surfaces = {}
    for search_id in search_ids:
        module, config, dataset = winner_of(search_id, ledger)
        surfaces[search_id] = loss_surface(
            module, config, dataset, size=size, span=span, seed=directions, num_rows=rows
        )
    picture = save_surfaces(surfaces, out)
    numbers = save_numbers(surfaces, out.with_suffix(".csv"))
    found: list[dict[str, Any]] = [
        {"search": name, "centre_loss": surface.centre, **asdict(scores(surface))}
        for name, surface in surfaces.items()
    ]
    emit(as_json, found, _table(found, ""))
    if not as_json:
        typer.echo(f"picture: {picture}\nnumbers: {numbers}")


def compress(
    search_id: Annotated[str, typer.Argument(help="A search, as `isoflop list` shows it.")],
    sparsity: Annotated[
        list[float] | None,
        typer.Option(help="Share of each layer's weights to cut (repeatable)."),
    ] = None,
    ledger: LedgerOption = DEFAULT_LEDGER,
    as_json: JsonOption = False,
) -> None:
    """Measure a winner with its smallest weights cut, and with 8-bit weights."""
    from service.search.examine import compression_rows, winner_of

    shares = sparsity or [0.0, 0.2, 0.5, 0.7, 0.8, 0.9, 0.95]
    found = compression_rows(*winner_of(search_id, ledger), shares)
    emit(as_json, found, _table(found, "on the validation rows"))


def _table(rows: list[dict[str, Any]], title: str) -> Any:
    """Return rows of equal keys as a table."""
    from rich.table import Table

    table = Table(title=title or None)
    for name in rows[0]:
        table.add_column(name.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*(f"{v:.4g}" if isinstance(v, float) else str(v) for v in row.values()))
    return table
