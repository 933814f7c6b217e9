"""What mattered: how much of the difference between trials each dimension explains."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from service.ledger.records import TrialRecord
from service.report.charts.base import Chart, layout
from service.report.facts import Facts

MIN_TRIALS = 10
MAX_TRIALS = 1_000
"""Every k-th trial of a larger round is used: fANOVA would take long and say the same."""
SEED = 0
"""fANOVA grows random trees; a fixed seed gives the same report every time."""


@dataclass(frozen=True, kw_only=True)
class Importance:
    """One dimension's share of the variance between trials, and which way it pulls."""

    path: str
    share: float
    rank_correlation: float | None
    """Spearman's, between value and metric; None for words."""


def importances(facts: Facts) -> tuple[list[Importance], int, int]:
    """Return importances, the round they come from and its number of trials.

    Optuna's fANOVA on the ranks of the metric: ranks, so that a few trials that learnt nothing
    do not outweigh all differences between good ones. One round only, the largest, since
    values of different lengths do not compare. Empty below 10 finished trials.
    """
    by_round: dict[int, list[TrialRecord]] = {}
    for trial in facts.candidates:
        if trial.state == "complete" and math.isfinite(facts.value(trial)):
            by_round.setdefault(trial.round, []).append(trial)
    if not by_round:
        return [], 0, 0
    number = max(by_round, key=lambda r: (len(by_round[r]), -r))
    trials = by_round[number]
    trials = trials[:: -(-len(trials) // MAX_TRIALS)]
    shares = _fanova(facts, trials) if len(trials) >= MIN_TRIALS else {}
    found = [
        Importance(path=path, share=share, rank_correlation=_rank_correlation(facts, trials, path))
        for path, share in shares.items()
    ]
    return sorted(found, key=lambda i: -i.share), number, len(trials)


def importance(facts: Facts) -> Chart | None:
    """Draw the importances, most important first."""
    found, number, count = importances(facts)
    if not found:
        return None
    metric = facts.objective.metric
    rows = list(reversed(found))
    figure = {
        "data": [
            {
                "type": "bar", "orientation": "h", "y": [i.path for i in rows],
                "x": [100 * i.share for i in rows],
                "text": [f" {_whole_percent(i.share)}" for i in rows], "textposition": "outside",
                "cliponaxis": False,
                "marker": {"color": "@accent"}, "textfont": {"color": "@ink"},
                "hovertemplate": "%{y}: %{x:.1f} % of the variance<extra></extra>",
            }
        ],
        "layout": layout(height=90 + 38 * len(rows), showlegend=False,
                         x=f"share of the variance of {metric} ranks (%)",
                         margin={"t": 8, "r": 48}),
    }  # fmt: skip
    table = pd.DataFrame(
        [
            {"dimension": i.path, "share of variance": i.share,
             "rank correlation": i.rank_correlation, "effect": _effect(facts, i)}
            for i in found
        ]
    )  # fmt: skip
    effects = "; ".join(
        f"{i.path}: {text}" for i in found[:3] if (text := _effect(facts, i)) != "–"
    )
    return Chart(
        name="importance",
        title="What mattered",
        note=f"fANOVA (Optuna) on ranks, over {count} finished trials of round {number}. "
        f"{effects + '.' if effects else ''}",
        views=(("all", figure),),
        table=table,
    )


def _fanova(facts: Facts, trials: Sequence[TrialRecord]) -> dict[str, float]:
    import optuna
    from scipy.stats import rankdata

    shared = [p for p in trials[0].params if all(p in trial.params for trial in trials)]
    values = {p: [trial.params[p] for trial in trials] for p in shared}
    distributions = {p: _distribution(values[p]) for p in shared if len(set(values[p])) > 1}
    if not distributions:
        return {}
    ranks = rankdata([facts.objective.cost(facts.value(trial)) for trial in trials])
    if len(set(ranks)) < 2:
        return {}
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        study = optuna.create_study()
        study.add_trials(
            [
                optuna.trial.create_trial(
                    params={p: trial.params[p] for p in distributions},
                    distributions=distributions,
                    value=float(rank),
                )
                for trial, rank in zip(trials, ranks, strict=True)
            ]
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            # The default of 64 trees of any depth takes 24 s at 1,000 trials; these take 0.8 s
            # and give the same shares to a percent.
            evaluator = optuna.importance.FanovaImportanceEvaluator(
                n_trees=16, max_depth=8, seed=SEED
            )
        return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))
    finally:
        optuna.logging.set_verbosity(before)


def _distribution(values: Sequence[Any]) -> Any:
    """Return Optuna's distribution that just holds the values; log where they span decades."""
    import optuna

    if any(isinstance(v, str | bool) or v is None for v in values):
        return optuna.distributions.CategoricalDistribution(list(dict.fromkeys(values)))
    low, high = min(values), max(values)
    log = low > 0 and high / low > 20
    if all(isinstance(v, int) for v in values):
        return optuna.distributions.IntDistribution(low, high, log=log)
    return optuna.distributions.FloatDistribution(float(low), float(high), log=log)


def _rank_correlation(facts: Facts, trials: Sequence[TrialRecord], path: str) -> float | None:
    from scipy.stats import spearmanr

    values = [trial.params[path] for trial in trials]
    if any(isinstance(v, str | bool) or v is None for v in values):
        return None
    correlation = float(spearmanr(values, [facts.value(trial) for trial in trials]).statistic)
    return correlation if math.isfinite(correlation) else None


def _whole_percent(share: float) -> str:
    return "under 1 %" if share < 0.005 else f"{100 * share:.0f} %"


def _effect(facts: Facts, found: Importance) -> str:
    rho = found.rank_correlation
    if rho is None:
        return "–"
    better_when_larger = (rho < 0) == (facts.objective.direction == "minimize")
    if abs(rho) < 0.2:
        return "no one-way trend (the best values may lie inside)"
    side = "larger" if better_when_larger else "smaller"
    return f"{side} is better (rank correlation {rho:+.2f})"
