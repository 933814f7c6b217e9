"""The answer: which configuration won, by how much, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from service.report.facts import Facts, Group
from service.report.numbers import interval_text, is_known, percent, short
from service.search.objectives import (
    Interval,
    difference_interval,
    t_interval,
    within_noise,
)

CONFIDENCE = 0.95
"""Of every interval in a report; two-sided, over seeds."""


@dataclass(frozen=True, kw_only=True)
class Rival:
    """A configuration whose seeds cannot be told from the winner's."""

    group: Group
    cost_share: float | None
    """Its training FLOPs as a share of the winner's; None where they were not counted."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the first lines of a report say."""

    metric: str
    best: Group
    interval: Interval
    """Of the metric over the winner's seeds."""
    retrained: bool
    """Whether the winner was re-trained with seeds of its own, after it was chosen."""
    baseline: Interval | None
    gain: Interval | None
    """Improvement over the baseline in the metric's units, positive where better."""
    within_noise: tuple[Rival, ...]
    test: Mapping[str, float]
    """Test metrics, mean over the winner's seeds; empty if the test rows were not looked at."""
    test_interval: Interval | None
    """Of the test counterpart of the metric, over the winner's seeds."""
    test_looks: int

    @property
    def gain_share(self) -> Interval | None:
        """The gain as a share of the baseline; None without one, or where it is 0."""
        if self.gain is None or self.baseline is None or self.baseline.mean == 0:
            return None
        scale = abs(self.baseline.mean)
        return Interval(
            mean=self.gain.mean / scale,
            low=self.gain.low / scale,
            high=self.gain.high / scale,
            num_values=self.gain.num_values,
            confidence=self.gain.confidence,
        )

    @property
    def cheapest(self) -> Rival | None:
        """The cheapest configuration within noise, if it is cheaper than the winner."""
        cheaper = [r for r in self.within_noise if r.cost_share is not None and r.cost_share < 1]
        return min(cheaper, key=lambda r: (r.cost_share, r.group.first.trial_id), default=None)

    @property
    def gain_is_sure(self) -> bool:
        """Whether the interval of the gain excludes zero."""
        return self.gain is not None and is_known(self.gain) and self.gain.low > 0


def answer(facts: Facts) -> Answer | None:
    """Work out the answer; None while no trial has finished."""
    best = facts.best
    if best is None:
        return None
    objective, baseline = facts.objective, facts.baseline
    if baseline is not None and baseline.config_id == best.config_id:
        baseline = None
    gain = None if baseline is None else _gain(facts, best, baseline)
    tests = _test_values(facts)
    return Answer(
        metric=objective.metric,
        best=best,
        interval=t_interval(best.values, CONFIDENCE),
        retrained=best.first.role == "finalist",
        baseline=None if baseline is None else t_interval(baseline.values, CONFIDENCE),
        gain=gain,
        within_noise=_rivals(facts, best),
        test=facts.winner_event.get("test") or {},
        test_interval=t_interval(tests, CONFIDENCE) if tests else None,
        test_looks=facts.search.test_looks,
    )


def sentence(found: Answer | None) -> str:
    """Say the answer in one line.

    `val_error 0.021 ± 0.003, 30 % below baseline; 5 configs within noise`
    """
    if found is None:
        return "no trial has finished yet"
    text = f"{found.metric} {interval_text(found.interval)}"
    if found.baseline is not None and found.gain is not None:
        text += f", {_against_baseline(found)}"
    if not is_known(found.interval):
        return f"{text}; one seed, so noise is unknown"
    count = len(found.within_noise)
    configs = "config" if count == 1 else "configs"
    return f"{text}; {count or 'no other'} {configs} within noise"


def gain_sentence(found: Answer) -> str:
    """Say how much better than the baseline, with the interval, or why that is not known."""
    if found.baseline is None or found.gain is None:
        return "No baseline was given; set `start_from.baseline` to learn how much was gained."
    base = f"baseline {interval_text(found.baseline)}"
    share = found.gain_share
    if not is_known(found.gain) or share is None:
        return f"{_against_baseline(found).capitalize()} ({base}); one seed gives no interval."
    ends = f"{percent(share.low)} to {percent(share.high)}"
    sure = "" if found.gain_is_sure else ", so it may be luck"
    return (
        f"{_against_baseline(found).capitalize()} ({100 * found.gain.confidence:.0f} % interval: "
        f"{ends}{sure}; {base})."
    )


