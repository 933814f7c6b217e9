"""`isoflop scale`: is a bigger model worth it? Studies run here, or read from any table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.options import (
    DEFAULT_LEDGER,
    AddressOption,
    JsonOption,
    LedgerOption,
    OutOption,
    WorkersOption,
    emit,
    open_ledger,
)
from service.cli.remote import act_on_job, is_job

if TYPE_CHECKING:
    from service.scaling.study import ScalingStudy

SpecArgument = Annotated[Path, typer.Argument(help="The study's spec (YAML, `kind: study`).")]
IdArgument = Annotated[str, typer.Argument(help="A study's name, as `isoflop list` shows it.")]
ExtendedArgument = Annotated[
    str, typer.Argument(help="A study, as `isoflop list` shows it; or a job of a service.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="Override a value: --set seeds.default=2 (repeatable)."),
]
AcceptOption = Annotated[
    bool, typer.Option("--accept-changes", help="Go on although code or versions changed.")
]


def run(
    spec: SpecArgument,
    overrides: SetOption = None,
    workers: WorkersOption = None,
    address: AddressOption = None,
    out: OutOption = None,
    ledger: LedgerOption = DEFAULT_LEDGER,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of everything random.")] = None,
    verify: Annotated[
        bool, typer.Option("--verify/--no-verify", help="Then train what was predicted.")
    ] = True,
    as_json: JsonOption = False,
) -> None:
    """Run a study: every size at every budget, tuned per size; then fit, report and verify.

    Where the spec names a `verify.flops`, that larger budget is predicted, the prediction is
    stored, and then it is trained.

    Example: isoflop scale run search_spaces/study-mlp.yaml --out runs/study
    """
    from service.cli.live import display_for
    from service.scaling.running import run_study
    from service.scaling.study import write_recorded
    from service.scaling.study_spec import StudySpec

    parsed = StudySpec.from_yaml(spec, overrides=overrides or [])
    with display_for(as_json) as display:
        study_id = run_study(
            parsed, workers=workers, address=address, ledger=ledger, out=out, seed=seed,
            display=display, report=write_recorded,
        )  # fmt: skip
        if verify and parsed.verify is not None and _finished(study_id, ledger):
            _verify(study_id, ledger, workers=workers, address=address, display=display)
    finish_study(study_id, ledger, as_json)


def plan(
    spec: SpecArgument,
    overrides: SetOption = None,
    workers: WorkersOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print what a study would train and cost: trials, FLOPs, hours and kWh. Nothing is started.

    Example: isoflop scale plan search_spaces/study-mlp.yaml
    """
    from rich.console import Group
    from rich.text import Text

    from service.scaling.planning import plan_study
    from service.scaling.report.terminal import frame_table, plan_table
    from service.scaling.study_spec import StudySpec

    found = plan_study(StudySpec.from_yaml(spec, overrides=overrides or []), workers=workers)
    parts: list[Any] = [plan_table(found.rows)]
    if len(found.left_out):
        parts += [Text("left out:"), frame_table(found.left_out)]
    emit(as_json, found.to_mapping(), Group(*parts, Text(found.text)))


def predict(
    target: Annotated[
        str, typer.Argument(help="A study's name, or the study.json of a study's folder.")
    ],
    flops: Annotated[
        list[float] | None,
        typer.Option("--flops", help="Budget in FLOP (repeatable): --flops 1e20"),
    ] = None,
    at: Annotated[
        list[float] | None,
        typer.Option("--at", help="Of a study of one variable: its x (repeatable): --at 64"),
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(help="Which recipe, where there are several.")
    ] = None,
    ledger: LedgerOption = DEFAULT_LEDGER,
    as_json: JsonOption = False,
) -> None:
    """Say how big the model should be at a budget, and how good it will be, with intervals.

    A study of one variable (`scale fit --x --y`) is asked at its x instead.

    Example: isoflop scale predict runs/study/study.json --flops 1e20 --flops 1e22
    """
    from service.scaling.report.record import rows
    from trainers.errors import ConfigError

    if bool(flops) == bool(at):
        raise ConfigError(
            "a prediction is asked at budgets (--flops 1e20) or, of a study of one variable, at "
            f"its x (--at 64), but got {'both' if flops else 'neither'}; give one of them"
        )
    if at:
        _predict_curves(target, at, recipe, as_json)
        return
    assert flops
    study = _study_of(target, ledger)
    if recipe is not None:
        study = study.of(recipe)
    answer = study.frontier(flops)
    emit(as_json, {"frontier": rows(answer.frame), "warnings": list(answer.warnings)}, str(answer))


