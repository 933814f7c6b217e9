"""`isoflop scale fit`: laws of any table of runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from service.cli.options import JsonOption, emit


def fit(
    file: Annotated[Path, typer.Argument(help="A CSV or Parquet file, one row per run.")],
    params: Annotated[str | None, typer.Option(help="Column of the parameters N.")] = None,
    tokens: Annotated[str | None, typer.Option(help="Column of the tokens or samples D.")] = None,
    flops: Annotated[str | None, typer.Option(help="Column of the training FLOPs C.")] = None,
    loss: Annotated[str | None, typer.Option(help="Column of the loss.")] = None,
    run: Annotated[
        str | None, typer.Option(help="Column of the run: its rows are resampled together.")
    ] = None,
    by: Annotated[
        str | None, typer.Option(help="Column of the recipe: each gets a law of its own.")
    ] = None,
    where: Annotated[
        str | None, typer.Option(help="Which rows count: \"run_state == 'finished'\"")
    ] = None,
    kwh: Annotated[str | None, typer.Option(help="Column of the energy in kWh.")] = None,
    x: Annotated[str | None, typer.Option(help="One variable: column of what is doubled.")] = None,
    y: Annotated[str | None, typer.Option(help="One variable: column of what is measured.")] = None,
    increasing: Annotated[
        bool, typer.Option("--increasing", help="One variable: y is better when higher.")
    ] = False,
    law: Annotated[str, typer.Option(help="chinchilla, kaplan or repeated_data.")] = "chinchilla",
    unique_tokens: Annotated[
        str | None, typer.Option(help="Column of unique tokens, for repeated_data.")
    ] = None,
    bootstrap: Annotated[
        int, typer.Option(min=0, help="Resamples of the runs for the parameters' intervals.")
    ] = 400,
    confidence: Annotated[float, typer.Option(help="Of every interval.")] = 0.9,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the resamples.")] = 0,
    knee: Annotated[
        float, typer.Option(help="A doubling that gains a smaller share than this stops paying.")
    ] = 0.01,
    kwh_per_flop: Annotated[
        float | None, typer.Option(help="Energy per FLOP, where the file has no kWh.")
    ] = None,
    country: Annotated[
        str | None, typer.Option(help="Three-letter code, for CO2. Default: ISOFLOP_COUNTRY")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of report and tables. Default: runs/FILE")
    ] = None,
    paper: Annotated[
        Path | None, typer.Option(help="Also write figures, table and methods for LaTeX here.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Fit laws to a table of runs, made by whatever trained them, and write a report.

    Name two of --params, --tokens and --flops; the third follows from C = 6 N D.

    Example: isoflop scale fit runs.csv --params n --tokens d --loss val_loss --run run_id

    One variable: isoflop scale fit elo.csv --x gpus --y elo --increasing
    """
    target = out or Path("runs") / file.stem
    if x is not None or y is not None:
        given = {
            "--params": params, "--tokens": tokens, "--flops": flops, "--loss": loss, "--run": run,
            "--kwh": kwh, "--unique-tokens": unique_tokens, "--kwh-per-flop": kwh_per_flop,
            "--country": country, "--paper": paper,
            **_changed(law=law, bootstrap=bootstrap, confidence=confidence, seed=seed, knee=knee),
        }  # fmt: skip
        _fit_curve(file, x, y, increasing, by, where, given, target, as_json)
        return
    from service.scaling.study import ScalingStudy
    from trainers.errors import ConfigError

    if loss is None:
        raise ConfigError("`scale fit` needs --loss and two of --params, --tokens and --flops, or "
                          "--x and --y for one variable")  # fmt: skip
    if increasing:
        raise ConfigError("--increasing goes with --x and --y; a loss always falls")
    study = ScalingStudy.from_csv(
        file, params=params, tokens=tokens, flops=flops, loss=loss, run=run, by=by, where=where,
        kwh=kwh, confidence=confidence,
    ).with_energy(kwh_per_flop=kwh_per_flop, country=country)  # fmt: skip
    study.fit(law, bootstrap=bootstrap, unique_tokens=unique_tokens, seed=seed)
    study.knee_share = knee
    outputs = study.write(target)
    if paper is not None:
        study.paper(paper)
    from service.scaling.report.terminal import analysis_view

    data, picture = analysis_view(study.analysis())
    emit(as_json, data, picture)
    if not as_json:
        typer.echo(f"report: {outputs.report}")


DEFAULTS = {"law": "chinchilla", "bootstrap": 400, "confidence": 0.9, "seed": 0, "knee": 0.01}
"""Of the options that only a law of two variables reads."""


def _changed(**options: Any) -> dict[str, Any]:
    """Return the options that were given another value than their default."""
    return {f"--{name}": None if value == DEFAULTS[name] else value
            for name, value in options.items()}  # fmt: skip


def _fit_curve(
    file: Path, x: str | None, y: str | None, increasing: bool, by: str | None, where: str | None,
    given: dict[str, Any], target: Path, as_json: bool,
) -> None:  # fmt: skip
    from service.scaling.curve_study import CurveStudy
    from service.scaling.report.terminal import curve_view
    from trainers.errors import ConfigError

    if x is None or y is None:
        raise ConfigError("one variable needs both --x and --y")
    unread = [name for name, value in given.items() if value is not None]
    if unread:
        raise ConfigError(f"with --x and --y, {unread[0]} would do nothing; leave it out")
    study = CurveStudy.from_csv(file, x=x, y=y, increasing=increasing, by=by, where=where)
    outputs = study.write(target)
    emit(as_json, study.record(), curve_view(study))
    if not as_json:
        typer.echo(f"report: {outputs.report}")