def noise_sentence(found: Answer) -> str:
    """Say how many configurations the seeds cannot tell apart, and which is the cheapest."""
    if not is_known(found.interval):
        return "One seed says nothing about noise; ask for more with `finalists.seeds`."
    count = len(found.within_noise)
    if count == 0:
        return "No other configuration is within noise."
    noun = "configuration is" if count == 1 else "configurations are"
    text = f"{count} other {noun} within noise"
    cheapest = found.cheapest
    if cheapest is None or cheapest.cost_share is None:
        return f"{text}; none is cheaper to train."
    trial = cheapest.group.first
    size = "" if trial.num_params is None else f", {trial.num_params:,} parameters"
    return (
        f"{text}; the cheapest, trial {trial.trial_id} ({found.metric} "
        f"{short(cheapest.group.mean)}{size}), trains on {percent(cheapest.cost_share)} of the "
        "winner's compute."
    )


def test_sentence(found: Answer) -> str:
    """Give the test error and how often the test rows have been looked at."""
    looks = "once" if found.test_looks == 1 else f"{found.test_looks} times"
    if found.test_interval is None:
        if found.test_looks == 0:
            return "The test set has not been looked at."
        return f"The test set was looked at {looks}."
    name = test_metric(found.metric)
    more = "" if found.test_looks <= 1 else "; each further look makes it less of a test"
    return f"{name} {interval_text(found.test_interval)}; the test set was looked at {looks}{more}."


def test_metric(metric: str) -> str:
    """Name the test counterpart of a validation metric: `val_error` -> `test_error`."""
    return f"test_{metric.removeprefix('val_').removeprefix('test_')}"


def _against_baseline(found: Answer) -> str:
    assert found.gain is not None  # callers ask only with a baseline
    share = found.gain_share
    if share is None:
        return f"{short(abs(found.gain.mean))} {_side(found)} baseline"
    if round(100 * abs(share.mean)) == 0:
        return "equal to baseline"
    return f"{percent(abs(share.mean))} {_side(found)} baseline"


def _side(found: Answer) -> str:
    assert found.baseline is not None
    return "below" if found.interval.mean < found.baseline.mean else "above"


def _gain(facts: Facts, best: Group, baseline: Group) -> Interval:
    """Return the improvement over the baseline by Welch's interval.

    Not seed by seed: a few paired differences of errors counted in rows may be equal by chance,
    and would then claim a certainty that nobody has.
    """
    cost = facts.objective.cost
    ours, theirs = map(cost, best.values), map(cost, baseline.values)
    return difference_interval(list(theirs), list(ours), CONFIDENCE)


def _rivals(facts: Facts, best: Group) -> tuple[Rival, ...]:
    """Find configurations of the same length that the winner's seeds cannot be told from.

    A configuration counts once: its finalists' seeds where it was re-trained, else its trial.
    """
    if len(best.values) < 2:
        return ()
    epochs = best.first.horizon_epochs
    groups = {
        group.config_id: group
        for group in facts.groups(
            trial for trial in facts.candidates if trial.horizon_epochs == epochs
        )
    }
    groups |= {group.config_id: group for group in facts.finalists}
    others = [group for config_id, group in groups.items() if config_id != best.config_id]
    flags = within_noise(
        best.values, [group.values for group in others], facts.objective, CONFIDENCE
    )
    return tuple(
        Rival(group=group, cost_share=_cost_share(group, best))
        for group, close in zip(others, flags, strict=True)
        if close
    )


def _cost_share(group: Group, best: Group) -> float | None:
    ours, theirs = best.first, group.first
    if not ours.flops_per_epoch or theirs.flops_per_epoch is None:
        return None
    return (
        theirs.flops_per_epoch
        * theirs.horizon_epochs
        / (ours.flops_per_epoch * ours.horizon_epochs)
    )


def _test_values(facts: Facts) -> list[float]:
    """Return the test counterpart of the metric for each of the winner's seeds."""
    name = facts.objective.metric.removeprefix("val_")
    values = []
    for metrics in facts.winner_event.get("tests") or [facts.winner_event.get("test") or {}]:
        found: Any = next(
            (metrics[key] for key in (f"test_{name}", name, f"val_{name}") if key in metrics), None
        )
        if found is not None and math.isfinite(found):
            values.append(float(found))
    return values
