"""Laws of the best learning rate and batch size, from tuning that was already paid for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from service.scaling.budgets import budget_labels
from service.scaling.hyperparameters import HyperparameterLaw, fit_hyperparameter
from trainers.errors import ScalingError

if TYPE_CHECKING:
    from service.scaling.questions import Questions

USUAL = ("optimizer.lr", "train.batch_size", "lr", "learning_rate", "batch_size")
"""Columns of a table that are looked at where none is named."""


def tuned_laws(study: Questions, paths: Sequence[str]) -> tuple[HyperparameterLaw, ...]:
    """Fit the law of each hyperparameter over size and budget.

    Args:
        study: its tuning trials where isoflop ran it, else its points, are looked at.
        paths: e.g. `optimizer.lr`; none: what was tuned, or a table's usual columns.

    Raises:
        ScalingError: there is nothing tuned, a named column is missing, or the optima inside what
            was tried are too few.

    """
    trials, tuned = _trials(study)
    numeric = [name for name in tuned if pd.api.types.is_numeric_dtype(trials[name])]
    wanted = list(paths) or numeric
    if not wanted:
        raise ScalingError(
            "a law of hyperparameters needs runs that differ in one at equal size and budget, but "
            "the points have no such column; name it, e.g. hyperparameters('optimizer.lr')"
        )
    return tuple(
        fit_hyperparameter(
            trials, path, others=[name for name in tuned if name != path],
            confidence=study.confidence,
        )
        for path in wanted
    )  # fmt: skip


def _trials(study: Questions) -> tuple[pd.DataFrame, list[str]]:
    """Return tuning trials with `params`, `budget_flops` and `loss`, and the tuned columns."""
    if study.recorded is not None:
        tune, frame = study.recorded.spec.tune, study.recorded.tuning
        if tune is None or frame.empty:
            return pd.DataFrame({"loss": []}), []
        return frame[frame["by"] == study.recipe], [str(path) for path in tune.space]
    frame = study.points.frame
    labels = budget_labels(frame, None)
    trials = frame.assign(budget_flops=labels)[labels.notna().to_numpy()]
    return trials, [name for name in USUAL if name in frame and frame[name].nunique() > 1]
