"""The last step: re-train the best configurations with several seeds, and look at the test set.

All finalists and the baseline use the same seeds, so that they are compared in pairs. The
winner is chosen by the validation rows; only then, once, are its test rows looked at.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from service.ledger.records import RoundRecord, TrialRecord
from service.search.batches import BatchPlan, batch_flow
from service.search.conductor import TERMINAL, Conductor, Flows
from service.search.context import SearchContext
from service.search.measure import mean_values, values_of
from service.search.objectives import t_interval
from service.search.proposals import seeds_of, trial_record
from service.search.seeds import finalist_seed
from trainers.config import TrialConfig
from trainers.data import load
from trainers.lanes.checkpoint import load_lane
from trainers.lanes.evaluation import evaluate, to_module

if TYPE_CHECKING:
    from trainers.predictor import Predictor

BASELINE_ROUND = -2
BASELINE_BATCH = 0


def trained_with_finalist_seeds(context: SearchContext, config_id: str) -> list[TrialRecord]:
    """Return a configuration's trials that use the finalists' seeds, so as not to repeat them."""
    trials = [
        trial
        for role in ("incumbent", "finalist")
        for trial in context.ledger.trials(context.search_id, role=role)
    ]
    return [trial for trial in trials if trial.config_id == config_id]


def add_baseline(context: SearchContext) -> None:
    """Record the baseline as trial 0 (and one more trial per further seed), once."""
    config = context.spec.baseline_config()
    if config is None or context.ledger.trials(context.search_id, role="baseline"):
        return
    config = config.with_values({"train.epochs": context.final_epochs})
    context.ledger.put_round(
        context.search_id,
        RoundRecord(
            round=BASELINE_ROUND,
            kind="baseline",
            sampler="given",
            sampler_reason="the spec's own baseline, at full length, with the finalists' seeds",
            space={},
            epochs=config.train.epochs,
            planned_trials=context.spec.finalists.seeds,
            state="running",
            started_unix_s=context.now_unix_s(),
        ),
    )
    context.ledger.add_trials(
        context.search_id,
        [
            trial_record(
                context,
                config,
                trial_id=repeat,
                round_=BASELINE_ROUND,
                batch=BASELINE_BATCH,
                role="baseline",
                seed=finalist_seed(context.seed, repeat),
            )
            for repeat in range(context.spec.finalists.seeds)
        ],
    )


def run_baseline(context: SearchContext) -> None:
    """Train the baseline to its end and write down its interval."""
    trials = context.ledger.trials(context.search_id, role="baseline")
    if not trials:
        return
    _train(context, BASELINE_ROUND, BASELINE_BATCH, trials[0].horizon_epochs)
    if not context.ledger.events(context.search_id, "baseline"):
        trials = context.ledger.trials(context.search_id, role="baseline")
        context.event("baseline", _facts(context, trials))
    context.finish_round(BASELINE_ROUND)


def candidates(context: SearchContext, num: int) -> list[TrialRecord]:
    """Return the best trial of each of the `num` best configurations, at the longest length.

    Only finished trials of one horizon are compared: the longest that any search round reached.
    """
    complete = context.ledger.trials(context.search_id, role="search", states=["complete"])
    if not complete:
        return []
    longest = max(trial.horizon_epochs for trial in complete)
    groups = seeds_of([trial for trial in complete if trial.horizon_epochs == longest])
    objective = context.spec.objective_list[0]

    def cost(group: Sequence[TrialRecord]) -> tuple[float, int]:
        values = mean_values([values_of(trial.metrics, [objective]) for trial in group])
        finite = objective.cost(values[0]) if math.isfinite(values[0]) else math.inf
        return finite, group[0].trial_id

    return [group[0] for group in sorted(groups.values(), key=cost)[:num]]


def run_finalists(context: SearchContext, round_: int) -> None:
    """Re-train the finalists, choose the winner, evaluate and save it."""
    if context.is_finished(round_):
        return
    chosen = candidates(context, context.spec.finalists.trials)
    if not chosen:
        return
    _record_round(context, round_, chosen)
    _record_trials(context, round_, chosen)
    _train(context, round_, 0, chosen[0].horizon_epochs)
    trials = context.ledger.trials(context.search_id, round=round_)
    winner = _winner(context, trials)
    decided = {e.payload["round"] for e in context.ledger.events(context.search_id, "winner")}
    if winner and round_ not in decided:
        context.event("winner", _winner_facts(context, winner, round_))
    context.finish_round(round_)


def _record_round(context: SearchContext, round_: int, chosen: Sequence[TrialRecord]) -> None:
    if any(record.round == round_ for record in context.ledger.rounds(context.search_id)):
        return
    seeds = context.spec.finalists.seeds
    context.ledger.put_round(
        context.search_id,
        RoundRecord(
            round=round_,
            kind="finalists",
            sampler="given",
            sampler_reason=f"the best {len(chosen)} configurations, {seeds} seeds each",
            space={},
            epochs=chosen[0].horizon_epochs,
            planned_trials=len(chosen) * seeds,
            state="running",
            started_unix_s=context.now_unix_s(),
        ),
    )


def _record_trials(context: SearchContext, round_: int, chosen: Sequence[TrialRecord]) -> None:
    """Add what is missing; trials that step 7 trained with the same seeds become finalists."""
    missing = []
    for trial in chosen:
        trained = trained_with_finalist_seeds(context, trial.config_id)
        context.ledger.update_trials(
            context.search_id,
            [
                (known.trial_id, {"round": round_, "batch": 0, "role": "finalist"})
                for known in trained
                if known.round != round_
            ],
        )
        if not trained:
            missing.append(trial)
    next_id = context.ledger.next_trial_id(context.search_id)
    seeds = context.spec.finalists.seeds
    context.ledger.add_trials(
        context.search_id,
        [
            trial_record(
                context,
                TrialConfig.model_validate(dict(trial.config)),
                trial_id=next_id + place * seeds + repeat,
                round_=round_,
                batch=0,
                role="finalist",
                seed=finalist_seed(context.seed, repeat),
                params=trial.params,
                parent_trial=trial.trial_id,
            )
            for place, trial in enumerate(missing)
            for repeat in range(seeds)
        ],
    )


def _train(context: SearchContext, round_: int, batch: int, horizon: int) -> None:
    waiting = [
        trial
        for trial in context.ledger.trials(context.search_id, round=round_, batch=batch)
        if trial.state not in TERMINAL
    ]
    if waiting:
        flow = batch_flow(context, BatchPlan(round=round_, horizon_epochs=horizon), batch)
        Conductor(context).run(Flows(flow), max_open=1)


def _winner(context: SearchContext, trials: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Return the seeds of the configuration with the best mean; every seed must have finished."""
    objective = context.spec.objective_list[0]
    best: list[TrialRecord] = []
    best_cost = math.inf
    for group in seeds_of(trials).values():
        if any(trial.state != "complete" for trial in group):
            continue
        mean = mean_values([values_of(trial.metrics, [objective]) for trial in group])[0]
        if objective.cost(mean) < best_cost:
            best, best_cost = group, objective.cost(mean)
    return best