def verify(
    study_id: IdArgument,
    flops: Annotated[
        float | None, typer.Option("--flops", help="Budget in FLOP. Default: the spec's.")
    ] = None,
    workers: WorkersOption = None,
    address: AddressOption = None,
    ledger: LedgerOption = DEFAULT_LEDGER,
    accept_changes: AcceptOption = False,
    as_json: JsonOption = False,
) -> None:
    """Predict a larger budget, store the prediction, train it, and compare.

    Example: isoflop scale verify mlp-mnist1d-1 --flops 1e12
    """
    from service.cli.live import display_for

    with display_for(as_json) as display:
        found = _verify(
            study_id, ledger, flops=flops, workers=workers, address=address,
            accept_changes=accept_changes, display=display,
        )  # fmt: skip
    emit(as_json, [one.to_mapping() for one in found], "\n".join(one.text for one in found))


def extend(
    study_id: ExtendedArgument,
    budgets: Annotated[
        list[float] | None, typer.Option("--budget", help="A budget in FLOP to add (repeatable).")
    ] = None,
    sizes: Annotated[
        list[str] | None,
        typer.Option("--size", help="A size to add: --size model.width=256 (repeatable)."),
    ] = None,
    workers: WorkersOption = None,
    address: AddressOption = None,
    ledger: LedgerOption = DEFAULT_LEDGER,
    accept_changes: AcceptOption = False,
    as_json: JsonOption = False,
) -> None:
    """Add sizes or budgets to a study, and train only what that makes missing.

    Example: isoflop scale extend mlp-mnist1d-1 --budget 1e12 --size model.width=256
    """
    added = _added_sizes(sizes or [])
    if is_job(study_id):
        more = {"budgets_flops": budgets, "sizes": added or None}
        act_on_job(study_id, "extend", as_json, **more)
        return
    from service.cli.live import display_for
    from service.scaling.running import extend_study
    from service.scaling.study import write_recorded

    with display_for(as_json) as display:
        extend_study(
            study_id, sizes=added, budgets_flops=budgets or [], ledger=ledger,
            workers=workers, address=address, accept_changes=accept_changes, display=display,
            report=write_recorded,
        )  # fmt: skip
    finish_study(study_id, ledger, as_json)


def _added_sizes(given: list[str]) -> dict[str, list[Any]]:
    """Read `path=value` options; values are YAML, so 256 is a number."""
    from service.search.yaml_loading import parse_yaml
    from trainers.errors import ConfigError

    found: dict[str, list[Any]] = {}
    for text in given:
        path, equals, value = text.partition("=")
        if not (path and equals and value):
            raise ConfigError(
                f"`--size` must be PATH=VALUE, e.g. model.width=256, but got {text!r}"
            )
        found.setdefault(path, []).append(parse_yaml(f"value: {value}").mapping["value"])
    return found


def _verify(study_id: str, ledger: str, **options: Any) -> Any:
    from service.scaling.study import ScalingStudy

    with open_ledger(ledger) as opened:
        study = ScalingStudy.open(study_id, ledger=opened)
    return study.verify(**options)


def _predict_curves(target: str, at: list[float], recipe: str | None, as_json: bool) -> None:
    """Print a study of one variable at values of its x."""
    from rich.console import Group
    from rich.text import Text

    from service.scaling.curve_forecast import forecast
    from service.scaling.report.reading import read_curves
    from service.scaling.report.record import rows
    from service.scaling.report.terminal import frame_table
    from trainers.errors import ConfigError

    if recipe is not None:
        raise ConfigError("--recipe is of studies of size and data; leave it out with --at")
    table = forecast(read_curves(target), at)
    notes = [Text(f"! {note}", style="yellow") for note in dict.fromkeys(table["note"]) if note]
    shown = table.drop(columns=["note", *(["by"] if (table["by"] == "").all() else [])])
    emit(as_json, {"forecast": rows(table)}, Group(frame_table(shown), *notes))


def _study_of(target: str, ledger: str) -> ScalingStudy:
    """Read a study from its folder's study.json, or from the ledger."""
    from service.scaling.report.reading import read_study
    from service.scaling.study import ScalingStudy

    path = Path(target)
    if path.is_dir() or path.suffix == ".json":
        return read_study(path)
    with open_ledger(ledger) as opened:
        return ScalingStudy.open(target, ledger=opened)


def _finished(study_id: str, ledger: str) -> bool:
    with open_ledger(ledger) as opened:
        return opened.search(study_id).state == "finished"


def finish_study(study_id: str, ledger: str, as_json: bool) -> None:
    """Print the answer and leave with the exit code that says how the study ended."""
    from service.cli.failures import DONE, INTERRUPTED, NOTHING_FINISHED
    from service.scaling.report.terminal import study_detail

    with open_ledger(ledger) as opened:
        record = opened.search(study_id)
        data, picture = study_detail(opened, study_id)
    emit(as_json, data, picture)
    if record.state in ("interrupted", "stopped"):
        typer.echo(f"{record.reason}; go on with: isoflop resume {study_id}", err=True)
        raise typer.Exit(INTERRUPTED)
    raise typer.Exit(DONE if data.get("fits") else NOTHING_FINISHED)
