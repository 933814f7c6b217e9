"""Bring trials to their next epoch: issue segments, apply what workers say, retry what fails.

A *flow* is a generator that yields what it needs next (an `Advance`) and is resumed when every
trial of it has got there, has failed or has diverged. The conductor keeps several flows open so
that workers stay busy, and knows nothing of why trials are trained.

Everything a flow needs to go on is in the ledger, so killing the driver at any instant and
running the same flows again continues where the last durable border was.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Protocol

from service.ledger.records import SegmentRecord
from service.messages import (
    AnyMessage,
    Began,
    Border,
    Failed,
    Finished,
    Interrupted,
    Planned,
    Progress,
    SegmentOrder,
)
from service.search.context import SearchContext, Stopped
from service.search.packer import pack
from service.search.retry import RetryPolicy
from service.search.segment import DAMAGED
from service.search.steering import TrialStops

POLL_S = 0.2
LOOK_EVERY_S = 1.0
"""How often the ledger is asked what others want of this search."""
PENDING_POLL_S = 0.01
"""How often a sampler that is thinking is asked whether it is done."""
ENDED = {"done", "split", "failed", "cancelled"}
TERMINAL = {"complete", "pruned", "diverged", "failed", "infeasible", "stopped"}


@dataclass(frozen=True, kw_only=True)
class Advance:
    """A flow's wish: train these trials to `to_epoch`."""

    round: int
    batch: int
    rung: int
    trial_ids: tuple[int, ...]
    to_epoch: int


Flow = Generator[Advance, None, None]


class FlowSource(Protocol):
    """Where flows come from, one after the other."""

    @property
    def exhausted(self) -> bool:
        """Whether there will be no further flow."""
        ...

    def next_flow(self) -> Flow | None:
        """Return the next flow, or None: not ready yet, or exhausted. Never waits."""
        ...


@dataclass
class OpenFlow:
    """A flow that waits for segments."""

    number: int
    flow: Flow
    waiting_for: set[str] = field(default_factory=set)


