"""One round: a space, a sampler and a number of configurations, asked batch by batch.

A sampler's proposals are a function of (search seed, round, batch, what it was told). In the
deterministic mode batch b is told of batches up to b - 2 as they ended, and of batch b - 1 as
running, whatever the timing; so the next batch is proposed while the last one trains.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from search_spaces import Space
from service.ledger.records import RoundRecord, TrialRecord
from service.search.bar import Bar
from service.search.batches import BatchPlan, batch_flow
from service.search.conductor import Flow
from service.search.context import SearchContext
from service.search.goals import has_ended, target_reached
from service.search.housekeeping import tidy_when_due
from service.search.proposals import Refusal, seeds_of, trial_record
from service.search.samplers import Ask, Handle, choose_batch_size, deterministic_view
from service.search.seeds import trial_seed
from service.search.spec import RoundSpec
from service.search.telling import Teller


@dataclass
class RoundSource:
    """Hands the conductor one flow per batch, asking the sampler ahead."""

    context: SearchContext
    round: int
    spec: RoundSpec
    space: Space
    sampler: str
    ended: str = ""
    """Why the round ended before its planned number of configurations, or empty."""
    _batch: int = 0
    _asked: int = 0
    _asking: Handle | None = None
    _searched: int = 0
    """Batches that the target was looked for in."""

    def __post_init__(self) -> None:
        self._teller = Teller(self.context)
        self._bar = Bar(self.context, self.round)

    @property
    def plan(self) -> BatchPlan:
        """How this round's batches are trained."""
        return BatchPlan(
            round=self.round,
            horizon_epochs=self._epochs,
            halving=self.spec.halving,
            bar=self._bar,
        )

    @property
    def exhausted(self) -> bool:
        """Whether every batch was handed out."""
        if self.ended or self._asked >= self._planned:
            return True
        self.ended = self._target_reached()
        return bool(self.ended)

    def _target_reached(self) -> str:
        """Look into each batch once, when it must have ended whatever the timing."""
        ended = ""
        while not ended and self._searched <= self._batch - self.context.batches_open:
            if not has_ended(self.context, self.round, self._searched):
                break
            ended = target_reached(self.context, self.round, self._searched)
            self._searched += 1
        return ended

    @property
    def _epochs(self) -> int:
        assert self.spec.epochs is not None
        return self.spec.epochs

    @property
    def _planned(self) -> int:
        """Number of configurations; a grid that names none tries every point."""
        if self.spec.trials is not None:
            return self.spec.trials
        return len(self.space.grid())

    def next_flow(self) -> Flow | None:
        """Return the next batch's flow; None while the sampler thinks, or when exhausted."""
        if self.exhausted:
            return None
        recorded = self.context.ledger.trials(
            self.context.search_id, round=self.round, batch=self._batch
        )
        if not recorded:
            asks = self._propose()
            if not asks:
                return None
            recorded = self._record(asks)
        tidy_when_due(self.context)
        self._asked += len(seeds_of(recorded))
        self._batch += 1
        return batch_flow(self.context, self.plan, self._batch - 1)

    def _propose(self) -> list[Ask]:
        """Return a batch of proposals, or nothing while the sampler thinks or has no more."""
        size = choose_batch_size(self.sampler, self._planned)[0]
        wanted = min(size, self._planned - self._asked)
        given = self._given()[:wanted] if self._batch == 0 else []
        if len(given) == wanted:
            return given
        if self._asking is None:
            self._asking = self._ask(wanted - len(given), given)
        if not self._asking.done():
            return []
        asked, self._asking = self._asking.result(), None
        if asked.exhausted:
            self.ended = asked.exhausted
        if asked.reason:
            self.context.warn(f"round {self.round} uses {asked.sampler}: {asked.reason}")
        return [*given, *asked]

    def _given(self) -> list[Ask]:
        """Return the configurations that the user wants tried first, in round 0."""
        if self.round != 0:
            return []
        return [Ask(params=dict(params)) for params in self.context.spec.start_configs()]

    def _ask(self, num: int, given: Sequence[Ask]) -> Handle:
        told = self._teller.told()
        if self.context.deterministic:
            told = deterministic_view(told, self.round, self._batch)
        bounded = any(c.known_before_training for c in self.context.spec.constraint_list)
        return self.context.samplers.ask_async(
            self.sampler,
            self.space,
            told,
            num,
            self.context.seed,
            objectives=self.context.spec.objective_list,
            round_index=self.round,
            batch=self._batch,
            horizon_epochs=self._epochs,
            num_planned=self._planned,
            avoid=[ask.params for ask in given],
            refuse=Refusal(self.context.spec, self._epochs) if bounded else None,
        )

    def _seed(self, fixed: int | None, position: int, repeat: int) -> int:
        """Return a trial's seed: its own, or the one that `train.seed` fixes for a first run."""
        if fixed is not None and repeat == 0:
            return fixed
        return trial_seed(self.context.seed, self.round, self._batch, position, repeat)

    def _record(self, asks: Sequence[Ask]) -> list[TrialRecord]:
        """Write a batch of trials, every seed of every configuration, in one transaction."""
        context = self.context
        next_id = context.ledger.next_trial_id(context.search_id)
        records: list[TrialRecord] = []
        for position, ask in enumerate(asks):
            config = context.spec.configure(ask.params, epochs=self._epochs)
            for repeat in range(self.spec.seeds):
                records.append(
                    trial_record(
                        context,
                        config,
                        trial_id=next_id + len(records),
                        round_=self.round,
                        batch=self._batch,
                        role="search",
                        seed=self._seed(config.train.seed, position, repeat),
                        params=ask.params,
                        sampler_attrs=ask.attrs,
                    )
                )
        context.ledger.add_trials(context.search_id, records)
        return records


def record_round(
    context: SearchContext,
    round_: int,
    *,
    epochs: int,
    num_configs: int,
    seeds: int,
    space: Space,
    sampler: str,
    sampler_reason: str,
    reasons: Sequence[dict[str, object]],
) -> RoundRecord:
    """Write down a round before its first trial, or return it as it was written."""
    for known in context.ledger.rounds(context.search_id):
        if known.round == round_:
            return known
    record = RoundRecord(
        round=round_,
        kind="search",
        sampler=sampler,
        sampler_reason=sampler_reason,
        space=space.to_mapping(),
        reasons=list(reasons),
        epochs=epochs,
        planned_trials=num_configs * seeds,
        state="running",
        started_unix_s=context.now_unix_s(),
    )
    context.ledger.put_round(context.search_id, record)
    return record
