"""Why to believe the answer, or not: the recipe's verdicts and warnings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from service.recipe.record import Verdict
from service.report.facts import Facts
from service.report.numbers import is_known, percent
from service.report.verdict import Answer

EDGE = 0.05
"""A winning value within this share of an interval's length from its end lies at the edge."""


def final_verdicts(facts: Facts) -> list[Verdict]:
    """Return the last verdict of each step, in the order of the steps."""
    last = {verdict.step: verdict for verdict in facts.recipe}
    return [last[step] for step in sorted(last)]


def warnings(facts: Facts, found: Answer | None) -> list[str]:
    """Return what a careful reader should know before believing the answer."""
    texts = [str(event.payload.get("text", "")) for event in facts.events_of("warning")]
    texts += [_failed(verdict) for verdict in final_verdicts(facts) if verdict.passed is False]
    if facts.search.state != "finished":
        reason = f": {facts.search.reason}" if facts.search.reason else ""
        texts.append(f"The search is {facts.search.state.replace('_', ' ')}{reason}.")
    if found is not None:
        texts += _about_answer(facts, found)
    texts += _about_trials(facts)
    return list(dict.fromkeys(text for text in texts if text))


def _failed(verdict: Verdict) -> str:
    return f"Step {verdict.step}, {verdict.name}: {verdict.verdict.replace('_', ' ')}. " + (
        f"{verdict.consequence[:1].upper()}{verdict.consequence[1:]}."
    )


def _about_answer(facts: Facts, found: Answer) -> list[str]:
    texts = []
    if not found.retrained and found.best.first.role != "baseline":
        texts.append(
            "The winner was not re-trained with fresh seeds: its value is the best of many and "
            "so too good."
        )
    elif not is_known(found.interval):
        texts.append("The winner was trained with one seed: its noise is unknown.")
    if found.gain is not None and not found.gain_is_sure:
        texts.append("The gain over the baseline may be luck: its interval holds zero.")
    for path in edges(facts, found):
        texts.append(
            f"The winner's `{path}` lies at the edge of its interval: better values may lie beyond."
        )
    if found.test_looks > 1:
        texts.append(f"The test set was looked at {found.test_looks} times.")
    return texts


def _about_trials(facts: Facts) -> list[str]:
    texts = []
    total = len(facts.candidates)
    diverged = sum(trial.state == "diverged" for trial in facts.candidates)
    failed = sum(trial.state == "failed" for trial in facts.candidates)
    if total and diverged / total > 0.3:
        texts.append(f"{percent(diverged / total)} of the trials diverged.")
    if failed:
        texts.append(f"{failed} of {total} trials failed; `isoflop show` says why.")
    if facts.accounts is not None and facts.accounts.measured_share <= 0:
        texts.append("No energy counter was found: energy is a model's estimate.")
    return texts


def edges(facts: Facts, found: Answer) -> list[str]:
    """Return the searched intervals at whose ends the winner lies, unless a limit forbids more."""
    if not facts.search_rounds:
        return []
    space, paths = facts.search_rounds[-1].space, []
    for path, value in found.best.first.params.items():
        bounds = interval_of(space.get(path))
        if bounds is None or isinstance(value, str | bool) or value is None:
            continue
        low, high, log = bounds
        limits = space[path].get("limits") if isinstance(space[path], Mapping) else None
        if limits and (low <= limits[0] or high >= limits[1]):
            continue
        place = position(float(value), low, high, log)
        if not EDGE <= place <= 1 - EDGE:
            paths.append(path)
    return paths


def interval_of(distribution: Any) -> tuple[float, float, bool] | None:
    """Return (low, high, is_log) of a space's numeric dimension; None for a choice."""
    if not isinstance(distribution, Mapping):
        return None
    for kind in ("uniform", "log_uniform", "int", "log_int"):
        if kind in distribution:
            low, high = distribution[kind]
            return float(low), float(high), kind.startswith("log")
    return None


def position(value: float, low: float, high: float, log: bool) -> float:
    """Return where a value lies in an interval, 0 at its low end and 1 at its high end."""
    if high <= low:
        return 0.5
    if log:
        return math.log(value / low) / math.log(high / low)
    return (value - low) / (high - low)
