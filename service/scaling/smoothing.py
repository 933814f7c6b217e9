"""Tuned values with the noise of single trials averaged out: what `tune.use: smooth` uses.

A size's few tuning trials are noisy: the best of them may lie a factor of three beside the optimum,
its neighbour's as far on the other side, and a law of the loss then sees steps that sizes do not
make. So the minimum of each size and budget is read off a parabola (`tuned_optima`), and every
point gets the value of the law of these minima (`hyperparameters`), as Porian et al. 2024
(section 3) and Bi et al. 2024 (DeepSeek LLM, section 3.1) set learning rates of their sweeps.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pandas as pd

from search_spaces.distributions import Interval
from search_spaces.natural_limits import natural_limits
from service.ledger.records import TrialRecord
from service.scaling.facts import facts_of, is_tuning, key_of
from service.scaling.hyperparameters import AXES, HyperparameterLaw, fit_hyperparameter
from service.scaling.study_spec import StudySpec
from service.scaling.tuned_optima import MIN_VALUES, tuned_optima
from service.scaling.tuning import value_of
from trainers.errors import ScalingError

MIN_SIZES = 3
"""Sizes from which on a law over size averages anything: through two it passes exactly."""
DIGITS = 4
"""Significant digits of a value: the last bits of a fit differ between machines."""


@dataclass(frozen=True, kw_only=True)
class Smoothing:
    """Best values of one hyperparameter of one recipe, read off all of its tuning trials."""

    path: str
    ends: tuple[float, float]
    """Values never leave them."""
    law: HyperparameterLaw | None
    """None where the minima are too few for one."""
    minima: Mapping[tuple[str, float], float]
    """(group's key, tuned budget in FLOPs) -> its own minimum."""

    @property
    def over_flops(self) -> bool:
        """Whether the value differs between budgets of one size."""
        return self.law is not None and "flops" in self.law.exponents

    def value(self, key: str, num_params: int, flops: float, tuned_flops: float) -> float | None:
        """Return the value for a model at a budget; None where nothing is known of it.

        Args:
            key: of its group.
            num_params: N, counted as the study's law counts it.
            flops: the budget.
            tuned_flops: the group's tuned budget nearest to it, for its own minimum where there
                is no law.

        """
        if self.law is None:
            return self.minima.get((key, tuned_flops))
        # Where the law is over N alone, any C does.
        value = self.law.value(num_params, flops)
        return float(f"{min(max(value, self.ends[0]), self.ends[1]):.{DIGITS}g}")


def smoothing_of(spec: StudySpec, trials: Iterable[TrialRecord]) -> Smoothing | None:
    """Read minima and their law off the tuning trials of one recipe and amount of data.

    Trials of sizes that were made to verify a prediction are no part of it, so that a prediction
    cannot change what it was made from.

    Returns:
        None where the spec does not smooth.

    """
    path = spec.tune.smooth_path if spec.tune is not None else None
    if spec.tune is None or path is None:
        return None
    rows = []
    for trial in filter(is_tuning, trials):
        facts = facts_of(trial)
        if facts["planned"]:
            rows.append(
                {
                    "key": key_of(trial),
                    "params": facts[f"params_{spec.fit.count_params}"],
                    "budget_flops": float(facts["budget_flops"]),
                    "loss": value_of(trial, spec.metric),
                    path: trial.params[path],
                }
            )
    frame = pd.DataFrame(rows, columns=["key", "params", "budget_flops", "loss", path])
    dimension = spec.tune.space[path]
    assert isinstance(dimension, Interval)
    return Smoothing(
        path=path,
        ends=dimension.limits or natural_limits(path, dimension),
        law=_law(frame, path),
        minima={
            (str(key), float(str(flops))): float(f"{optima['value'].iloc[0]:.{DIGITS}g}")
            for (key, flops), group in frame.groupby(["key", "budget_flops"])
            if len(optima := tuned_optima(group, path)) and optima["at_edge"].iloc[0] == ""
        },
    )


def smooths_points(spec: StudySpec) -> bool:
    """Say whether a study can be expected to have a law for its tuned values."""
    tune = spec.tune
    return (
        tune is not None
        and tune.smooth_path is not None
        and tune.trials >= MIN_VALUES
        and len(spec.size_values) >= MIN_SIZES
    )


def middle_flops(budgets: Iterable[float]) -> float:
    """Return the geometric mean of a group's budgets, where one value has to serve all of them."""
    logs = [math.log(budget) for budget in budgets]
    return math.exp(math.fsum(logs) / len(logs))


def _law(frame: pd.DataFrame, path: str) -> HyperparameterLaw | None:
    per_size = frame.groupby("key")["budget_flops"].nunique()
    if len(per_size) < MIN_SIZES:
        return None
    # With one tuned budget each, larger sizes are tuned at larger ones: N and C are one axis.
    axes = AXES if (per_size > 1).any() else AXES[:1]
    try:
        return fit_hyperparameter(frame, path, axes=axes, bootstrap=0)
    except ScalingError:
        return None
