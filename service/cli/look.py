"""`isoflop list`, `show`, `report`, `compare`, `export`, `energy`, `predict`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from service.cli.options import (
    DEFAULT_LEDGER,
    JsonOption,
    LedgerOption,
    OutOption,
    emit,
    open_ledger,
)

if TYPE_CHECKING:
    import pandas as pd

    from service.ledger import Ledger
    from trainers.monte_carlo import Spread

IdArgument = Annotated[str, typer.Argument(help="A search's name, as `isoflop list` shows it.")]

TABLES: dict[str, Literal["csv", "parquet"]] = {"csv": "csv", "parquet": "parquet"}


def list_(ledger: LedgerOption = DEFAULT_LEDGER, as_json: JsonOption = False) -> None:
    """List all searches and studies of a ledger."""
    from service.report.terminal import list_table, search_rows

    with open_ledger(ledger) as opened:
        rows = search_rows(opened)
        emit(as_json, rows, list_table(rows))


def show(
    target: Annotated[str, typer.Argument(help="A search (ID) or one of its trials (ID/TRIAL).")],
    ledger: LedgerOption = DEFAULT_LEDGER,
    as_json: JsonOption = False,
) -> None:
    """Show a search or study, or one trial (ID/TRIAL) with its configuration and curve."""
    from service.report.terminal import search_detail, trial_detail
    from trainers.errors import ConfigError

    search_id, _, trial = target.partition("/")
    with open_ledger(ledger) as opened:
        if not trial and _is_study(opened, search_id):
            from service.scaling.report.terminal import study_detail

            data, picture = study_detail(opened, search_id)
        elif not trial:
            data, picture = search_detail(opened, search_id)
        elif trial.isdigit():
            data, picture = trial_detail(opened, search_id, int(trial))
        else:
            raise ConfigError(f"a trial is a number, as in `{search_id}/3`, but got {trial!r}")
        emit(as_json, data, picture)


def report(
    search_id: IdArgument,
    out: OutOption = None,
    ledger: LedgerOption = DEFAULT_LEDGER,
    as_json: JsonOption = False,
) -> None:
    """Write the report and tables of a search or study again, from what the ledger holds now."""
    from service.report import load_summary, write_outputs

    with open_ledger(ledger) as opened:
        folder = out or Path(opened.search(search_id).out_dir or search_id)
        if _is_study(opened, search_id):
            _report_study(opened, search_id, folder, as_json)
            return
        outputs = write_outputs(opened, search_id, folder)
    emit(as_json, load_summary(folder), f"report: {outputs.report}")


def _is_study(ledger: Ledger, search_id: str) -> bool:
    return ledger.search(search_id).kind == "study"


def _report_study(ledger: Ledger, study_id: str, folder: Path, as_json: bool) -> None:
    from service.scaling.report.record import record
    from service.scaling.study import ScalingStudy

    study = ScalingStudy.open(study_id, ledger=ledger)
    outputs = study.write(folder)
    emit(as_json, record(study.analysis()) if as_json else None, f"report: {outputs.report}")


def compare(
    search_ids: Annotated[list[str], typer.Argument(help="Two searches or more.")],
    ledger: LedgerOption = DEFAULT_LEDGER,
    as_json: JsonOption = False,
) -> None:
    """Compare searches: best value with interval, energy, time and what each tried."""
    from service.report.terminal import compare_rows, compare_table
    from trainers.errors import ConfigError

    if len(search_ids) < 2:
        raise ConfigError(f"`compare` needs at least two searches, but got {len(search_ids)}")
    with open_ledger(ledger) as opened:
        rows = compare_rows(opened, search_ids)
        emit(as_json, rows, compare_table(rows))


def export(
    search_id: IdArgument,
    out: Annotated[Path, typer.Option("--out", help="Folder for the tables.")] = Path("export"),
    format_: Annotated[str, typer.Option("--format", help="parquet, csv or optuna.")] = "parquet",
    storage: Annotated[
        str | None, typer.Option(help="Optuna storage URL, for --format optuna.")
    ] = None,
    ledger: LedgerOption = DEFAULT_LEDGER,
    as_json: JsonOption = False,
) -> None:
    """Export tables for pandas, or a study for optuna-dashboard."""
    from trainers.errors import ConfigError, nearest

    with open_ledger(ledger) as opened:
        if format_ == "optuna":
            url = storage or f"sqlite:///{out}.optuna.db"
            study = opened.export_optuna(search_id, url)
            emit(as_json, {"study": study, "storage": url}, f"study `{study}` in {url}")
        elif format_ in TABLES:
            opened.export(search_id, out, TABLES[format_])
            emit(as_json, {"folder": str(out)}, f"tables in {out}")
        else:
            raise ConfigError(
                f"`--format` must be parquet, csv or optuna, but got {format_!r}"
                f"{nearest(format_, [*TABLES, 'optuna'])}"
            )


def predict(
    search_id: IdArgument,
    data: Annotated[Path, typer.Argument(help="Rows to predict: .csv, .parquet or .npz.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="CSV to write. Default: print the predictions")
    ] = None,
    passes: Annotated[
        int | None,
        typer.Option(help="Predict so often with dropout on, and add how far passes spread."),
    ] = None,
    ledger: LedgerOption = DEFAULT_LEDGER,
    as_json: JsonOption = False,
) -> None:
    """Predict new rows with a search's winner."""
    import pandas as pd

    from service.api import open_search
    from trainers.data import read_features

    model = open_search(search_id, ledger=ledger).best.load()
    if passes is None:
        predictions = pd.DataFrame({"prediction": list(model.predict(read_features(data)))})
    else:
        predictions = spread_frame(model.predict_spread(read_features(data), passes), model.task)
    if out is not None:
        predictions.to_csv(out, index=False)
        emit(as_json, {"rows": len(predictions), "file": str(out)},
             f"{len(predictions)} predictions in {out}")  # fmt: skip
    elif as_json:
        emit(True, predictions.to_dict("records"))
    else:
        typer.echo(predictions.to_csv(index=False), nl=False)


def spread_frame(spread: Spread, task: str) -> pd.DataFrame:
    """Return a row per prediction: what was predicted, and how far the passes spread.

    Classes: the mean probability of the predicted class, and its standard deviation over passes.
    Numbers: the standard deviation, one column per target column.
    """
    import numpy as np
    import pandas as pd

    if task == "regression":
        several = spread.std.shape[1] > 1
        names = [f"std_{k}" for k in range(spread.std.shape[1])] if several else ["std"]
        columns = dict(zip(names, spread.std.T, strict=True))
        return pd.DataFrame({"prediction": list(spread.labels), **columns})
    picked = np.expand_dims(spread.mean.argmax(-1), -1)
    probability = np.take_along_axis(spread.mean, picked, -1)[..., 0]
    std = np.take_along_axis(spread.std, picked, -1)[..., 0]
    return pd.DataFrame(
        {"prediction": list(spread.labels), "probability": list(probability), "std": list(std)}
    )
