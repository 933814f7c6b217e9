"""The Ray executor: same answers as inline, and every order answered whatever dies."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import executor_fakes
import pytest
from executor_fakes import (
    DIVERGES_AT_EPOCH_2,
    KILLED_BY_SIGKILL_AFTER_TWO_EPOCHS,
    KILLS_ITS_WORKER,
    RAISES,
    SLOW,
    fake_training,
    listen,
    order,
)

from service.messages import Began, Border, Failed, Finished, Interrupted, Planned, Progress
from service.search.executor import InlineExecutor
from service.search.executor.ray_cluster import WorkerShape
from service.search.executor.ray_executor import RayExecutor
from trainers.config import TrialConfig
from trainers.errors import ConfigError, WorkerError
from trainers.trial import Trial


def test_says_the_same_as_the_inline_executor(ray_executor, tmp_path):
    orders = [
        order(tmp_path / "x", segment_id="a", seeds=(1, 2, DIVERGES_AT_EPOCH_2), stop_epoch=4),
        order(tmp_path / "x", segment_id="b", seeds=(7,), save_every_epochs=1, plan=None),
    ]
    inline = InlineExecutor(training=fake_training)
    for an_order in orders:
        inline.submit(an_order)
        ray_executor.submit(an_order)
    told, told_inline = listen(ray_executor, 2), listen(inline, 2)
    for name in ("a", "b"):
        assert told.rows(name) == told_inline.rows(name)
        for kind in (Began, Planned, Border, Finished):
            assert len(told.of(kind, name)) == len(told_inline.of(kind, name))
    inline.close()


def test_messages_are_seen_while_the_segment_runs(ray_executor, tmp_path):
    ray_executor.submit(order(tmp_path, seeds=(SLOW,), stop_epoch=8))
    told = listen(ray_executor, until=lambda message: isinstance(message, Progress))
    assert not told.of(Finished)
    assert listen(ray_executor).of(Finished)


def test_two_orders_run_at_once_on_two_workers(ray_executor, tmp_path):
    for name in ("a", "b"):
        ray_executor.submit(order(tmp_path, segment_id=name, seeds=(SLOW,), stop_epoch=3))
    assert ray_executor.idle_workers == 0
    told = listen(ray_executor, 2)
    assert len({began.pid for began in told.of(Began)}) == 2
    assert ray_executor.idle_workers == 2


def test_data_are_loaded_once_whatever_the_number_of_orders(ray_executor, tmp_path, monkeypatch):
    loaded = []

    def load(config):
        loaded.append(config.name)
        return {"rows": range(1000)}

    monkeypatch.setattr(executor_fakes, "load", load)
    config = TrialConfig.from_mapping({"data.name": "wine"})
    trials = (Trial(trial_id=0, config=config, seed=1),)
    for number in range(4):
        ray_executor.submit(order(tmp_path, f"s{number}", (1,), trials=trials, stop_epoch=1))
    assert len(listen(ray_executor, 4).of(Finished)) == 4
    assert loaded == ["wine"]


def test_an_exception_in_training_fails_the_segment_and_keeps_the_worker(ray_executor, tmp_path):
    before = ray_executor.pids()
    ray_executor.submit(order(tmp_path, seeds=(1, RAISES)))
    [failed] = listen(ray_executor).of(Failed)
    assert not failed.worker_died
    assert failed.error.startswith("ValueError: the model's width must be even")
    for name in ("a", "b"):
        ray_executor.submit(order(tmp_path, segment_id=name))
    assert len(listen(ray_executor, 2).of(Finished)) == 2
    assert len(ray_executor.pids() | before) == 2


def test_every_border_posted_before_a_sigkill_comes_before_the_failure(ray_executor, tmp_path):
    ray_executor.submit(
        order(
            tmp_path,
            seeds=(1, KILLED_BY_SIGKILL_AFTER_TWO_EPOCHS),
            stop_epoch=5,
            save_every_epochs=1,
        )
    )
    told = listen(ray_executor)
    assert [border.sequence for border in told.of(Border)] == [0, 1]
    assert [row.epoch for row in told.rows()] == [1, 1, 2, 2]
    failed = told.messages[-1]
    assert isinstance(failed, Failed)
    assert failed.worker_died
    assert failed.began
    assert "died" in failed.error


def test_a_dying_worker_leaves_the_other_segment_alone(ray_executor, tmp_path):
    ray_executor.submit(order(tmp_path, segment_id="slow", seeds=(SLOW,), stop_epoch=10))
    ray_executor.submit(order(tmp_path, segment_id="dies", seeds=(KILLS_ITS_WORKER,)))
    told = listen(ray_executor, 2)
    assert [message.segment_id for message in told.of(Failed)] == ["dies"]
    assert [message.segment_id for message in told.of(Finished)] == ["slow"]
    assert len(told.rows("slow")) == 10


def test_a_worker_that_died_idle_costs_its_next_segment_no_attempt(ray_executor, tmp_path):
    for name in ("a", "b"):
        ray_executor.submit(order(tmp_path, segment_id=name, seeds=(SLOW,), stop_epoch=2))
    pids = {began.pid for began in listen(ray_executor, 2).of(Began)}
    time.sleep(0.5)  # until Ray Tune has put the workers into its cache
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    orders = [order(tmp_path, segment_id=name) for name in ("c", "d")]
    blameless = 0
    while orders:
        for an_order in orders:
            ray_executor.submit(an_order)
        failed = listen(ray_executor, len(orders)).of(Failed)
        assert not any(message.began for message in failed)
        blameless += len(failed)
        again = {message.segment_id: message.attempt + 1 for message in failed}
        orders = [order(tmp_path, segment_id=name, attempt=n) for name, n in again.items()]
    assert blameless <= 4


def test_the_first_interrupt_tells_every_order_and_saves_what_runs(local_ray, tmp_path):
    executor = RayExecutor(2, training=fake_training)
    for number in range(5):
        executor.submit(order(tmp_path, segment_id=f"s{number}", seeds=(SLOW,), stop_epoch=500))
    listen(executor, until=lambda message: isinstance(message, Progress))
    executor.interrupt()
    told = listen(executor, 5)
    assert {message.segment_id for message in told.of(Interrupted)} == {f"s{n}" for n in range(5)}
    assert {border.segment_id for border in told.of(Border)} >= {
        began.segment_id for began in told.of(Began)
    }
    executor.close()
    executor.close()
    with pytest.raises(WorkerError, match=r"after close\(\)"):
        executor.submit(order(tmp_path))


def test_the_second_interrupt_ends_the_workers_at_once(local_ray, tmp_path):
    executor = RayExecutor(2, training=fake_training)
    for number in range(3):
        executor.submit(
            order(tmp_path, segment_id=f"s{number}", seeds=(SLOW,) * 300, stop_epoch=500)
        )
    listen(executor, until=lambda message: isinstance(message, Began))
    executor.interrupt()
    started_s = time.monotonic()
    executor.interrupt()
    assert len(listen(executor, 3).of(Interrupted)) == 3
    executor.close()
    assert time.monotonic() - started_s < 60  # an epoch alone would take as long


def test_a_shape_that_no_node_holds_is_refused_before_anything_starts(local_ray):
    with pytest.raises(ConfigError, match=r"needs 1 CPUs and 1 GPUs, but the largest"):
        RayExecutor(2, shape=WorkerShape(gpus=1.0))
    with pytest.raises(ConfigError, match="cpus > 0"):
        WorkerShape(cpus=0)


def test_the_end_of_ray_tune_itself_is_an_error_that_says_how_to_go_on(
    local_ray, tmp_path, monkeypatch
):
    def ends(*_):
        raise RuntimeError("the head node is gone\n...")

    monkeypatch.setattr("service.search.executor.ray_executor.run_tune", ends)
    executor = RayExecutor(2, training=fake_training)
    executor.submit(order(tmp_path))
    with pytest.raises(WorkerError, match=r"the head node is gone; what was saved .* resume"):
        listen(executor)
    executor.close()


def test_an_address_of_ray_client_is_refused():
    with pytest.raises(ConfigError, match=r"`HOST:PORT` of the head or `auto`, but got ray://"):
        RayExecutor(2, address="ray://head:10001")


def test_an_address_where_nothing_listens_is_refused_at_once():
    code = (
        "from service.search.executor.ray_executor import RayExecutor\n"
        "RayExecutor(2, address='127.0.0.1:7')"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60)
    assert b"WorkerError: could not join Ray at 127.0.0.1:7" in process.stderr


CTRL_C = """
import sys, pathlib
sys.path.insert(0, {folder!r})
from executor_fakes import KILLS_ITS_WORKER, SLOW, fake_training, listen, order
from service.messages import Interrupted, Border, Progress
from service.search.executor.ray_executor import RayExecutor

