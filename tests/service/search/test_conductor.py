"""The conductor: what is issued when, and what follows from what workers say."""

from __future__ import annotations

from collections import deque

import pytest
from bare_context import bare_context, put_trial

from service.messages import Began, Border, Failed, Finished, Planned
from service.search.batches import BatchPlan, batch_flow
from service.search.conductor import Conductor
from service.search.context import Stopped
from service.search.segment import name_of
from trainers.trial import CheckpointRef, EpochRow, ExecutionPlan


class Script:
    """An executor that has trained a segment as soon as it is submitted."""

    num_workers = 2

    def __init__(self, signature_of, deaths=()) -> None:
        self.orders = []
        self._signature_of = signature_of
        self._deaths = set(deaths)
        self._messages = deque()

    def submit(self, order):
        self.orders.append(order)
        name = name_of(order)
        self._messages.append(Began(**name, host="here", pid=1))
        ids = {trial.trial_id for trial in order.trials}
        if ids & self._deaths:
            death = {"error": "the worker died", "worker_died": True, "began": True}
            self._messages.append(Failed(**name, **death))
            return
        if order.plan is None:
            self._messages.append(Planned(**name, plan=plan_of(self._signature_of(order))))
        self._messages.append(self._border(order, name))
        self._messages.append(Finished(**name, seconds=0.0))

    def _border(self, order, name):
        rows, refs = [], []
        for lane, (trial, start) in enumerate(zip(order.trials, order.start, strict=True)):
            for epoch in range((start.epoch if start else 0) + 1, order.stop_epoch + 1):
                ended = epoch == trial.config.train.epochs
                status = "finished" if ended else "running"
                metrics = {"val_error": trial.trial_id / 100, "val_loss": 1.0, "train_loss": 1.0}
                rows.append(
                    EpochRow(
                        trial_id=trial.trial_id, epoch=epoch, metrics=metrics, status=status,
                        reason="", busy_s=0.0,
                    )
                )  # fmt: skip
            refs.append(
                CheckpointRef(
                    trial_id=trial.trial_id, epoch=order.stop_epoch, path=__file__, lane=lane,
                    sha256="0", num_bytes=1,
                )
            )  # fmt: skip
        return Border(**name, sequence=0, rows=tuple(rows), checkpoints=tuple(refs), usage=())

    def next_message(self, timeout_s):
        return self._messages.popleft() if self._messages else None

    def interrupt(self): ...

    @property
    def idle_workers(self):
        return 0


def plan_of(signature):
    return ExecutionPlan(
        signature=signature, tier="kernels", fuse_width=8, max_lanes=64, num_threads=1,
        dtype="float32", device="cpu", reasons={},
    )  # fmt: skip


class Batches:
    """A source of batches 0, 1, ... that notes when each was taken."""

    def __init__(self, context, count, plan):
        self._context, self._count, self._plan = context, count, plan
        self.taken = []

    @property
    def exhausted(self):
        return len(self.taken) == self._count

    def next_flow(self):
        ended = {t.batch for t in self._context.ledger.trials(self._context.search_id)
                 if t.state == "complete"}  # fmt: skip
        self.taken.append(ended)
        return batch_flow(self._context, self._plan, len(self.taken) - 1)


@pytest.fixture
def context(tmp_path):
    context = bare_context(tmp_path)
    for trial_id in range(8):
        put_trial(context, trial_id, 0.01 * (trial_id + 1), batch=trial_id // 2, state="waiting")
    return context


def conduct(context, *, num_batches=4, deaths=(), max_open=2, plan=None):
    def signature_of(order):
        (record, *_) = context.ledger.trials(
            context.search_id, trial_ids=[order.trials[0].trial_id]
        )
        return context.signature_of(record)

    context.executor = Script(signature_of, deaths)
    source = Batches(context, num_batches, plan or BatchPlan(round=0, horizon_epochs=4))
    Conductor(context).run(source, max_open=max_open)
    return context.executor.orders, source


def states(context):
    return [trial.state for trial in context.ledger.trials(context.search_id)]


def test_every_trial_is_trained_once_to_its_horizon(context):
    orders, _ = conduct(context)
    trained = [trial.trial_id for order in orders for trial in order.trials]
    assert sorted(trained) == list(range(8))
    assert {order.attempt for order in orders} == {1}
    assert states(context) == ["complete"] * 8


def test_a_batch_is_taken_when_the_one_two_before_it_has_ended(context):
    _, source = conduct(context)
    for number, ended in enumerate(source.taken):
        assert set(range(number - 1)) <= ended


def test_one_segment_measures_the_plan_that_all_later_ones_use(context):
    orders, _ = conduct(context)
    assert [order.plan is None for order in orders] == [True] + [False] * (len(orders) - 1)
    assert len(context.ledger.plans(context.search_id)) == 1


def test_rungs_start_from_checkpoints_and_train_only_the_promoted(context):
    from service.search.spec import HalvingSpec

    plan = BatchPlan(round=0, horizon_epochs=4, halving=HalvingSpec(eta=2, first_epoch=2))
    orders, _ = conduct(context, plan=plan)
    first = [order for order in orders if order.stop_epoch == 2]
    second = [order for order in orders if order.stop_epoch == 4]
    assert all(ref is None for order in first for ref in order.start)
    assert all(ref is not None and ref.epoch == 2 for order in second for ref in order.start)
    assert sorted(t.trial_id for order in second for t in order.trials) == [0, 2, 4, 6]
    assert states(context) == ["complete", "pruned"] * 4


def test_a_poisonous_trial_fails_alone_and_each_attempt_has_a_higher_number(context):
    orders, _ = conduct(context, deaths=[3])
    assert states(context) == ["complete"] * 3 + ["failed"] + ["complete"] * 4
    attempts = [o.attempt for o in orders if any(t.trial_id == 3 for t in o.trials)]
    assert attempts == sorted(set(attempts))
    assert len(context.ledger.events(context.search_id, "retry")) == len(attempts)


def test_what_is_in_the_ledger_is_not_done_again(context):
    first, _ = conduct(context, num_batches=2)
    again, _ = conduct(context, num_batches=4)
    assert sum(len(order.trials) for order in first) == 4
    assert sorted(t.trial_id for order in again for t in order.trials) == [4, 5, 6, 7]


def test_nothing_new_is_issued_once_the_search_was_asked_to_stop(context):
    context.ledger.request_stop(context.search_id, "by ada on a page")
    with pytest.raises(Stopped, match=r"^stopped by ada on a page$"):
        conduct(context)
    assert context.executor.orders == []
    assert states(context) == ["waiting"] * 8
