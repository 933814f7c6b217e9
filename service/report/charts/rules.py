"""Learning rules side by side, where a search tried several."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean

import pandas as pd

from service.ledger.records import TrialRecord
from service.report.charts.base import Chart
from service.report.facts import Facts

PATH = "learning_rule.kind"
COSINE = "cos_backprop"


def learning_rules(facts: Facts) -> Chart | None:
    """Tabulate accuracy, energy and the cosine with the true gradient, a row per rule."""
    by_rule: dict[str, list[TrialRecord]] = {}
    for trial in facts.candidates:
        if PATH in trial.params and math.isfinite(facts.value(trial)):
            by_rule.setdefault(str(trial.params[PATH]), []).append(trial)
    if len(by_rule) < 2:
        return None
    rows = [_row(facts, rule, trials) for rule, trials in by_rule.items()]
    table = pd.DataFrame(rows).sort_values(
        f"best {facts.objective.metric}", key=lambda column: column.map(facts.objective.cost)
    )
    return Chart(
        name="rules",
        title="Learning rules side by side",
        note="Each rule's best trial, and what its trials cost on average. The cosine compares a "
        "rule's updates of hidden layers with their true gradient on the first batch of the best "
        "trial's last epoch; for backprop it is 1 by definition. 0: the rule leaves them alone.",
        views=(),
        table=table.dropna(axis="columns", how="all"),
    )


def _row(facts: Facts, rule: str, trials: Sequence[TrialRecord]) -> dict[str, object]:
    metric = facts.objective.metric
    best = min(trials, key=lambda trial: (facts.objective.cost(facts.value(trial)), trial.trial_id))
    error = best.metrics.get("val_error")
    kwh = [facts.trial_kwh[t.trial_id] for t in trials if t.trial_id in facts.trial_kwh]
    return {
        "rule": rule,
        "trials": len(trials),
        f"best {metric}": facts.value(best),
        "accuracy": None if error is None else 1 - float(error),
        "kWh per trial": fmean(kwh) if kwh else None,
        "cosine": 1.0 if rule == "backprop" else best.metrics.get(COSINE),
    }