executor = RayExecutor(2, training=fake_training)
executor.submit(order(pathlib.Path({out!r}), "dies", seeds=(KILLS_ITS_WORKER,)))
listen(executor)
for number in range(8):
    executor.submit(order(pathlib.Path({out!r}), f"s{{number}}", seeds=(SLOW,), stop_epoch=999))
try:
    listen(executor, until=lambda message: isinstance(message, Progress))
    print("ready", flush=True)
    listen(executor, 8)
except KeyboardInterrupt:
    executor.interrupt()
    told = listen(executor, 8)
    print("told", len(told.of(Interrupted)), "saved", len(told.of(Border)) > 0, flush=True)
executor.close()
"""


def test_ctrl_c_in_the_terminal_reaches_only_the_driver_and_leaves_nothing_behind(tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    code = CTRL_C.format(folder=str(Path(__file__).parent), out=str(tmp_path))
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "TMPDIR": str(scratch)},
    )
    try:
        assert process.stdout.readline() == "ready\n"
        os.killpg(process.pid, signal.SIGINT)  # what a terminal does
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert out == "told 8 saved True\n"
    assert err == ""
    assert process.returncode == 0
    assert list(scratch.iterdir()) == []


def _free_cpus():
    import ray

    return ray.available_resources().get("CPU", 0.0)


def _wait_until(holds, timeout_s=60):
    deadline = time.monotonic() + timeout_s
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert holds()


@pytest.mark.long
def test_workers_go_as_their_segments_end_and_come_back(local_ray, tmp_path):
    """What a worker occupied is free for others, and no order is lost at any number of workers."""
    _wait_until(lambda: _free_cpus() >= 1)
    before = _free_cpus()
    executor = RayExecutor(2, training=fake_training)
    try:
        for number in range(4):
            executor.submit(
                order(tmp_path, segment_id=f"a{number}", seeds=(SLOW + number,), stop_epoch=3)
            )
        executor.next_message(60.0)
        executor.resize(1)
        told = listen(executor, 4)
        assert len(told.of(Finished)) == 4
        assert executor.idle_workers == 1
        executor.resize(0)
        executor.submit(order(tmp_path, segment_id="waits", seeds=(SLOW,), stop_epoch=2))
        _wait_until(lambda: executor.resize(0) is None and _free_cpus() >= before)
        executor.resize(9)
        assert executor.num_workers == 2  # no more than at the start
        executor.submit(order(tmp_path, segment_id="b", seeds=(SLOW,), stop_epoch=2))
        told = listen(executor, 2)
        assert {message.segment_id for message in told.of(Finished)} == {"waits", "b"}
        assert len({began.pid for began in told.of(Began)}) == 2
    finally:
        executor.close()


def test_an_executor_may_begin_with_no_worker(local_ray, tmp_path):
    executor = RayExecutor(1, training=fake_training, start_with=0)
    try:
        assert executor.num_workers == 0
        assert executor.next_message(0.2) is None
        executor.resize(1)
        executor.submit(order(tmp_path, segment_id="c", seeds=(1,), stop_epoch=1))
        assert len(listen(executor, 1).of(Finished)) == 1
    finally:
        executor.close()