class Conductor:
    """Run flows to their end over one executor."""

    def __init__(self, context: SearchContext) -> None:
        self._context = context
        self._flows: dict[int, OpenFlow] = {}
        self._waiting: list[tuple[int, SegmentRecord]] = []
        self._running: dict[str, tuple[int, SegmentRecord]] = {}
        self._leaders: dict[str, str] = {}  # signature -> segment that measures its plan
        self._signatures: dict[str, str] = {}
        self._began: dict[str, tuple[Began, float]] = {}
        self._plans = dict(context.ledger.plans(context.search_id))
        self._policy = RetryPolicy()
        self._stops = TrialStops(context)
        self._regrouping = False  # segments save, so that trials can be taken out of them
        self._stopping: Stopped | None = None
        self._last_look_s = 0.0

    def run(self, source: FlowSource, *, max_open: int | None) -> None:
        """Run every flow of a source to its end.

        Args:
            source: gives flows one by one, when it is ready.
            max_open: flow k is taken only when flow k - max_open has ended, so that what a
                sampler knows does not depend on timing; None: taken whenever a worker is idle.

        Raises:
            Stopped: the user, another process or the budget asked to stop; all is saved.

        """
        taken = 0
        while True:
            pending = False
            while self._stopping is None and not source.exhausted and not pending:
                if not self._may_open(taken, max_open):
                    break
                flow = source.next_flow()
                pending = flow is None and not source.exhausted
                if flow is not None:
                    self._open(taken, flow)
                    taken += 1
            self._issue()
            if self._stopping is not None and not self._running:
                raise self._stopping
            if self._regrouping and not self._running:
                self._regroup()
            if not self._flows and source.exhausted:
                return
            waits_for_sampler = pending and not self._running
            started_s = time.monotonic()
            self._listen(PENDING_POLL_S if pending else POLL_S)
            if waits_for_sampler:
                self._context.samplers.waited_s += time.monotonic() - started_s

    def _may_open(self, taken: int, max_open: int | None) -> bool:
        if max_open is None:
            return len(self._running) + len(self._waiting) < self._context.executor.num_workers
        return not self._flows or taken - min(self._flows) < max_open

    def _open(self, number: int, flow: Flow) -> None:
        self._flows[number] = OpenFlow(number, flow)
        self._step(number)

    def _step(self, number: int) -> None:
        """Resume a flow until it has something to wait for, or ends."""
        open_flow = self._flows[number]
        for advance in open_flow.flow:
            segments = self._segments_for(advance)
            open_flow.waiting_for = {segment.segment_id for segment in segments}
            self._waiting += [(number, segment) for segment in segments]
            self._waiting.sort(key=lambda item: item[0])
            if segments:
                return
        del self._flows[number]

    def _segments_for(self, advance: Advance) -> list[SegmentRecord]:
        """Return the unfinished segments of an advance, as first planned and recorded."""
        ledger, search_id = self._context.ledger, self._context.search_id

        def recorded() -> list[SegmentRecord]:
            return ledger.segments(
                search_id, round=advance.round, batch=advance.batch, rung=advance.rung
            )

        if not recorded():
            trials = ledger.trials(search_id, trial_ids=advance.trial_ids)
            todo = [
                trial
                for trial in trials
                if trial.state not in TERMINAL
                and trial.epochs_done < advance.to_epoch
                and not trial.stopped_early
            ]
            segments = pack(
                todo,
                self._context.signature_of,
                self._plans,
                round_=advance.round,
                batch=advance.batch,
                rung=advance.rung,
                stop_epoch=advance.to_epoch,
            )
            ledger.add_segments(search_id, segments)
        return [segment for segment in recorded() if segment.state not in ENDED]

    def _issue(self) -> None:
        """Submit waiting segments while workers can take them, earlier flows first."""
        num_workers = self._context.executor.num_workers
        at_once = num_workers + (1 if num_workers > 1 else 0)
        for item in list(self._waiting):
            if len(self._running) >= at_once or self._regrouping or self._should_stop():
                return
            if not self._waits_for_a_plan(item[1]):
                self._waiting.remove(item)
                self._submit(*item)

    def _waits_for_a_plan(self, segment: SegmentRecord) -> bool:
        """Let one segment of an unknown signature measure a plan before the others start."""
        signature = self._signature(segment)
        if signature in self._plans:
            return False
        leader = self._leaders.setdefault(signature, segment.segment_id)
        return leader != segment.segment_id

    def _signature(self, segment: SegmentRecord) -> str:
        if segment.segment_id not in self._signatures:
            first = self._context.ledger.trials(
                self._context.search_id, trial_ids=segment.trial_ids[:1]
            )[0]
            self._signatures[segment.segment_id] = self._context.signature_of(first)
        return self._signatures[segment.segment_id]

    def _submit(self, number: int, segment: SegmentRecord) -> None:
        context = self._context
        trials = context.ledger.trials(context.search_id, trial_ids=segment.trial_ids)
        todo = [trial for trial in trials if trial.state not in TERMINAL]
        if not todo:
            self._end(number, segment.segment_id, "done")
            return
        attempt = context.ledger.begin_attempt(context.search_id, segment.segment_id)
        order = SegmentOrder(
            search_id=context.search_id,
            segment_id=segment.segment_id,
            attempt=attempt,
            trials=tuple(context.trial_of(trial) for trial in todo),
            start=context.start_of(todo),
            stop_epoch=segment.stop_epoch,
            checkpoint_dir=str(context.checkpoint_dir),
            plan=self._plans.get(context.signature_of(todo[0])),
            device=context.spec.resources.device,
            save_every_epochs=context.spec.resources.save_every_epochs,
        )
        context.ledger.update_trials(
            context.search_id, [(trial.trial_id, {"state": "running"}) for trial in todo]
        )
        self._running[segment.segment_id] = (number, segment)
        context.executor.submit(order)

    def _listen(self, timeout_s: float) -> None:
        """Apply what workers said, in one transaction, then act on it."""
        context = self._context
        messages = self._gather(timeout_s)
        durable = [message for message in messages if not isinstance(message, Progress)]
        if durable:
            context.ledger.apply_many(durable)
        for message in messages:
            self._act(message)
        if any(isinstance(message, Border) for message in messages):
            context.energy.mark()
        now = time.monotonic()
        if now - self._last_look_s > LOOK_EVERY_S:
            self._last_look_s = now
            context.energy.flush()
            context.follow_allowance(len(self._running))
            self._look_for_trial_stops()
            self._should_stop()
        context.display.tick(context)

    def _gather(self, timeout_s: float) -> list[AnyMessage]:
        messages: list[AnyMessage] = []
        message = self._context.executor.next_message(timeout_s)
        while message is not None:
            messages.append(message)
            message = self._context.executor.next_message(0.0)
        return messages

    def _act(self, message: AnyMessage) -> None:
        if isinstance(message, (Progress, Border)):
            self._context.display.epochs(message.rows)
        elif isinstance(message, Began):
            self._began[message.segment_id] = (message, time.monotonic())
            self._context.energy.worker_began(message.host, message.pid)
        elif isinstance(message, Planned):
            plan = self._context.ledger.put_plan(self._context.search_id, message.plan)
            self._plans[plan.signature] = plan
        elif isinstance(message, (Finished, Failed, Interrupted)):
            running = self._running.pop(message.segment_id, None)
            if running is None:
                return
            number, segment = running
            if isinstance(message, Finished):
                self._end(number, segment.segment_id, "done")
            elif isinstance(message, Failed):
                self._retry(number, segment, message)
            elif self._regrouping:
                self._waiting.insert(0, (number, segment))

    def _end(self, number: int, segment_id: str, state: str) -> None:
        """Record a segment's end, forget it, and resume its flow if it was the last."""
        self._context.ledger.update_segment(self._context.search_id, segment_id, state=state)
        self._leaders = {
            signature: leader for signature, leader in self._leaders.items() if leader != segment_id
        }
        open_flow = self._flows[number]
        open_flow.waiting_for.discard(segment_id)
        if not open_flow.waiting_for:
            self._step(number)

    def _retry(self, number: int, segment: SegmentRecord, failed: Failed) -> None:
        """Issue the segment again, split it, or fail its one trial, as the retry policy decides."""
        context = self._context
        self._book_lost(segment, failed)
        if failed.error.startswith(DAMAGED) and self._starts_anew(segment):
            self._waiting.insert(0, (number, segment))
            return
        decision = self._policy.decide(segment, failed)
        context.ledger.add_event(
            context.search_id,
            "retry",
            {"segment": segment.segment_id, "error": failed.error, "decision": decision.reason},
        )
        if decision.again:
            self._waiting.insert(0, (number, decision.again[0]))
        elif decision.children:
            children = decision.children
            context.ledger.split_segment(context.search_id, segment.segment_id, children)
            self._flows[number].waiting_for |= {child.segment_id for child in children}
            self._waiting = [(number, child) for child in children] + self._waiting
            self._end(number, segment.segment_id, "split")
        else:
            context.ledger.update_trials(
                context.search_id,
                [
                    (trial_id, {"state": "failed", "reason": decision.reason})
                    for trial_id in segment.trial_ids
                ],
            )
            context.display.note(decision.reason)
            self._end(number, segment.segment_id, "failed")

    def _starts_anew(self, segment: SegmentRecord) -> bool:
        """Leave altered checkpoints alone, if that is why the segment failed; say so."""
        context = self._context
        trials = context.ledger.trials(context.search_id, trial_ids=segment.trial_ids)
        damaged = context.drop_damaged([t for t in trials if t.state not in TERMINAL])
        if damaged:
            context.warn(
                f"checkpoints of trials {', '.join(map(str, damaged))} are truncated or altered: "
                "these trials are trained again from their beginning"
            )
        return bool(damaged)

    def _book_lost(self, segment: SegmentRecord, failed: Failed) -> None:
        """Book what a dead worker had used as wasted; a living one said so in its borders."""
        began = self._began.pop(segment.segment_id, None)
        if began is not None and failed.worker_died and failed.began:
            message, since_s = began
            self._context.energy.book_lost(
                host=message.host, pid=message.pid, trial_ids=segment.trial_ids, since_s=since_s
            )

    def _should_stop(self) -> bool:
        """Look for a reason to end; at the first, nothing new starts and what runs saves."""
        if self._stopping is None:
            self._stopping = self._context.reason_to_stop()
            if self._stopping is not None and not self._regrouping:  # twice would lose the epoch
                self._context.executor.interrupt()
        return self._stopping is not None

    def _look_for_trial_stops(self) -> None:
        """Stop trials that somebody asked to; the other trials of their segments go on.

        Running segments finish their epoch and save, and are issued again without them. Packing
        never changes a result, so the others give the numbers that they would have given.
        """
        if self._regrouping or self._stopping is not None:
            return
        segments = (segment for _, segment in self._running.values())
        in_training = {trial_id for segment in segments for trial_id in segment.trial_ids}
        if self._stops.mark(in_training):
            self._regrouping = True
            self._context.executor.interrupt()

    def _regroup(self) -> None:
        self._regrouping = False
        self._stops.mark(frozenset())
        self._context.executor.proceed()


class Flows:
    """A source of flows that are all there from the start."""

    def __init__(self, *flows: Flow) -> None:
        self._left = list(flows)

    @property
    def exhausted(self) -> bool:
        """Whether every flow was handed out."""
        return not self._left

    def next_flow(self) -> Flow | None:
        """Return the next flow."""
        return self._left.pop(0) if self._left else None
