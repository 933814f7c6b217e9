"""The next round's space, from the evidence of the last one and the diagnosis of its curves."""

from __future__ import annotations

import math

from search_spaces import Space, apply_consequence, refine
from service.search.context import SearchContext
from service.search.measure import mean_values, values_of
from service.search.objectives import non_dominated_ranks
from service.search.proposals import seeds_of
from service.search.spec import RoundSpec

Reasons = list[dict[str, object]]


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


def _evidence(context: SearchContext, round_: int) -> list[tuple[dict[str, object], float]]:
    """Return (params, value) of a round's finished configurations, all of one length.

    With several objectives the value is the non-dominated rank, and within a rank the primary
    objective decides (ranks are whole numbers, its share of the span is below one).
    """
    objectives = context.spec.objective_list
    complete = context.ledger.trials(
        context.search_id, round=round_, role="search", states=["complete"]
    )
    rows: list[tuple[dict[str, object], list[float]]] = []
    for group in seeds_of(complete).values():
        values = mean_values([values_of(trial.metrics, objectives) for trial in group])
        costs = [o.cost(value) for o, value in zip(objectives, values, strict=True)]
        if all(math.isfinite(cost) for cost in costs):
            rows.append((dict(group[0].params), costs))
    if len(objectives) == 1 or not rows:
        return [(params, objectives[0].cost(costs[0])) for params, costs in rows]
    ranks = non_dominated_ranks([costs for _, costs in rows])
    primary = [costs[0] for _, costs in rows]
    span = (max(primary) - min(primary)) or 1.0
    return [
        (params, rank + 0.999 * (costs[0] - min(primary)) / span)
        for (params, costs), rank in zip(rows, ranks, strict=True)
    ]


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
