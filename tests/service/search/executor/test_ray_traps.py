"""Six traps of Ray Tune, each one measured before isoflop was built, each pinned here."""

import pickle
import threading
from types import SimpleNamespace

import pytest
from executor_fakes import KILLS_ITS_WORKER, SLOW, fake_training, listen, order

from service.messages import Began, Failed, Finished
from service.search.executor.ray_executor import RayExecutor
from service.search.executor.ray_tune import KeepWorkers, ReadyQueue, Ticket
from service.search.executor.ray_worker import SegmentWorker


class AwkwardWorker(SegmentWorker):
    """Misbehaves outside of training, where a segment's name says so."""

    def reset_config(self, new_config):
        if new_config["segment"].startswith("reset"):
            raise RuntimeError("this worker cannot be reset")
        return super().reset_config(new_config)

    def step(self):
        result = super().step()
        if self.config["segment"].startswith("step"):
            raise RuntimeError("after the last word")
        return result


@pytest.fixture(scope="module")
def awkward(local_ray):
    executor = RayExecutor(2, training=fake_training, worker=AwkwardWorker)
    yield executor
    executor.close()


def a_queue(num_workers=2):
    return ReadyQueue(num_workers, lambda ticket, error: None, list)


def test_two_workers_survive_six_barriers(ray_executor, tmp_path):
    pids = set()
    for barrier in range(6):
        for number in range(2):
            ray_executor.submit(
                order(tmp_path, segment_id=f"r0b{barrier}s{number}", seeds=(SLOW,), stop_epoch=1)
            )
        told = listen(ray_executor, 2)
        assert len(told.of(Finished)) == 2
        assert len({began.pid for began in told.of(Began)}) == 2  # never one after the other
        pids |= {began.pid for began in told.of(Began)}
    assert len(pids) == 2


def test_the_private_cache_that_keeps_them_is_still_there():
    from ray.tune.execution.tune_controller import _ObjectCache

    cache = _ObjectCache(may_keep_one=True)
    cache.increase_max("shape", by=2)
    assert cache.cache_object("shape", "first")
    assert cache.cache_object("shape", "second")
    assert not list(cache.flush_cached_objects())


def test_the_fix_does_without_the_cache_where_ray_has_none():
    class ControllerOfAnotherRay:
        pass

    KeepWorkers(a_queue()).on_trial_add(
        ControllerOfAnotherRay(), SimpleNamespace(placement_group_factory="shape")
    )


def test_a_raising_reset_is_told_and_does_not_hang(awkward, tmp_path):
    awkward.submit(order(tmp_path, segment_id="reset"))
    [failed] = listen(awkward).of(Failed)
    assert not failed.began
    assert "this worker cannot be reset" in failed.error.splitlines()[0]
    awkward.submit(order(tmp_path, segment_id="plain"))
    assert listen(awkward).of(Finished)


def test_a_step_that_raises_after_its_last_word_is_answered_once(awkward, tmp_path):
    awkward.submit(order(tmp_path, segment_id="step"))
    assert listen(awkward).of(Finished)
    for name in ("plain1", "plain2"):
        awkward.submit(order(tmp_path, segment_id=name))
    told = listen(awkward, 2)
    assert len(told.of(Finished)) == 2


def test_a_worker_that_dies_in_step_is_not_run_again_by_tune(awkward, tmp_path):
    awkward.submit(order(tmp_path, segment_id="dies", seeds=(KILLS_ITS_WORKER,)))
    told = listen(awkward)
    assert len(told.of(Began)) == 1
    assert told.of(Failed)[0].worker_died
    awkward.submit(order(tmp_path, segment_id="plain"))
    assert not listen(awkward).of(Began, "dies")


def test_a_result_has_no_metric_and_nothing_per_lane(ray_executor, tmp_path, monkeypatch):
    results = []

    def listen_in(self, trial_id, result=None, error=False):
        results.append(result)
        original(self, trial_id, result, error)

    original = ReadyQueue.on_trial_complete
    monkeypatch.setattr(ReadyQueue, "on_trial_complete", listen_in)
    for seeds in ((1,), tuple(range(40))):
        ray_executor.submit(order(tmp_path, segment_id=f"s{len(seeds)}", seeds=seeds, stop_epoch=1))
        assert listen(ray_executor).of(Finished)
    ray_executor.submit(order(tmp_path, segment_id="flush", stop_epoch=1))
    listen(ray_executor)
    one, forty = results[:2]
    assert one.keys() == forty.keys()
    assert not {"best", "val_loss", "metric"} & one.keys()
    assert len(one) < 20


def test_the_queue_pickles_to_nothing():
    queue = a_queue()
    queue.put(Ticket(name="s0", work=threading.Lock()))  # which could not be pickled
    assert pickle.loads(pickle.dumps(queue)).__dict__ == {}


def test_suggest_waits_only_while_nothing_runs():
    queue = a_queue()
    suggested = []
    thread = threading.Thread(target=lambda: suggested.append(queue.suggest("t0")), daemon=True)
    thread.start()
    thread.join(0.1)
    assert not suggested
    queue.put(Ticket(name="s0", work="reference"))
    thread.join(10)
    assert suggested == [{"segment": "s0", "work": ["reference"]}]
    assert queue.suggest("t1") is None  # at once: one runs
    for name in ("s1", "s2"):
        queue.put(Ticket(name=name, work="reference"))
    assert queue.suggest("t2")["segment"] == "s1"
    assert queue.suggest("t3") is None  # two run
    queue.close()
    assert queue.suggest("t4") == "FINISHED"
