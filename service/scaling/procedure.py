"""A whole study, as one procedure that can be run again at any time.

    open waves of the ledger, trained to their end -> the next wave, recorded -> ... -> nothing left

A wave is a round of the ledger, and a batch of it holds the trials of one group: lanes of the same
packs, whose budgets, learning rates and seeds differ.
"""

from __future__ import annotations

from collections.abc import Sequence

from service.ledger.records import RoundRecord, TrialRecord
from service.scaling.facts import PREDICTION, facts_of
from service.scaling.groups import Group, make_groups
from service.scaling.study_spec import StudySpec
from service.scaling.waves import NewTrial, StudyState, Wave
from service.search.batches import complete, settle
from service.search.conductor import ENDED, TERMINAL, Advance, Conductor, Flow, Flows
from service.search.context import SearchContext, Stopped
from service.search.goals import note_energy
from service.search.proposals import cost_of

LIMITS = ("`limits.min_updates`", "`limits.max_passes`")


class StudyProcedure:
    """Runs what is missing of a study; called by the session with its context."""

    def __init__(self, spec: StudySpec) -> None:
        self._spec = spec

    def __call__(self, context: SearchContext) -> str:
        """Run to the end; return why it ended early, or an empty string.

        Raises:
            Stopped: Ctrl-C or `isoflop stop`; a spent budget is no exception but a reason returned.

        """
        try:
            for number in _open_rounds(context):
                if context.ledger.trials(context.search_id, round=number):
                    _train(context, number)
            while (wave := self.state(context).next_wave()) is not None:
                _train(context, _record(context, wave))
        except Stopped as stopped:
            if stopped.kind != "budget":
                raise
            context.event("ended_early", {"kind": stopped.kind, "reason": stopped.reason})
            context.display.note(f"the study ends: {stopped.reason}")
            context.end_open_rounds(stopped.reason)
            settle(context, stopped.reason)
            return stopped.reason
        return ""

    def state(self, context: SearchContext) -> StudyState:
        """Return the study as the ledger has it now."""
        trials = context.ledger.trials(context.search_id)
        groups = groups_of(context, self._spec, trials)
        return StudyState(self._spec, groups, trials, seed=context.seed)


def groups_of(
    context: SearchContext, spec: StudySpec, trials: Sequence[TrialRecord]
) -> list[Group]:
    """Return the spec's groups and those that predictions ask for; say what is left out."""
    predictions = [e.payload for e in context.ledger.events(context.search_id, PREDICTION)]
    groups = make_groups(spec, trials, predictions)
    planned = [group for group in groups if group.planned]
    num_left_out = sum(len(group.left_out) for group in planned)
    if num_left_out:
        names = {limit for group in planned for limit in group.left_out.values()}
        limits = sorted({name for name in LIMITS if any(name in text for text in names)})
        context.warn(
            f"{num_left_out} of {len(planned) * len(spec.budgets)} combinations of model and "
            f"budget are left out by {' and '.join(limits)}; the plan lists them"
        )
    return groups


def _open_rounds(context: SearchContext) -> list[int]:
    rounds = context.ledger.rounds(context.search_id)
    return [record.round for record in rounds if record.state == "running"]


def _record(context: SearchContext, wave: Wave) -> int:
    """Write a wave's trials down, one batch per group, and return its round.

    The trials are one transaction after the round. A round without any was cut off between the
    two, and is taken again, so that numbers do not depend on kills.
    """
    ledger, search_id = context.ledger, context.search_id
    empty = [n for n in _open_rounds(context) if not ledger.trials(search_id, round=n)]
    rounds = ledger.rounds(search_id)
    number = empty[0] if empty else max((record.round for record in rounds), default=-1) + 1
    next_id = ledger.next_trial_id(search_id)
    batches: dict[str, int] = {}
    records = [
        trial_record(new, next_id + place, number, batches.setdefault(new.group.key, len(batches)))
        for place, new in enumerate(wave.trials)
    ]
    ledger.put_round(
        search_id,
        RoundRecord(
            round=number,
            kind="search",
            sampler=wave.sampler,
            sampler_reason=wave.why,
            space={},
            reasons=[{"text": f"{wave.name}: {wave.why}"}],
            epochs=max(record.horizon_epochs for record in records),
            planned_trials=len(records),
            state="running",
            started_unix_s=context.now_unix_s(),
        ),
    )
    ledger.add_trials(search_id, records)
    context.display.note(f"{wave.name}: {len(records)} trials ({wave.why})")
    return number


def trial_record(new: NewTrial, trial_id: int, round_: int, batch: int) -> TrialRecord:
    """Return a waiting trial as the ledger holds it, its costs counted."""
    config = new.config
    cost = cost_of(config)
    return TrialRecord(
        trial_id=trial_id,
        round=round_,
        batch=batch,
        role="search",
        config=config.full_mapping(),
        params=dict(new.params),
        config_id=config.fingerprint(),
        seed=new.seed,
        horizon_epochs=config.train.epochs,
        sampler_attrs=new.all_attrs(),
        parent_trial=new.parent_trial,
        num_params=cost.num_params,
        flops_per_epoch=cost.flops_per_epoch,
    )


def _train(context: SearchContext, number: int) -> None:
    """Train every batch of a round side by side, those with most work first."""
    trials = context.ledger.trials(context.search_id, round=number)
    by_batch: dict[int, list[TrialRecord]] = {}
    for trial in trials:
        if trial.state not in TERMINAL:
            by_batch.setdefault(trial.batch, []).append(trial)
    order = sorted(by_batch, key=lambda batch: (-_work(by_batch[batch]), batch))
    flows = [_flow(context, number, batch, _borders(by_batch[batch])) for batch in order]
    if flows:
        Conductor(context).run(Flows(*flows), max_open=len(flows))
    context.finish_round(number)
    note_energy(context, number)
    _tidy(context)


def _tidy(context: SearchContext) -> None:
    """Delete the states of runs that nothing will fork from or go on with."""
    ledger, search_id = context.ledger, context.search_id
    kept = {
        trial.trial_id
        for trial in ledger.trials(search_id)
        if trial.state not in TERMINAL or facts_of(trial).get("trunk")
    }
    for segment in ledger.segments(search_id):
        if segment.state in ENDED and not kept.intersection(segment.trial_ids):
            for path in context.checkpoint_dir.glob(f"{segment.segment_id}.*.pt"):
                path.unlink(missing_ok=True)


def _work(trials: Sequence[TrialRecord]) -> float:
    return sum((trial.flops_per_epoch or 0.0) * trial.horizon_epochs for trial in trials)


def _borders(trials: Sequence[TrialRecord]) -> list[int]:
    """Return the epochs at which a batch is saved: where others fork from it, and its end."""
    last = max(trial.horizon_epochs for trial in trials)
    forks = {
        int(epoch)
        for trial in trials
        for epoch in facts_of(trial).get("forks", ())
        if 0 < epoch < last
    }
    return [*sorted(forks), last]


def _flow(context: SearchContext, number: int, batch: int, borders: Sequence[int]) -> Flow:
    """Train one batch from border to border; each trial ends at its own horizon."""
    for rung, epoch in enumerate(borders):
        trials = context.ledger.trials(context.search_id, round=number, batch=batch)
        alive = [trial for trial in trials if trial.state not in TERMINAL]
        if alive:
            yield Advance(
                round=number,
                batch=batch,
                rung=rung,
                trial_ids=tuple(trial.trial_id for trial in alive),
                to_epoch=epoch,
            )
    complete(context, context.ledger.trials(context.search_id, round=number, batch=batch))
