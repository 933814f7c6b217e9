"""Writing a search as an Optuna study that tells the truth about states and fidelity.

Optuna adds a trial in about 18 ms, one by one. Here the study is made by Optuna and its trials
are inserted in bulk into Optuna's own tables, as they are found in the storage (a test reads
them back through Optuna).
"""

from __future__ import annotations

import json
import math
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import optuna
import sqlalchemy as sa
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    distribution_to_json,
)
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError

from service.ledger.curves import EpochValues
from service.ledger.optuna_space import as_choice, distributions
from service.ledger.records import SearchRecord, TrialRecord
from trainers.errors import LedgerError

_OWNER = "isoflop_search"
"""Attribute of a study that an earlier export wrote, and may therefore replace."""

_STATES = {
    "waiting": "WAITING",
    "running": "RUNNING",
    "complete": "COMPLETE",
    "stopped": "FAIL",
    "infeasible": "COMPLETE",  # it was trained; Optuna's constraints say that it may not win
    "pruned": "PRUNED",
    "diverged": "FAIL",
    "failed": "FAIL",
}


@dataclass(frozen=True, kw_only=True)
class _Study:
    """A search in the shape that Optuna's tables ask for."""

    search: SearchRecord
    trials: Sequence[TrialRecord]
    epochs: Mapping[int, Sequence[EpochValues]]
    objectives: Mapping[str, str]
    distributions: Mapping[str, BaseDistribution]


def write_study(
    storage_url: str,
    search: SearchRecord,
    trials: Sequence[TrialRecord],
    spaces: Iterable[Mapping[str, Any]],
    epoch_rows: Iterable[EpochValues],
) -> None:
    """Write the study named after the search; the trials appear together or not at all.

    Raises:
        LedgerError: if the storage cannot be used, or has another study of that name.

    """
    epochs: dict[int, list[EpochValues]] = defaultdict(list)
    for row in epoch_rows:
        epochs[row[0]].append(row)
    study = _Study(
        search=search,
        trials=trials,
        epochs=epochs,
        objectives=_objectives(search, trials),
        distributions=distributions([trial.params for trial in trials], spaces),
    )
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # "A new study created" is ours to say
    try:
        storage = RDBStorage(_with_driver(storage_url))
        try:
            study_id = _fresh_study(storage, study)
            with storage.engine.begin() as connection:
                _insert_trials(connection, study_id, study)
        finally:
            storage.engine.dispose()
    except (SQLAlchemyError, optuna.exceptions.OptunaError, ImportError, RuntimeError) as error:
        raise LedgerError(
            f"the Optuna storage cannot be used ({str(error).splitlines()[0]}); name one that can "
            "be written, e.g. `sqlite:///optuna.db`"
        ) from error
    finally:
        optuna.logging.set_verbosity(verbosity)


def _with_driver(storage_url: str) -> str:
    scheme, separator, rest = storage_url.partition("://")
    if scheme in ("postgresql", "postgres"):
        scheme = "postgresql+psycopg"
    return f"{scheme}{separator}{rest}"


def _objectives(search: SearchRecord, trials: Sequence[TrialRecord]) -> dict[str, str]:
    stated: Mapping[str, str] | None = search.spec.get("objectives")
    if stated:
        return dict(stated)
    measured = {name for trial in trials for name in trial.metrics}
    usual = ("val_error", "val_rmse", "val_loss")
    return {next((name for name in usual if name in measured), "val_loss"): "minimize"}


def _fresh_study(storage: RDBStorage, study: _Study) -> int:
    name = study.search.search_id
    owner = {"search": name, "created_unix_s": study.search.created_unix_s}
    if name in optuna.get_all_study_names(storage):
        old = optuna.load_study(study_name=name, storage=storage)
        if old.user_attrs.get(_OWNER) != owner:
            raise LedgerError(
                f"the Optuna storage already has a study {name!r} that is not an export of this "
                "search; name another storage, or delete that study"
            )
        optuna.delete_study(study_name=name, storage=storage)
    created = optuna.create_study(
        study_name=name,
        storage=storage,
        directions=[StudyDirection[d.upper()] for d in study.objectives.values()],
    )
    created.set_user_attr(_OWNER, owner)
    with warnings.catch_warnings():  # "experimental" since 2023; optuna-dashboard shows the names
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        created.set_metric_names(list(study.objectives))
    return int(storage.get_study_id_from_name(name))


