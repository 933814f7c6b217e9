"""The next round's space, from the evidence of the last one and the diagnosis of its curves."""

from __future__ import annotations

import math
from collections.abc import Sequence

from search_spaces import Space, apply_consequence, refine
from service.ledger.records import TrialRecord
from service.search.context import SearchContext
from service.search.measure import mean_values, metrics_at, values_of
from service.search.objectives import costs_of, non_dominated_ranks
from service.search.proposals import seeds_of
from service.search.spec import RoundSpec

Reasons = list[dict[str, object]]
LOST = ("diverged", "failed", "infeasible")
ENOUGH = 8
"""Configurations of one length that refinement needs."""


def refined_space(context: SearchContext, round_: int, spec: RoundSpec) -> tuple[Space, Reasons]:
    """Return the space of a round that was not given one, and why it is so."""
    if spec.space is not None:
        return spec.space, [{"text": "the space is given in the spec"}]
    previous = max(
        (
            record
            for record in context.ledger.rounds(context.search_id)
            if record.kind in ("search", "extension") and record.round < round_
        ),
        key=lambda record: record.round,
    )
    space = Space.from_mapping(dict(previous.space))
    if spec.refine is None:
        return space, [{"text": f"the space of round {previous.round}, unchanged"}]
    objectives = context.spec.objective_list
    single = len(objectives) == 1
    space, reasons = refine(
        space,
        _evidence(context, previous.round),
        **spec.refine.model_dump(),
        metric=objectives[0].metric if single else "rank among the objectives",
        direction=objectives[0].direction if single else "minimize",
    )
    told: Reasons = [reason.to_mapping() for reason in reasons]
    return _with_consequence(context, previous.round, space, told)


def _evidence(context: SearchContext, round_: int) -> list[tuple[dict[str, object], float | None]]:
    """Return (params, value) of a round's configurations, all of one length.

    The length is the longest that enough configurations reached: after halving the survivors
    alone would be too few to shape a space. A configuration that diverged, failed or broke a
    constraint has the value None. With several objectives the value is the non-dominated rank,
    and within a rank the primary objective decides (ranks are whole numbers, its share of the
    span is below one).
    """
    objectives = context.spec.objective_list
    trials = context.ledger.trials(context.search_id, round=round_, role="search")
    groups = list(seeds_of(trials).values())
    epoch = _common_length(groups)
    metrics = metrics_at(context, trials, epoch)
    lost: list[tuple[dict[str, object], float | None]] = []
    rows: list[tuple[dict[str, object], tuple[float, ...]]] = []
    for group in groups:
        params = dict(group[0].params)
        if any(trial.state in LOST for trial in group):
            lost.append((params, None))
        elif all(trial.epochs_done >= epoch or trial.stopped_early for trial in group):
            found = [metrics.get(trial.trial_id, {}) for trial in group]
            values = mean_values([values_of(one, objectives) for one in found])
            finite = all(math.isfinite(value) for value in values)
            if finite:
                rows.append((params, values))
            else:
                lost.append((params, None))
    if len(objectives) == 1 or not rows:
        return [*((params, values[0]) for params, values in rows), *lost]
    costs = [costs_of(values, objectives) for _, values in rows]
    primary = [cost[0] for cost in costs]
    span = (max(primary) - min(primary)) or 1.0
    return [
        *(
            (params, rank + 0.999 * (cost[0] - min(primary)) / span)
            for (params, _), cost, rank in zip(rows, costs, non_dominated_ranks(costs), strict=True)
        ),
        *lost,
    ]


def _common_length(groups: Sequence[Sequence[TrialRecord]]) -> int:
    """Return the largest number of epochs that at least `ENOUGH` configurations were trained."""
    reached = sorted(
        (
            min(trial.horizon_epochs if trial.stopped_early else trial.epochs_done for trial in g)
            for g in groups
            if not any(trial.state in LOST for trial in g)
        ),
        reverse=True,
    )
    return reached[min(ENOUGH, len(reached)) - 1] if reached else 0


def _with_consequence(
    context: SearchContext, round_: int, space: Space, reasons: Reasons
) -> tuple[Space, Reasons]:
    """Draw the consequence of step 6, e.g. raise the regularisation interval."""
    for event in context.ledger.events(context.search_id, "verdict"):
        data = event.payload.get("data", {})
        if (event.payload["step"], event.payload["round"]) != (6, round_):
            continue
        path, direction = data.get("path"), data.get("direction")
        if path in space and direction in ("raise", "lower"):
            space, reason = apply_consequence(
                space, path, direction, str(event.payload["consequence"])
            )
            reasons = [*reasons, reason.to_mapping()]
    return space, reasons
