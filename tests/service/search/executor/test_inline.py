"""The inline executor: same messages, no Ray, live, and interruptible."""

import os
import subprocess
import sys
import time

import pytest
from executor_fakes import RAISES, SLOW, fake_training, listen, order

from service.messages import Began, Border, Failed, Finished, Interrupted, Progress
from service.search.executor import InlineExecutor
from trainers.errors import WorkerError


@pytest.fixture
def executor():
    executor = InlineExecutor(training=fake_training)
    yield executor
    executor.close()


def test_runs_orders_one_after_the_other_in_this_process(executor, tmp_path):
    for number in range(3):
        executor.submit(order(tmp_path, segment_id=f"s{number}"))
    assert executor.idle_workers == 0
    told = listen(executor, 3)
    assert [message.segment_id for message in told.of(Finished)] == ["s0", "s1", "s2"]
    assert executor.pids() == {os.getpid()}
    assert executor.idle_workers == 1


def test_the_worker_is_idle_by_the_time_the_last_message_is_seen(executor, tmp_path):
    for number in range(5):
        executor.submit(order(tmp_path, segment_id=f"s{number}", stop_epoch=1))
        listen(executor, 1)
        assert executor.idle_workers == 1


def test_messages_are_seen_while_the_segment_runs(executor, tmp_path):
    executor.submit(order(tmp_path, seeds=(SLOW,), stop_epoch=50))
    told = listen(executor, until=lambda message: isinstance(message, Progress))
    assert not told.of(Border)
    executor.interrupt()
    assert listen(executor).of(Interrupted)


def test_the_first_interrupt_finishes_the_epoch_and_tells_waiting_orders(executor, tmp_path):
    for number in range(4):
        executor.submit(order(tmp_path, segment_id=f"s{number}", seeds=(SLOW,), stop_epoch=50))
    listen(executor, until=lambda message: isinstance(message, Progress))
    executor.interrupt()
    told = listen(executor, 4)
    assert {message.segment_id for message in told.of(Interrupted)} == {"s0", "s1", "s2", "s3"}
    [border] = told.of(Border)
    assert border.segment_id == "s0"
    executor.submit(order(tmp_path, segment_id="late"))
    assert listen(executor).of(Interrupted)


def test_the_second_interrupt_does_not_wait_for_the_epoch(executor, tmp_path):
    executor.submit(order(tmp_path, seeds=(SLOW,) * 8, stop_epoch=50))
    listen(executor, until=lambda message: isinstance(message, Began))
    executor.interrupt()
    executor.interrupt()
    told = listen(executor)
    assert [type(message) for message in told.messages] == [Interrupted]
    executor.close()
    assert executor.next_message(0.0) is None


def test_a_failure_does_not_stop_the_next_order(executor, tmp_path):
    executor.submit(order(tmp_path, segment_id="bad", seeds=(RAISES,)))
    executor.submit(order(tmp_path, segment_id="good"))
    told = listen(executor, 2)
    assert [message.segment_id for message in told.of(Failed)] == ["bad"]
    assert [message.segment_id for message in told.of(Finished)] == ["good"]


def test_no_message_is_none_after_the_timeout(executor):
    started_s = time.monotonic()
    assert executor.next_message(0.05) is None
    assert time.monotonic() - started_s >= 0.05


def test_takes_no_orders_after_close(executor, tmp_path):
    executor.close()
    executor.close()
    with pytest.raises(WorkerError, match=r"after close\(\)"):
        executor.submit(order(tmp_path))


def test_neither_ray_nor_torch_is_imported_to_start_it():
    code = (
        "import sys; from service.search.executor import InlineExecutor; InlineExecutor();"
        "assert not {'ray', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_trainer_that_cannot_be_imported_is_a_failure_and_no_silence(tmp_path):
    def broken():
        raise ImportError("half a file")

    executor = InlineExecutor(training=broken)
    executor.submit(order(tmp_path))
    told = listen(executor, 1)
    executor.close()
    assert "half a file" in told.of(Failed)[0].error
