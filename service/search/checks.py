"""The recipe's first three steps, run before the coarse round: loss, small sample, rates.

Their trials belong to round -1 and have roles of their own. They cost energy, which is booked,
but they count neither as trials of the budget nor as evidence for a sampler.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from search_spaces import Choice, Interval, Space, with_lr_interval
from service.ledger.records import RoundRecord, TrialRecord, TrialRole
from service.recipe.initial_loss import initial_loss, measure
from service.recipe.lr_sweep import WIDEST, combine_sweeps, judge_lr_sweep, plan_lr_sweep
from service.recipe.overfit import LossCurve, Plan, judge_overfit, plan_overfit
from service.recipe.record import Recipe, Verdict
from service.search.batches import BatchPlan, batch_flow
from service.search.conductor import Conductor, Flows
from service.search.context import SearchContext
from service.search.proposals import trial_record
from service.search.seeds import derived_seed
from service.search.spec import SearchSpec
from trainers.config import TrialConfig
from trainers.errors import RecipeStopped
from trainers.initialisation import initialise
from trainers.losses import resolve_loss
from trainers.models import build_model

CHECKS_ROUND = -1
OVERFIT_BATCH = 0
SWEEP_BATCH = 1
INITIAL_ROWS = 1000
LR = "optimizer.lr"


def recorded_verdicts(context: SearchContext) -> Recipe:
    """Return the verdicts reached so far."""
    events = context.ledger.events(context.search_id, "verdict")
    return Recipe(tuple(Verdict.from_mapping(event.payload) for event in events))


def record_verdict(context: SearchContext, verdict: Verdict, round_: int) -> None:
    """Write a verdict down and show it."""
    context.event("verdict", {**verdict.to_mapping(), "round": round_})
    mark = {True: "passed", False: "failed", None: "noted"}[verdict.passed]
    context.display.note(
        f"step {verdict.step} ({verdict.name}) {mark}: {verdict.verdict} - {verdict.reason}"
    )


def run_checks(context: SearchContext) -> Space:
    """Run steps 1 to 3 and return the coarse round's space.

    Raises:
        RecipeStopped: step 1 or 2 failed and the spec does not say to go on.
        Stopped: the search was asked to end.

    """
    recipe = recorded_verdicts(context)
    space = context.spec.space
    if not context.spec.recipe.checks:
        return space
    known = {verdict.step for verdict in recipe}
    reference = reference_config(context.spec)
    if 1 not in known:
        record_verdict(context, _initial_loss(context, reference), CHECKS_ROUND)
        _stop_if_blocked(context)
    if not {2, 3} <= known:
        overfit = plan_overfit(reference, len(context.dataset.x_train))
        sweeps = plan_sweeps(context.spec, reference, len(context.dataset.x_train))
        _train(context, overfit, sweeps)
        if 2 not in known:
            record_verdict(context, _overfit_verdict(context, overfit), CHECKS_ROUND)
        if 3 not in known:
            record_verdict(context, _sweep_verdict(context, sweeps), CHECKS_ROUND)
    _stop_if_blocked(context)
    return space


def coarse_space(context: SearchContext) -> tuple[Space, list[dict[str, object]]]:
    """Return the coarse round's space, its learning-rate interval set by the sweep, and why."""
    space = context.spec.space
    sweeps = recorded_verdicts(context).of_step(3)
    if not sweeps or LR not in space or "lo" not in sweeps[0].data:
        return space, []
    data = sweeps[0].data
    narrowed, reason = with_lr_interval(
        space, float(data["lo"]), float(data["hi"]), "learning-rate sweep"
    )
    return narrowed, [reason.to_mapping()]


def reference_config(spec: SearchSpec) -> TrialConfig:
    """Return the configuration that the checks train: the baseline, or the space's centre."""
    baseline = spec.baseline_config()
    return centre_config(spec) if baseline is None else baseline


def centre_config(spec: SearchSpec) -> TrialConfig:
    """Return the configuration in the middle of the space."""
    space = spec.space
    return spec.configure(space.from_unit([0.5] * len(space)) if len(space) else {})


def _stop_if_blocked(context: SearchContext) -> None:
    recipe = recorded_verdicts(context)
    if recipe.blocking is not None and not context.spec.recipe.continue_on_failure:
        raise RecipeStopped(recipe.advice())


def _initial_loss(context: SearchContext, config: TrialConfig) -> Verdict:
    """Step 1, in the driver: one forward and backward pass of an untrained net."""
    dataset = context.dataset
    model = build_model(config.model, dataset.input_shape, dataset.num_outputs)
    initialise(
        model,
        config.init,
        config.model.initial_activation,
        derived_seed(context.seed, "initial loss"),
    )
    loss = resolve_loss(config.train.loss, dataset.task)
    facts = measure(model, dataset.x_train[:INITIAL_ROWS], dataset.y_train[:INITIAL_ROWS], loss)
    return initial_loss(
        facts,
        dummy_loss=dataset.dummy_loss(config.train.loss),
        num_outputs=dataset.num_outputs,
        loss=loss,
    )


