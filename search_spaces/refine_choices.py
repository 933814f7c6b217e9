"""Which values of a choice lose to the best one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from search_spaces.choices import Choice
from search_spaces.conditions import Scalar, same
from search_spaces.evidence import RefineRule, Shown
from search_spaces.reasons import Reason, kept

MIN_TRIALS_PER_CHOICE = 5


def refine_choice(
    path: str, choice: Choice, trials: Sequence[Shown], rule: RefineRule
) -> tuple[Choice, Reason]:
    """Drop the values that are worse than the best one; the best one always stays."""
    groups = [(value, _costs_of(path, value, trials)) for value in choice.values]
    judged = [(value, costs) for value, costs in groups if len(costs) >= MIN_TRIALS_PER_CHOICE]
    if choice.count == 1 or len(judged) < 2:
        why = (
            "it has one value"
            if choice.count == 1
            else (
                f"two values with {MIN_TRIALS_PER_CHOICE} trials each are needed to compare, "
                f"but {len(judged)} {'has' if len(judged) == 1 else 'have'} them"
            )
        )
        return choice, kept(path, choice, why)
    from scipy import stats  # half a second to import, and only a refined round needs it

    best, best_costs = min(judged, key=lambda group: float(np.median(group[1])))
    p_values = {
        index: float(stats.mannwhitneyu(costs, best_costs, alternative="greater").pvalue)
        for index, (value, costs) in enumerate(judged)
        if not same(value, best)
    }
    losers = [judged[index] for index, p in p_values.items() if p < rule.p_value]
    if not losers:
        why = (
            f"no value loses to {best!r} (median {rule.metric} {_median(best_costs, rule)} of "
            f"{len(best_costs)} trials); smallest p {min(p_values.values()):.2g}"
        )
        return choice, kept(path, choice, why)
    return _dropped(path, choice, judged, best, best_costs, p_values, rule)


def _dropped(
    path: str,
    choice: Choice,
    judged: Sequence[tuple[Scalar, list[float]]],
    best: Scalar,
    best_costs: Sequence[float],
    p_values: Mapping[int, float],
    rule: RefineRule,
) -> tuple[Choice, Reason]:
    lost = {index: p for index, p in p_values.items() if p < rule.p_value}
    gone = [judged[index][0] for index in lost]
    left = tuple(v for v in choice.values if not any(same(v, other) for other in gone))
    after = Choice(values=left, when=choice.when)
    told = "; ".join(
        f"{judged[i][0]!r} (median {_median(judged[i][1], rule)} of {len(judged[i][1])} trials, "
        f"p {p:.2g})"
        for i, p in lost.items()
    )
    text = (
        f"{path} drops {told}: worse than {best!r} (median {rule.metric} "
        f"{_median(best_costs, rule)} of {len(best_costs)} trials), one-sided Mann-Whitney "
        f"p < {rule.p_value:g}"
    )
    numbers = {f"p_value of {judged[index][0]}": p for index, p in p_values.items()}
    return after, Reason(
        path=path,
        kind="dropped",
        before=choice.to_mapping(),
        after=after.to_mapping(),
        text=text,
        numbers=numbers,
    )


def _costs_of(path: str, value: Scalar, trials: Sequence[Shown]) -> list[float]:
    return [trial.cost for trial in trials if same(trial.params[path], value)]


def _median(costs: Sequence[float], rule: RefineRule) -> str:
    """Show the median of costs as a value of the metric."""
    middle = float(np.median(costs))
    return f"{rule.sign * middle:.4g}" if math.isfinite(middle) else "none (most failed)"
