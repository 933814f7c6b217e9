"""More epochs for the best configurations of a search that ended.

A child trial goes on from its parent's checkpoint only where the longer schedule begins exactly
as the shorter one did; otherwise it is trained anew, because its learning rates would have been
others from the first update on.
"""

from __future__ import annotations

from service.ledger.records import RoundRecord, TrialRecord
from service.search.batches import BatchPlan, batch_flow
from service.search.conductor import Conductor, Flows
from service.search.context import SearchContext, has_same_prefix
from service.search.finalists import candidates
from service.search.proposals import trial_record


def run_prolonging(context: SearchContext, round_: int, epochs: int) -> None:
    """Train the best configurations for `epochs` epochs, where exact from checkpoints.

    The children keep their parents' seeds: they are the same trials, longer.
    """
    children = context.ledger.trials(context.search_id, round=round_)
    if not children:
        children = _record(context, round_, epochs)
    if children:
        flow = batch_flow(context, BatchPlan(round=round_, horizon_epochs=epochs), 0)
        Conductor(context).run(Flows(flow), max_open=1)
    context.finish_round(round_)


def _record(context: SearchContext, round_: int, epochs: int) -> list[TrialRecord]:
    parents = candidates(context, context.spec.finalists.trials)
    exact = [parent for parent in parents if has_same_prefix(context.trial_of(parent).config)]
    context.ledger.put_round(
        context.search_id,
        RoundRecord(
            round=round_,
            kind="extension",
            sampler="given",
            sampler_reason=f"the best {len(parents)} configurations, longer: {len(exact)} go on "
            f"from their checkpoints, {len(parents) - len(exact)} are trained anew because their "
            "schedule stretches with the horizon",
            space={},
            epochs=epochs,
            planned_trials=len(parents),
            state="running",
            started_unix_s=context.now_unix_s(),
        ),
    )
    next_id = context.ledger.next_trial_id(context.search_id)
    children = [
        trial_record(
            context,
            context.trial_of(parent).config.with_values({"train.epochs": epochs}),
            trial_id=next_id + place,
            round_=round_,
            batch=0,
            role="search",
            seed=parent.seed,
            params=parent.params,
            parent_trial=parent.trial_id,
        )
        for place, parent in enumerate(parents)
    ]
    context.ledger.add_trials(context.search_id, children)
    return children