def _insert_trials(connection: Connection, study_id: int, study: _Study) -> None:
    tables = sa.MetaData()
    children: dict[str, Callable[[TrialRecord, _Study], list[dict[str, Any]]]] = {
        "trial_params": _params,
        "trial_values": _values,
        "trial_intermediate_values": _intermediate_values,
        "trial_user_attributes": _user_attributes,
        "trial_system_attributes": _system_attributes,
    }
    tables.reflect(connection, only=["trials", *children])
    own = tables.tables["trials"]
    _insert(connection, own, [{**_trial(t, study), "study_id": study_id} for t in study.trials])
    keys = sa.select(own.c.number, own.c.trial_id).where(own.c.study_id == study_id)
    key_of: dict[int, int] = {number: key for number, key in connection.execute(keys)}
    for name, rows_of in children.items():
        rows = [
            {**row, "trial_id": key_of[trial.trial_id]}
            for trial in study.trials
            for row in rows_of(trial, study)
        ]
        _insert(connection, tables.tables[name], rows)


def _insert(connection: Connection, table: sa.Table, rows: list[dict[str, Any]]) -> None:
    if rows:
        connection.execute(sa.insert(table), rows)


def _state(trial: TrialRecord, study: _Study) -> str:
    state = _STATES[trial.state]
    if state == "COMPLETE" and any(
        math.isnan(trial.metrics.get(name, math.nan)) for name in study.objectives
    ):
        return "FAIL"  # Optuna knows no complete trial without its values
    return state


def _trial(trial: TrialRecord, study: _Study) -> dict[str, Any]:
    """Optuna's row of a trial; the ledger keeps no time per trial, so all bear the search's."""
    state = _state(trial, study)
    began = datetime.fromtimestamp(study.search.created_unix_s, UTC).replace(tzinfo=None)
    ended = began + timedelta(seconds=study.search.seconds)
    return {
        "number": trial.trial_id,
        "state": state,
        "datetime_start": None if state == "WAITING" else began,
        "datetime_complete": None if state in ("WAITING", "RUNNING") else ended,
    }


def _params(trial: TrialRecord, study: _Study) -> list[dict[str, Any]]:
    rows = []
    for path, value in trial.params.items():
        distribution = study.distributions[path]
        if isinstance(distribution, CategoricalDistribution):
            value = as_choice(value)
        rows.append(
            {
                "param_name": path,
                "param_value": distribution.to_internal_repr(value),
                "distribution_json": distribution_to_json(distribution),
            }
        )
    return rows


def _values(trial: TrialRecord, study: _Study) -> list[dict[str, Any]]:
    if _state(trial, study) != "COMPLETE":
        return []
    return [
        {"objective": i, **_stored(trial.metrics[name], "value")}
        for i, name in enumerate(study.objectives)
    ]


def _intermediate_values(trial: TrialRecord, study: _Study) -> list[dict[str, Any]]:
    primary = next(iter(study.objectives))
    return [
        {"step": epoch, **_stored(metrics[primary], "intermediate_value")}
        for _, epoch, _, metrics in study.epochs.get(trial.trial_id, ())
        if primary in metrics
    ]


def _stored(value: float, column: str) -> dict[str, Any]:
    if math.isfinite(value):
        return {column: value, f"{column}_type": "FINITE"}
    kind = "NAN" if math.isnan(value) else "INF_POS" if value > 0 else "INF_NEG"
    return {column: None, f"{column}_type": kind}


def _user_attributes(trial: TrialRecord, study: _Study) -> list[dict[str, Any]]:
    attributes = {
        "round": trial.round,
        "role": trial.role,
        "seed": trial.seed,
        "state": trial.state,
        "reason": trial.reason,
        "epochs_done": trial.epochs_done,
        "horizon_epochs": trial.horizon_epochs,
        **trial.metrics,
    }
    return [{"key": key, "value_json": json.dumps(value)} for key, value in attributes.items()]


def _system_attributes(trial: TrialRecord, study: _Study) -> list[dict[str, Any]]:
    if trial.state != "infeasible" or _state(trial, study) != "COMPLETE":
        return []
    return [{"key": "constraints", "value_json": json.dumps([1.0])}]  # above 0: violated
