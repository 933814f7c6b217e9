"""A whole search, as one procedure that can be run again at any time.

Every step looks into the ledger first and does only what is missing there. So starting,
resuming after a kill and extending are all the same call.

    recipe checks (steps 1-3) -> baseline -> rounds (steps 4-7) -> finalists -> [extensions]
"""

from __future__ import annotations

from search_spaces import Space
from service.ledger.records import RoundRecord
from service.search.batches import settle
from service.search.checks import coarse_space, run_checks
from service.search.conductor import Conductor
from service.search.context import SearchContext, Stopped
from service.search.finalists import add_baseline, run_baseline, run_finalists
from service.search.gains import judge_gain, judge_round, train_incumbent
from service.search.goals import check_goals, note_energy
from service.search.housekeeping import tidy
from service.search.narrowing import refined_space
from service.search.programme import Programme, Stage
from service.search.prolonging import run_prolonging
from service.search.rounds import RoundSource, record_round
from service.search.samplers import choose_sampler, sampler_notes
from trainers.errors import RecipeStopped


def run_procedure(context: SearchContext) -> str:
    """Run what is missing of a search; return why it ended early, or an empty string.

    Raises:
        RecipeStopped: the recipe's first steps failed.
        Stopped: Ctrl-C or `isoflop stop`; a spent budget is no exception but a reason returned.

    """
    add_baseline(context)
    ended = ""
    try:
        run_checks(context)
        run_baseline(context)
        stages = Programme(context)
        for stage in stages:
            if stage.kind == "finalists":
                context.budget.reserve = 0.0
                run_finalists(context, stage.number)
            elif stage.kind == "prolong":
                run_prolonging(context, stage.number, stage.epochs)
            elif run_round(context, stage, no_more=stages.why_last(stage)):
                stages.go_on(stage)
            else:
                stages.skip_rounds()
            tidy(context)
    except RecipeStopped as error:
        context.end_open_rounds(str(error))
        settle(context, "the recipe stopped the search")
        raise
    except Stopped as stopped:
        if stopped.kind not in ("budget", "target"):
            raise
        ended = stopped.reason
        _finish_on_what_is_left(context, stopped)
    return ended


def _finish_on_what_is_left(context: SearchContext, stopped: Stopped) -> None:
    """Train the finalists with the share of the budget that was held back for them."""
    context.event("ended_early", {"kind": stopped.kind, "reason": stopped.reason})
    context.display.note(f"the search ends: {stopped.reason}")
    context.end_open_rounds(stopped.reason)
    settle(context, stopped.reason)
    context.budget.reserve = 0.0
    context.executor.proceed()
    try:
        run_finalists(context, _finalists_number(context))
    except Stopped as again:
        if again.kind not in ("budget", "target"):
            raise
        context.warn(f"the finalists were cut short: {again.reason}")
        context.end_open_rounds(again.reason)
        settle(context, again.reason)


def _finalists_number(context: SearchContext) -> int:
    """Return the number of the open finalists' round, or the next free one."""
    rounds = context.ledger.rounds(context.search_id)
    for record in reversed(rounds):
        if record.kind == "finalists" and record.state != "finished":
            return record.round
    return max((record.round for record in rounds), default=-1) + 1


def run_round(context: SearchContext, stage: Stage, *, no_more: str) -> bool:
    """Run one search round with its steps 4 or 5, 6 and 7; say whether to go on to the next.

    `no_more` says why no round can follow this one; empty where one can.
    """
    assert stage.spec is not None
    record = _round_record(context, stage)
    if record.state == "running":
        source = RoundSource(
            context,
            stage.number,
            stage.spec,
            Space.from_mapping(dict(record.space)),
            record.sampler,
        )
        max_open = context.batches_open if context.deterministic else None
        Conductor(context).run(source, max_open=max_open)
        if source.ended:
            context.warn(f"round {stage.number} ended early: {source.ended}")
        judge_round(context, stage.number)
        train_incumbent(context, stage.number)
        context.finish_round(stage.number, reason=source.ended)
    note_energy(context, stage.number)
    check_goals(context, stage.number)
    return judge_gain(context, stage.number, no_more=no_more)


def _round_record(context: SearchContext, stage: Stage) -> RoundRecord:
    """Return the round as recorded, or decide its space and sampler and record it."""
    assert stage.spec is not None
    for known in context.ledger.rounds(context.search_id):
        if known.round == stage.number:
            return known
    reasons: list[dict[str, object]]
    if stage.space is not None:
        space, reasons = stage.space, [{"text": "the space was given by the user"}]
    elif stage.number == 0:
        space, reasons = coarse_space(context)
    else:
        space, reasons = refined_space(context, stage.number, stage.spec)
    if stage.added:
        reasons = [{"text": stage.spec.reason}, *reasons]
    sampler, sampler_reason = str(stage.spec.sampler), "named in the spec"
    num_configs = stage.spec.trials or len(space.grid())
    epochs = stage.spec.epochs or context.spec.base.train.epochs
    if sampler == "auto":
        sampler, sampler_reason = choose_sampler(
            space,
            num_configs,
            context.spec.objective_list,
            epochs,
            round_index=stage.number,
        )
    reasons += [{"text": note} for note in sampler_notes(sampler, space)]
    for reason in reasons:
        context.display.note(f"round {stage.number}: {reason['text']}")
    context.display.note(
        f"round {stage.number}: {num_configs} trials of {epochs} epochs, "
        f"{sampler} ({sampler_reason})"
    )
    return record_round(
        context,
        stage.number,
        epochs=epochs,
        num_configs=num_configs,
        seeds=stage.spec.seeds,
        space=space,
        sampler=sampler,
        sampler_reason=sampler_reason,
        reasons=reasons,
    )
