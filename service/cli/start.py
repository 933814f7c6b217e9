"""`isoflop init`, `check`, `catalog`, `doctor`: before the first search."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.options import JsonOption, WorkersOption, emit

if TYPE_CHECKING:
    from service.search.spec import SearchSpec


def init(
    path: Annotated[Path, typer.Argument(help="The file to write.")] = Path("search.yaml"),
    as_json: JsonOption = False,
) -> None:
    """Write a commented spec to start from."""
    from importlib.resources import files

    from trainers.errors import ConfigError

    if path.exists():
        raise ConfigError(f"`{path}` exists and is not overwritten; name another file")
    text = files("search_spaces").joinpath("template.yaml").read_text(encoding="utf-8")
    path.write_text(text, encoding="utf-8")
    named = shlex.quote(str(path))
    next_step = f"edit it, then:  isoflop check {named}  and  isoflop search {named}"
    emit(as_json, {"file": str(path)}, f"wrote {path}; {next_step}")


def check(
    spec: Annotated[Path, typer.Argument(help="The spec file (YAML).")],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Override a value: --set optimizer.lr=0.1")
    ] = None,
    workers: WorkersOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check a search or a study and its data, and print the plan, without training."""
    from service.search.spec import SearchSpec
    from service.search.yaml_loading import read_yaml

    if read_yaml(spec).mapping.get("kind") == "study":
        from service.cli.scale import plan

        plan(spec, overrides, workers, as_json)
        return

    print_plan(SearchSpec.from_yaml(spec, overrides=overrides or []), None, workers, as_json)


def print_plan(spec: SearchSpec, out: Path | None, workers: int | None, as_json: bool) -> None:
    """Refuse what a search would refuse, then print what it would do and cost."""
    from service.search.estimate import estimate
    from service.search.prepare import prepare

    plan = estimate(prepare(spec, out), workers=workers)
    emit(as_json, plan.to_mapping(), plan.render())


def catalog(
    kind: Annotated[
        str | None, typer.Argument(help="Only settings that begin so, e.g. `optimizer`.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List every setting of a trial: its values, its default and what it means."""
    from rich.table import Table

    from service.search.catalog import settings

    rows = settings(kind)
    table = Table("setting", "values", "default", "meaning")
    for row in rows:
        table.add_row(row["path"], row["values"], row["default"], row["meaning"])
    emit(as_json, rows, table)


def doctor(as_json: JsonOption = False) -> None:
    """Say what this machine offers: cores, GPUs, energy sensors, country, versions."""
    from rich.table import Table

    from service.search.doctor import findings

    rows = findings()
    table = Table("what", "found", "what follows")
    for row in rows:
        table.add_row(row["what"], row["found"], row["follows"])
    emit(as_json, rows, table)