def _facts(context: SearchContext, trials: Sequence[TrialRecord]) -> dict[str, object]:
    """Return the interval of the primary objective over one configuration's seeds."""
    objective = context.spec.objective_list[0]
    values = [
        value
        for trial in trials
        if trial.state == "complete"
        and math.isfinite(value := values_of(trial.metrics, [objective])[0])
    ]
    facts: dict[str, object] = {
        "trial_ids": [trial.trial_id for trial in trials],
        "config_id": trials[0].config_id,
        "metric": objective.metric,
        "num_seeds": len(values),
    }
    if values:
        interval = t_interval(values)
        facts |= {"mean": interval.mean, "low": interval.low, "high": interval.high}
    return facts


def _winner_facts(
    context: SearchContext, group: Sequence[TrialRecord], round_: int
) -> dict[str, object]:
    """Evaluate the winner on the test rows, once, and save its weights for use."""
    objective = context.spec.objective_list[0]
    trials = [context.trial_of(record) for record in group]
    refs = context.ledger.checkpoints(context.search_id, [trial.trial_id for trial in trials])
    states = [load_lane(refs[trial.trial_id]) for trial in trials]
    dataset = load(trials[0].config.data)
    looks = context.ledger.count_test_look(context.search_id, f"winner of round {round_}")
    tests = [dict(found.metrics) for found in evaluate(states, trials, dataset, "test")]
    values = [objective.cost(values_of(record.metrics, [objective])[0]) for record in group]
    place = min(range(len(values)), key=lambda i: (values[i], i))
    from trainers.predictor import Predictor  # pandas: not needed before the last step

    path = save_predictor(
        context.out_dir / "weights.pt",
        Predictor.from_dataset(
            to_module(states[place], trials[place], dataset), trials[place].config, dataset
        ),
    )
    mean_test = {name: math.fsum(test[name] for test in tests) / len(tests) for name in tests[0]}
    return {
        **_facts(context, group),
        "round": round_,
        "test": mean_test,
        "tests": tests,
        "test_looks": looks,
        "weights": str(path),
        "weights_trial": group[place].trial_id,
    }


def save_predictor(path: Path, predictor: Predictor) -> Path:
    """Save a trained model with its scaler, ready for `result.best.load()`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    predictor.save(path)
    return path
