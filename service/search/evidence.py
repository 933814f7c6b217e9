"""Trials from elsewhere (`start_from.trials`): read, matched to the space, and told apart.

Such trials are evidence only: never counted in budgets or energy, and shown as what they are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from search_spaces import Choice, Distribution, Params, Space
from search_spaces.conditions import same
from search_spaces.constraints import METRICS
from service.search.evidence_columns import (
    EPOCH_COLUMNS,
    STATE_COLUMNS,
    first_present,
    metric_columns,
    param_columns,
)
from trainers.errors import ConfigError

FINISHED = {"complete", "finished", "terminated", "success", "succeeded", "completed"}


@dataclass(frozen=True, kw_only=True)
class EvidenceRow:
    """One trial from elsewhere that is a point of the space."""

    params: Params
    metrics: Mapping[str, float]
    epochs: int | None
    """Epochs that it was trained; None where the source does not say, and it is then told to
    no sampler, which must compare equal lengths."""
    row: int
    """Row of the table, from 1, or number of the Optuna trial."""


@dataclass(frozen=True, kw_only=True)
class EvidenceTable:
    """What a source holds for a space."""

    source: str
    rows: tuple[EvidenceRow, ...]
    skipped: tuple[str, ...]
    """A sentence for each kind of row that does not fit, with how many and the first."""

    def summary(self) -> str:
        """Say in one line what was read."""
        lost = f"; skipped: {'; '.join(self.skipped)}" if self.skipped else ""
        return f"{len(self.rows)} trials from {self.source} are evidence from elsewhere{lost}"


def load_evidence(source: str, space: Space, objectives: Sequence[str]) -> EvidenceTable:
    """Read trials from a CSV (any with dotted columns, ours, W&B's), Parquet or Optuna storage.

    Args:
        source: a file name, or an Optuna storage URL with the study's name after `#`.
        space: rows that are no point of it are skipped and reported.
        objectives: metric names in order; an Optuna study's values are taken to be these.

    Raises:
        ConfigError: if the source cannot be read, or holds no column of the space or objective.

    """
    frame = _optuna_frame(source, objectives) if "://" in source else _file_frame(Path(source))
    params = param_columns(frame, list(space))
    metrics = metric_columns(frame, METRICS, objectives[0])
    if space and not params:
        raise ConfigError(
            f"`start_from.trials` needs columns named like the space's paths ({', '.join(space)}),"
            f" but {source} has {', '.join(map(str, frame.columns[:12]))}; rename them"
        )
    if objectives[0] not in metrics:
        raise ConfigError(
            f"`start_from.trials` needs a column `{objectives[0]}`, but {source} has "
            f"{', '.join(map(str, frame.columns[:12]))}; rename the one that holds it"
        )
    rows: list[EvidenceRow] = []
    problems: dict[str, list[int]] = {}
    epoch_column = first_present(frame, EPOCH_COLUMNS)
    state_column = first_present(frame, STATE_COLUMNS)
    for number, record in enumerate(frame.to_dict("records"), start=1):
        read = _read_row(number, record, space, params, metrics, objectives[0])
        state = str(record[state_column]).lower() if state_column else "finished"
        if state not in FINISHED:
            problems.setdefault(f"state is {state}", []).append(number)
        elif isinstance(read, str):
            problems.setdefault(read, []).append(number)
        else:
            epochs = record[epoch_column] if epoch_column else None
            rows.append(_with_epochs(read, epochs))
    told = tuple(
        f"{len(numbers)} x {problem} (first: row {numbers[0]})"
        for problem, numbers in sorted(problems.items(), key=lambda item: -len(item[1]))
    )
    return EvidenceTable(source=source, rows=tuple(rows), skipped=told)


def _file_frame(path: Path) -> pd.DataFrame:
    try:
        if path.suffix == ".parquet":
            return pd.read_parquet(path)
        # Text as it stands: a choice named `NO` or `null` must not become a missing value.
        return pd.read_csv(path, keep_default_na=False, na_values=["", "NaN", "nan"])
    except (OSError, ValueError, pd.errors.ParserError) as error:
        raise ConfigError(
            f"`start_from.trials` must be a CSV, a Parquet file or an Optuna URL, but {path} "
            f"cannot be read as one ({str(error).splitlines()[0]}); check the path"
        ) from None


def _optuna_frame(url: str, objectives: Sequence[str]) -> pd.DataFrame:
    """Read the COMPLETE trials of a study; the name follows `#` where the storage has several."""
    import optuna  # takes half a second, and most searches start from nothing

    storage, _, name = url.partition("#")
    try:
        names = optuna.get_all_study_names(storage)
        if not name and len(names) == 1:
            name = names[0]
        if name not in names:
            raise ConfigError(
                f"`start_from.trials` must name one study, but {storage} has "
                f"{', '.join(names) or 'none'}; write {storage}#NAME"
            )
        trials = optuna.load_study(study_name=name, storage=storage).trials
    except ConfigError:
        raise
    except Exception as error:  # SQLAlchemy, drivers and Optuna each have error trees of their own
        raise ConfigError(
            f"`start_from.trials` must be an Optuna storage, but {storage} cannot be read "
            f"({str(error).splitlines()[0]}); check the URL"
        ) from None
    return pd.DataFrame(
        [
            {
                **{f"param.{key}": value for key, value in trial.params.items()},
                **dict(zip(objectives, trial.values or (), strict=False)),
                "epochs": trial.user_attrs.get("epochs", trial.last_step),
                "state": trial.state.name,
            }
            for trial in trials
        ]
    )


def _read_row(
    number: int,
    record: Mapping[Any, Any],
    space: Space,
    params: Mapping[str, str],
    metrics: Mapping[str, str],
    objective: str,
) -> EvidenceRow | str:
    """Return the row as evidence, or why it is none."""
    given: Params = {}
    for path, column in params.items():
        if not _is_missing(record[column]):
            given[path] = _as_value(space[path], record[column])
    active = space.active(given)
    found = {path: value for path, value in given.items() if path in active}
    problem = space.violation(found)
    if problem:
        # The path alone, so that rows with different values count as one kind of problem.
        return problem.split(" = ")[0] + (" is outside the space" if " = " in problem else "")
    values = {
        metric: float(record[column])
        for metric, column in metrics.items()
        if isinstance(record[column], int | float) and math.isfinite(record[column])
    }
    if objective not in values:
        return f"`{objective}` is no finite number"
    return EvidenceRow(params=found, metrics=values, epochs=None, row=number)


def _with_epochs(row: EvidenceRow, epochs: Any) -> EvidenceRow:
    whole = isinstance(epochs, int | float) and math.isfinite(epochs) and epochs == int(epochs)
    return EvidenceRow(
        params=row.params, metrics=row.metrics, epochs=int(epochs) if whole else None, row=row.row
    )


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _as_value(dimension: Distribution, value: Any) -> Any:
    """Turn a table's cell into the value that the space would have: 128.0 is 128, "True" true."""
    plain = value.item() if hasattr(value, "item") else value
    if isinstance(dimension, Choice):
        by_text = [own for own in dimension.values if str(own) == str(plain)]
        numbers = [own for own in dimension.values if not isinstance(own, str) and same(own, plain)]
        return (numbers or by_text or [plain])[0]
    if isinstance(plain, int | float) and dimension.contains(plain):
        return dimension.quantise(plain)
    return plain