@dataclass(frozen=True)
class Sweep:
    """The rates of one optimizer, as lanes beside each other."""

    name: str
    plan: Plan


def plan_sweeps(spec: SearchSpec, reference: TrialConfig, num_train_rows: int) -> list[Sweep]:
    """Plan one sweep per optimizer that the space offers."""
    kinds = spec.space.get("optimizer.kind")
    names = list(kinds.values) if isinstance(kinds, Choice) else [reference.optimizer.kind]
    lr = spec.space.get(LR)
    limits = (lr.limits or (lr.low, lr.high)) if isinstance(lr, Interval) else WIDEST
    return [
        Sweep(
            str(name),
            plan_lr_sweep(
                reference.with_values({"optimizer.kind": name}), num_train_rows, limits=limits
            ),
        )
        for name in names
    ]


def _train(context: SearchContext, overfit: Plan, sweeps: Sequence[Sweep]) -> None:
    """Train the trials of steps 2 and 3 side by side."""
    groups = [("overfit", OVERFIT_BATCH, overfit)]
    groups += [("sweep", SWEEP_BATCH + i, sweep.plan) for i, sweep in enumerate(sweeps)]
    context.ledger.put_round(
        context.search_id,
        RoundRecord(
            round=CHECKS_ROUND,
            kind="recipe",
            sampler="grid",
            sampler_reason="the recipe's checks try given learning rates",
            space={},
            epochs=max(plan.configs[0].train.epochs for _, _, plan in groups),
            planned_trials=sum(len(plan.configs) for _, _, plan in groups),
            state="running",
            started_unix_s=context.now_unix_s(),
        ),
    )
    flows = []
    for role, batch, plan in groups:
        _record(context, plan.configs, role, batch)
        horizon = plan.configs[0].train.epochs
        flows.append(
            batch_flow(context, BatchPlan(round=CHECKS_ROUND, horizon_epochs=horizon), batch)
        )
    Conductor(context).run(Flows(*flows), max_open=len(flows))
    context.finish_round(CHECKS_ROUND)


def _record(
    context: SearchContext, configs: Iterable[TrialConfig], role: TrialRole | str, batch: int
) -> None:
    if context.ledger.trials(context.search_id, round=CHECKS_ROUND, batch=batch):
        return
    next_id = context.ledger.next_trial_id(context.search_id)
    context.ledger.add_trials(
        context.search_id,
        [
            trial_record(
                context,
                config,
                trial_id=next_id + position,
                round_=CHECKS_ROUND,
                batch=batch,
                role=role,  # type: ignore[arg-type]  # one of TrialRole's words
                seed=derived_seed(context.seed, "checks"),
                params={LR: config.optimizer.lr},
            )
            for position, config in enumerate(configs)
        ],
    )


def _loss_curves(context: SearchContext, batch: int) -> list[LossCurve]:
    trials = context.ledger.trials(context.search_id, round=CHECKS_ROUND, batch=batch)
    losses: dict[int, list[float]] = {trial.trial_id: [] for trial in trials}
    for trial_id, _epoch, _status, metrics in context.ledger.epoch_rows(
        context.search_id, list(losses)
    ):
        losses[trial_id].append(metrics["train_loss"])
    return [_curve(trial, losses[trial.trial_id]) for trial in trials]


def _curve(trial: TrialRecord, losses: Sequence[float]) -> LossCurve:
    return LossCurve(
        lr=float(trial.params[LR]),
        losses=losses,
        diverged=trial.state in ("diverged", "failed"),
    )


def _overfit_verdict(context: SearchContext, plan: Plan) -> Verdict:
    config = plan.configs[0]
    return judge_overfit(
        _loss_curves(context, OVERFIT_BATCH),
        dummy_loss=context.dummy_loss(config),
        num_rows=config.data.num_train or len(context.dataset.x_train),
    )


def _sweep_verdict(context: SearchContext, sweeps: Sequence[Sweep]) -> Verdict:
    first = recorded_verdicts(context).of_step(1)
    start_loss = first[0].data.get("loss") if first else None
    fixed = None if LR in context.spec.space else context.spec.base.optimizer.lr
    verdicts = {
        sweep.name: judge_lr_sweep(
            _loss_curves(context, SWEEP_BATCH + i),
            start_loss=float(
                start_loss if start_loss is not None else context.dummy_loss(sweep.plan.configs[0])
            ),
            dummy_loss=context.dummy_loss(sweep.plan.configs[0]),
            fixed_lr=fixed,
        )
        for i, sweep in enumerate(sweeps)
    }
    if len(verdicts) == 1:
        return next(iter(verdicts.values()))
    return combine_sweeps(verdicts)
