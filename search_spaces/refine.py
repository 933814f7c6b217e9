"""Coarse to fine: the next round's space from the evidence of the last, with every reason."""

from __future__ import annotations

from typing import Literal

from search_spaces.choices import Choice
from search_spaces.distributions import Distribution
from search_spaces.evidence import Evidence, RefineRule, costs
from search_spaces.reasons import Reason
from search_spaces.refine_choices import refine_choice
from search_spaces.refine_intervals import refine_interval
from search_spaces.space import Space


def refine(
    space: Space,
    evidence: Evidence,
    keep_best: float = 0.2,
    *,
    margin: float = 0.1,
    widen: float = 0.5,
    p_value: float = 0.05,
    metric: str = "value",
    direction: Literal["minimize", "maximize"] = "minimize",
) -> tuple[Space, list[Reason]]:
    """Narrow, widen and prune a space by what its trials showed.

    An interval is narrowed, in its own scale, to the span of the best trials plus a margin; on
    the side where their median lies within a tenth of an edge it is widened instead, up to its
    limits. A choice loses the values that are worse than its best one (lowest median) in a
    one-sided Mann-Whitney test. A hyperparameter with `when` is judged by the trials in which
    it was active.

    Args:
        space: the space that the trials were drawn from.
        evidence: trials of one fidelity; see `Evidence`.
        keep_best: share of the trials that counts as best, at least 8 of them.
        margin: part of the best trials' span that is added on either side.
        widen: part of the interval by which it grows beyond an edge.
        p_value: level of the Mann-Whitney test.
        metric: name of the value, for the reasons' texts.
        direction: which values are good.

    Returns:
        The next space, and one reason per hyperparameter in the space's order.

    """
    rule = RefineRule(
        keep_best=keep_best,
        margin=margin,
        widen=widen,
        p_value=p_value,
        metric=metric,
        sign=1.0 if direction == "minimize" else -1.0,
    )
    trials = costs(evidence, rule)
    changes: dict[str, Distribution] = {}
    reasons: list[Reason] = []
    for path, dimension in space.items():
        active = [trial for trial in trials if path in trial.params]
        if isinstance(dimension, Choice):
            changes[path], reason = refine_choice(path, dimension, active, rule)
        else:
            changes[path], reason = refine_interval(path, dimension, active, rule)
        reasons.append(reason)
    refined = space.replaced(changes)
    return refined, [_unless_removed(reason, space, refined) for reason in reasons]


def _unless_removed(reason: Reason, before: Space, after: Space) -> Reason:
    if reason.path in after:
        return reason
    parents = ", ".join(before[reason.path].when)
    text = f"{reason.path} is no longer searched: the values of {parents} it waits for are gone"
    return Reason(path=reason.path, kind="removed", before=reason.before, after=None, text=text)
