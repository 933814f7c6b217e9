"""A search that shares its cluster, and trials that somebody stops while it runs."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

import pytest
from bare_context import bare_context, put_trial
from small_search import small_spec

from service import run_search
from service.ledger import Ledger
from service.messages import Border, Finished, Interrupted, Planned
from service.search.batches import BatchPlan, batch_flow
from service.search.budget import BudgetKeeper
from service.search.conductor import Conductor, Flows
from service.search.halving import rungs
from service.search.segment import name_of
from service.search.spec import HalvingSpec
from trainers.trial import CheckpointRef, EpochRow, ExecutionPlan


class Epochs:
    """An executor of two workers that trains one epoch of each running segment per message.

    It saves when it is interrupted, as real ones do, and says who held workers when.
    """

    def __init__(self, signature_of, num_workers=2) -> None:
        self.num_workers = num_workers
        self.orders, self.held, self.saved, self.epoch = [], [], [], 0
        self._signature_of = signature_of
        self._running, self._begun, self._said = {}, set(), deque()
        self._stopping = False
        self.on_epoch = lambda epoch: None

    def submit(self, order):
        self.orders.append(order)
        first = min((ref.epoch if ref else 0 for ref in order.start), default=0)
        self._running[order.segment_id] = [order, first]
        if order.plan is None:
            plan = ExecutionPlan(
                signature=self._signature_of(order), tier="kernels", fuse_width=8, max_lanes=64,
                num_threads=1, dtype="float32", device="cpu", reasons={},
            )  # fmt: skip
            self._said.append(Planned(**name_of(order), plan=plan))

    def next_message(self, timeout_s):
        if not self._said and timeout_s > 0:
            self._train()
        return self._said.popleft() if self._said else None

    def _train(self):
        self.epoch += 1
        for segment_id in self._running:
            if len(self._begun) < self.num_workers:
                self._begun.add(segment_id)
        self.held.append(len(self._begun))
        for segment_id, entry in list(self._running.items()):
            if segment_id not in self._begun:
                continue
            order, done = entry[0], entry[1] + 1
            entry[1] = done
            if done == order.stop_epoch or self._stopping:
                self._said.append(_border(order, done))
                ended = done == order.stop_epoch
                name = name_of(order)
                self._said.append(Finished(**name, seconds=0) if ended else Interrupted(**name))
                self.saved.append((order.attempt, done))
                del self._running[segment_id]
                self._begun.discard(segment_id)
        self.on_epoch(self.epoch)

    def interrupt(self):
        assert not self._stopping, "a second interrupt would give the epoch up"
        self._stopping = True
        for segment_id in set(self._running) - self._begun:
            self._said.append(Interrupted(**name_of(self._running.pop(segment_id)[0])))

    def proceed(self):
        self._stopping = False

    def resize(self, num_workers):
        self.num_workers = num_workers

    @property
    def idle_workers(self):
        return 0


def _border(order, epoch):
    rows = [
        EpochRow(
            trial_id=trial.trial_id, epoch=epoch, status="running", reason="", busy_s=0.0,
            metrics={"val_error": trial.trial_id / 100, "val_loss": 1.0, "train_loss": 1.0},
        )
        for trial in order.trials
    ]  # fmt: skip
    refs = [
        CheckpointRef(
            trial_id=trial.trial_id, epoch=epoch, path=__file__, lane=lane, sha256="0", num_bytes=1
        )
        for lane, trial in enumerate(order.trials)
    ]
    return Border(**name_of(order), sequence=epoch, rows=rows, checkpoints=refs, usage=())


@pytest.fixture
def context(tmp_path, monkeypatch):
    monkeypatch.setattr("service.search.conductor.LOOK_EVERY_S", 0.0)
    context = bare_context(tmp_path)
    for trial_id in range(4):
        put_trial(
            context, trial_id, 0.01 * (trial_id + 1), state="waiting", horizon_epochs=20, batch=0
        )

    def signature_of(order):
        ids = [order.trials[0].trial_id]
        return context.signature_of(context.ledger.trials(context.search_id, trial_ids=ids)[0])

    context.executor = Epochs(signature_of)
    return context


def conduct(context, halving=None, num_batches=1):
    plan = BatchPlan(round=0, horizon_epochs=20, halving=halving)
    flows = (batch_flow(context, plan, batch) for batch in range(num_batches))
    Conductor(context).run(Flows(*flows), max_open=num_batches)
    return context.ledger.trials(context.search_id)


def stop_at(context, epoch, *trial_ids):
    def on_epoch(now):
        if now == epoch:
            for trial_id in trial_ids:
                context.ledger.request_trial_stop(context.search_id, trial_id, "ann")

    context.executor.on_epoch = on_epoch


class TestStopOfOneTrial:
    def test_it_ends_within_an_epoch_and_the_others_reach_their_end(self, context):
        stop_at(context, 5, 1)
        trials = conduct(context)
        assert [t.state for t in trials] == ["complete", "stopped", "complete", "complete"]
        assert [t.epochs_done for t in trials] == [20, 6, 20, 20]
        assert trials[1].reason == "stopped by ann after epoch 6"
        assert trials[1].metrics["val_error"] == 0.01
        later = [order for order in context.executor.orders if order.attempt == 2]
        assert sorted(t.trial_id for order in later for t in order.trials) == [0, 2, 3]
        assert {ref.epoch for order in later for ref in order.start} == {6}

    def test_all_of_a_pack_may_be_stopped(self, context):
        stop_at(context, 3, 0, 1, 2, 3)
        assert [t.state for t in conduct(context)] == ["stopped"] * 4

    def test_one_that_waits_never_begins(self, context):
        put_trial(context, 4, 0.05, state="waiting", horizon_epochs=20, batch=0)
        context.ledger.request_trial_stop(context.search_id, 4, "ann")
        context.executor.num_workers = 1
        trials = conduct(context)
        assert (trials[4].state, trials[4].epochs_done) in {("stopped", 0), ("stopped", 1)}
        assert [t.epochs_done for t in trials[:4]] == [20] * 4

    def test_one_that_has_ended_stays_as_it_is(self, context):
        context.ledger.update_trials(context.search_id, [(2, {"state": "diverged"})])
        context.ledger.request_trial_stop(context.search_id, 2, "ann")
        assert [t.state for t in conduct(context)] == ["complete"] * 2 + ["diverged", "complete"]
        assert {order.attempt for order in context.executor.orders} == {1}

    def test_the_rung_is_decided_among_those_that_are_left(self, context):
        """Trial 0, the best, is stopped; of the other three one is promoted at eta 3."""
        assert rungs(4, 3, 20) == (4, 12)
        stop_at(context, 2, 0)
        trials = conduct(context, HalvingSpec(eta=3, first_epoch=4))
        assert [t.state for t in trials] == ["stopped", "complete", "pruned", "pruned"]


class Allowed:
    """Says how many workers there are by what the executor has trained."""

    def __init__(self, workers_at, executor) -> None:
        self._workers_at, self._executor = workers_at, executor
        self.foreign = ""

    def workers(self, num_busy):
        return self._workers_at(self._executor.epoch)

    def reason_to_stop(self):
        return self.foreign


def put_batches(context):
    for trial_id in range(4, 16):
        put_trial(
            context, trial_id, 1e-3 * trial_id, state="waiting", horizon_epochs=20,
            batch=trial_id // 4,
        )  # fmt: skip


class TestAllowance:
    def test_workers_go_as_segments_end_and_come_back(self, context):
        """Eight segments of 20 epochs; one worker from epoch 5 on, two again from epoch 65 on."""
        put_batches(context)
        executor = context.executor
        context.allowance = Allowed(lambda epoch: 1 if 5 <= epoch < 65 else 2, executor)
        trials = conduct(context, num_batches=4)
        assert {t.state for t in trials} == {"complete"}
        # A first segment alone measures the plan; the two that ran at epoch 25 were not cut short.
        assert set(executor.held[42:64]) == {1}
        assert set(executor.held[66:90]) == {2}
        assert {order.attempt for order in executor.orders} == {1}

    def test_nothing_is_trained_at_nought_and_nothing_is_lost(self, context):
        put_batches(context)
        executor = context.executor
        pause = range(3, 60)
        context.allowance = Allowed(lambda epoch: 0 if epoch in pause else 2, executor)
        assert {t.state for t in conduct(context, num_batches=4)} == {"complete"}
        assert set(executor.held[25:58]) == {0}

    def test_a_driver_that_lost_its_job_leaves_it(self, context):
        from service.search.context import Stopped

        context.allowance = Allowed(lambda epoch: 2, context.executor)
        context.allowance.foreign = "attempt 2 has taken over"
        with pytest.raises(Stopped, match="attempt 2 has taken over"):
            conduct(context)


def test_a_pause_does_not_use_up_the_time_budget():
    now = [0.0]
    budget = BudgetKeeper(seconds=100.0, clock=lambda: now[0])
    for at, paused in ((10.0, False), (20.0, True), (30.0, True), (70.0, False), (80.0, False)):
        now[0] = at
        budget.pause(paused)
    assert budget.elapsed_s == 30.0
    budget.pause(True)
    now[0] = 500.0
    assert budget.elapsed_s == 30.0
    assert budget.exhausted(0.0) == ""


@pytest.mark.long
def test_stopping_a_trial_of_a_real_search_changes_no_other_trial(tmp_path):
    """Against the same search undisturbed: same proposals, same curves of all trials but one."""
    spec = small_spec(
        rounds=[{"sampler": "sobol", "trials": 6, "epochs": 12}], finalists={"trials": 0}
    )
    whole = run_search(spec, workers=1, ledger=tmp_path / "a.db", out=tmp_path / "a")
    ledger = Ledger.open(tmp_path / "b.db")

    class StopsOne:
        def note(self, text): ...

        def epochs(self, rows):
            if any(row.trial_id == 2 for row in rows):
                ledger.request_trial_stop("digits-mlp-1", 2, "ann")

        def tick(self, context): ...

    cut = run_search(
        spec, workers=1, ledger=tmp_path / "b.db", out=tmp_path / "b", display=StopsOne()
    )
    ledger.close()
    trials, curves = cut.trials().set_index("trial_id"), cut.curves()
    assert trials.state[2] in ("stopped", "complete")  # it may have been through within a second
    expected = whole.curves()
    keep = curves.trial_id != 2
    left, right = curves[keep], expected[expected.trial_id != 2]
    for column in ("trial_id", "epoch", "val_loss", "val_error"):
        assert left[column].tolist() == right[column].tolist()
    assert replace(cut.record, out_dir=None).state == "finished"
