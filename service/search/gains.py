"""Steps 4 to 7 after a round: what it brought, how its curves look, and whether to go on.

A round's gain is measured with several seeds: the best configuration of each round is trained
again with the finalists' seeds, and the gain is taken pair by pair. Where a finalist is that
same configuration, its trials are used and not trained twice.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from service.ledger.records import TrialRecord
from service.recipe.curves import Curve, diagnose_round
from service.recipe.record import Verdict
from service.recipe.rounds import RoundFacts, coarse_round, keep_going, refined_round
from service.search.batches import BatchPlan, batch_flow
from service.search.checks import record_verdict
from service.search.conductor import Conductor, Flows
from service.search.context import SearchContext
from service.search.finalists import trained_with_finalist_seeds
from service.search.measure import mean_values, values_of
from service.search.proposals import seeds_of, trial_record
from service.search.seeds import finalist_seed
from trainers.config import TrialConfig

INCUMBENT_BATCH = 1_000_000
"""Far above any batch a sampler fills."""


def _has_verdict(context: SearchContext, step: int, round_: int) -> bool:
    return any(
        (event.payload["step"], event.payload["round"]) == (step, round_)
        for event in context.ledger.events(context.search_id, "verdict")
    )


def _ranked(context: SearchContext, round_: int) -> list[list[TrialRecord]]:
    """Return the round's finished configurations, best first; each with all its seeds."""
    objective = context.spec.objective_list[0]
    complete = context.ledger.trials(
        context.search_id, round=round_, role="search", states=["complete"]
    )

    def cost(group: Sequence[TrialRecord]) -> tuple[float, int]:
        value = mean_values([values_of(trial.metrics, [objective]) for trial in group])[0]
        return (objective.cost(value) if math.isfinite(value) else math.inf, group[0].trial_id)

    return sorted(seeds_of(complete).values(), key=cost)


def _best_value(context: SearchContext, round_: int) -> tuple[float | None, TrialRecord | None]:
    ranked = _ranked(context, round_)
    if not ranked:
        return None, None
    objective = context.spec.objective_list[0]
    value = mean_values([values_of(trial.metrics, [objective]) for trial in ranked[0]])[0]
    return (value if math.isfinite(value) else None), ranked[0][0]


def judge_round(context: SearchContext, round_: int) -> None:
    """Record steps 4 or 5 (what the round brought) and 6 (its curves)."""
    if not context.spec.recipe.checks or _has_verdict(context, 6, round_):
        return
    objective = context.spec.objective_list[0]
    trials = context.ledger.trials(context.search_id, round=round_, role="search")
    value, best = _best_value(context, round_)
    earlier = _earlier_round(context, round_)
    before, before_trial = _best_value(context, earlier) if earlier is not None else (None, None)
    facts = RoundFacts(
        round=round_,
        epochs=max((trial.horizon_epochs for trial in trials), default=0),
        metric=objective.metric,
        direction=objective.direction,
        counts=Counter(str(trial.state) for trial in trials),
        best_value=value,
        best_params=best.params if best else {},
        best_trial=best.trial_id if best else None,
        previous_best=before,
        previous_epochs=before_trial.horizon_epochs if before_trial else None,
    )
    summary = coarse_round(facts) if earlier is None else refined_round(facts)
    if not _has_verdict(context, summary.step, round_):
        record_verdict(context, summary, round_)
    record_verdict(context, _diagnosis(context, round_, trials), round_)


def _diagnosis(context: SearchContext, round_: int, trials: Sequence[TrialRecord]) -> Verdict:
    kept = [trial for trial in trials if trial.state in ("complete", "diverged")]
    losses: dict[int, tuple[list[float], list[float]]] = {t.trial_id: ([], []) for t in kept}
    for trial_id, _epoch, _status, metrics in context.ledger.epoch_rows(
        context.search_id, list(losses)
    ):
        losses[trial_id][0].append(metrics.get("train_loss", math.nan))
        losses[trial_id][1].append(metrics.get("val_loss", math.nan))
    curves = [
        Curve(
            trial_id=trial.trial_id,
            train_losses=losses[trial.trial_id][0],
            val_losses=losses[trial.trial_id][1],
            diverged=trial.state == "diverged",
        )
        for trial in kept
        if losses[trial.trial_id][0]
    ]
    return diagnose_round(
        curves,
        dummy_loss=context.dummy_loss(context.spec.base),
        searched=list(context.spec.space),
        ranking=[group[0].trial_id for group in _ranked(context, round_)],
    )


def _earlier_round(context: SearchContext, round_: int) -> int | None:
    rounds = [
        record.round
        for record in context.ledger.rounds(context.search_id)
        if record.kind in ("search", "extension") and record.round < round_
    ]
    return max(rounds, default=None)


def train_incumbent(context: SearchContext, round_: int) -> None:
    """Train the round's best configuration with the finalists' seeds."""
    if not context.measures_gains:
        return
    ranked = _ranked(context, round_)
    if not ranked:
        return
    best = ranked[0][0]
    recorded = trained_with_finalist_seeds(context, best.config_id)
    if not recorded:
        next_id = context.ledger.next_trial_id(context.search_id)
        config = TrialConfig.model_validate(dict(best.config))
        recorded = [
            trial_record(
                context,
                config,
                trial_id=next_id + repeat,
                round_=round_,
                batch=INCUMBENT_BATCH,
                role="incumbent",
                seed=finalist_seed(context.seed, repeat),
                params=best.params,
                parent_trial=best.trial_id,
            )
            for repeat in range(context.spec.finalists.seeds)
        ]
        context.ledger.add_trials(context.search_id, recorded)
    if recorded[0].round != round_:
        return  # the same configuration was the best before; its seeds are trained
    plan = BatchPlan(round=round_, horizon_epochs=recorded[0].horizon_epochs)
    Conductor(context).run(Flows(batch_flow(context, plan, INCUMBENT_BATCH)), max_open=1)


def incumbents(context: SearchContext, round_: int) -> list[TrialRecord]:
    """Return the trials of a round's best configuration with the finalists' seeds."""
    ranked = _ranked(context, round_)
    return trained_with_finalist_seeds(context, ranked[0][0].config_id) if ranked else []


def judge_gain(context: SearchContext, round_: int, *, no_more: str = "") -> bool:
    """Record step 7 and return whether another round is worth it.

    `no_more` says why no round can follow, e.g. that the budget of trials is used up.
    """
    earlier = _earlier_round(context, round_)
    if earlier is None or not context.measures_gains:
        return True
    for event in context.ledger.events(context.search_id, "verdict"):
        if (event.payload["step"], event.payload["round"]) == (7, round_):
            return bool(event.payload["verdict"] == "continue")
    objective = context.spec.objective_list[0]

    def by_seed(number: int) -> dict[int, float]:
        return {
            trial.seed: objective.cost(values_of(trial.metrics, [objective])[0])
            for trial in incumbents(context, number)
            if trial.state == "complete"
        }

    before, after = by_seed(earlier), by_seed(round_)
    gains = [before[seed] - after[seed] for seed in after if seed in before]
    scale = abs(math.fsum(before.values()) / len(before)) if before else 0.0
    verdict = keep_going(
        [gain for gain in gains if math.isfinite(gain)],
        threshold=context.spec.recipe.stop_gain * scale,
        metric=objective.metric,
        no_more=context.budget.exhausted(context.energy.own_kwh()) or no_more,
    )
    record_verdict(context, verdict, round_)
    return verdict.verdict == "continue"
