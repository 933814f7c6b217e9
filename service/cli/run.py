"""`isoflop search`, `resume`, `extend`, `stop`: commands that train."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.failures import DONE, INTERRUPTED, NOTHING_FINISHED, RECIPE_STOPPED
from service.cli.options import (
    DEFAULT_LEDGER,
    AddressOption,
    JsonOption,
    LedgerOption,
    OutOption,
    WorkersOption,
    emit,
)
from service.cli.remote import act_on_job, is_job
from service.cli.start import print_plan

if TYPE_CHECKING:
    from service.api import SearchResult

IdArgument = Annotated[
    str, typer.Argument(help="A search, as `isoflop list` shows it; or a job of a service.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="Override a value: --set optimizer.lr=0.1 (repeatable)."),
]


def search(
    spec: Annotated[Path, typer.Argument(help="The spec file (YAML).")],
    overrides: SetOption = None,
    workers: WorkersOption = None,
    address: AddressOption = None,
    out: OutOption = None,
    ledger: LedgerOption = DEFAULT_LEDGER,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of everything random.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan and its estimated cost; train nothing")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Run a search to its end and write its report.

    Example: isoflop search search_spaces/demo.yaml --out runs/demo
    """
    from service.search.spec import SearchSpec

    parsed = SearchSpec.from_yaml(spec, overrides=overrides or [])
    if dry_run:
        print_plan(parsed, out, workers, as_json)
        return
    from service.api import run_search
    from service.cli.live import display_for

    with display_for(as_json) as display:
        result = run_search(
            parsed,
            workers=workers,
            address=address,
            ledger=ledger,
            out=out,
            seed=seed,
            display=display,
        )
    _finish(result, as_json)


def resume(
    search_id: IdArgument,
    workers: WorkersOption = None,
    address: AddressOption = None,
    ledger: LedgerOption = DEFAULT_LEDGER,
    accept_changes: Annotated[
        bool,
        typer.Option("--accept-changes", help="Go on although code or versions changed."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Go on with a search that was interrupted, stopped or killed; nothing is trained twice."""
    if is_job(search_id):
        act_on_job(search_id, "resume", as_json)
        return
    from service import api
    from service.cli.live import display_for

    with display_for(as_json) as display:
        result = api.resume(
            search_id,
            ledger=ledger,
            workers=workers,
            address=address,
            accept_changes=accept_changes,
            display=display,
        )
    if result.record.kind == "study":
        from service.cli.scale import finish_study

        finish_study(search_id, ledger, as_json)
    _finish(result, as_json)


def extend(
    search_id: IdArgument,
    trials: Annotated[
        int | None, typer.Option(min=1, help="Another round of so many trials.")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Train so long: the best again, or the new round.")
    ] = None,
    space: Annotated[
        Path | None, typer.Option(help="A YAML file with the new round's `space`.")
    ] = None,
    workers: WorkersOption = None,
    address: AddressOption = None,
    ledger: LedgerOption = DEFAULT_LEDGER,
    accept_changes: Annotated[
        bool,
        typer.Option("--accept-changes", help="Go on although code or versions changed."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Add to a search that ended: more trials, more epochs for the best, or another space.

    With --trials N: another round, its space refined from the evidence so far.

    With --epochs E: the best configurations again, trained for E epochs.

    With --trials N --space FILE: another round in the space of that file.
    """
    if is_job(search_id):
        act_on_job(search_id, "extend", as_json, **_extension(trials, epochs, space))
        return
    from service import api
    from service.cli.live import display_for

    with display_for(as_json) as display:
        result = api.extend(
            search_id,
            trials=trials,
            epochs=epochs,
            space=space,
            ledger=ledger,
            workers=workers,
            address=address,
            accept_changes=accept_changes,
            display=display,
        )
    _finish(result, as_json)


def stop(
    search_id: IdArgument, ledger: LedgerOption = DEFAULT_LEDGER, as_json: JsonOption = False
) -> None:
    """Ask a running search to finish its epoch, save and end; it can be resumed."""
    if is_job(search_id):
        act_on_job(search_id, "stop", as_json)
        return
    from service import api

    answer = api.stop(search_id, ledger=ledger)
    emit(as_json, {"search": search_id, "answer": answer}, answer)


def _extension(trials: int | None, epochs: int | None, space: Path | None) -> dict[str, Any]:
    """Return what is added, as the service takes it."""
    more: dict[str, Any] = {"trials": trials, "epochs": epochs}
    if space is not None:
        from service.search.yaml_loading import read_yaml

        mapping = read_yaml(space).mapping
        more["space"] = mapping.get("space", mapping)
    return {name: value for name, value in more.items() if value is not None}


def _finish(result: SearchResult, as_json: bool) -> None:
    """Print the answer and leave with the exit code that says how the search ended."""
    from service.api import resume_line

    state = result.record.state
    if as_json:
        emit(True, result.summary())
    else:
        typer.echo("")
        typer.echo(result.verdict)
        if result.report_path is not None:
            typer.echo(f"report: {result.report_path}")
    if state in ("interrupted", "stopped"):
        typer.echo(f"{result.record.reason}; go on with: {resume_line(result.record)}", err=True)
        raise typer.Exit(INTERRUPTED)
    if state == "recipe_stopped":
        typer.echo(result.record.reason, err=True)
        raise typer.Exit(RECIPE_STOPPED)
    if not result.has_finished_trial:
        why = result.record.reason or "; ".join(result.warnings()) or "no reason was recorded"
        typer.echo(f"no trial finished: {why}", err=True)
        raise typer.Exit(NOTHING_FINISHED)
    raise typer.Exit(DONE)
