"""Which column of somebody else's table holds which hyperparameter or metric."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

EPOCH_COLUMNS = ("epochs_done", "epochs", "epoch", "training_iteration", "train.epochs")
STATE_COLUMNS = ("state", "State", "status")

_PREFIXES = ("param.", "params.", "params_", "config.", "config/", "hparams.", "hparams/")
_METRIC_PREFIXES = ("metrics.", "metric.", "summary.")
_VALUE_COLUMNS = ("value", "values_0", "objective")


def param_columns(frame: pd.DataFrame, paths: Sequence[str]) -> dict[str, str]:
    """Match dotted paths to columns.

    A column fits by its full name (`optimizer.lr`), with a known prefix (`param.`, `params_`,
    `config.`), with W&B's `.value`, with slashes for dots, or by the path's last word (`lr`)
    where only one path ends so.
    """
    columns = {_bare(str(column)): str(column) for column in reversed(list(frame.columns))}
    leaves = [path.rsplit(".", 1)[-1] for path in paths]
    found: dict[str, str] = {}
    for path, leaf in zip(paths, leaves, strict=True):
        if path in columns:
            found[path] = columns[path]
        elif leaf in columns and leaves.count(leaf) == 1:
            found[path] = columns[leaf]
    return found


def metric_columns(frame: pd.DataFrame, metrics: Sequence[str], primary: str) -> dict[str, str]:
    """Match metric names to columns; `value` and `values_0` are taken for the primary one."""
    present = [str(column) for column in frame.columns]
    found: dict[str, str] = {}
    for metric in metrics:
        for name in (metric, *(f"{prefix}{metric}" for prefix in _METRIC_PREFIXES)):
            if name in present:
                found.setdefault(metric, name)
    for name in _VALUE_COLUMNS:
        if name in present:
            found.setdefault(primary, name)
    return found


def first_present(frame: pd.DataFrame, names: Sequence[str]) -> str | None:
    """Return the first of `names` that is a column."""
    return next((name for name in names if name in frame.columns), None)


def _bare(column: str) -> str:
    for prefix in _PREFIXES:
        column = column.removeprefix(prefix)
    return column.removesuffix(".value").replace("/", ".")
