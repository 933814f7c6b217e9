import os
import signal
import subprocess
import sys
import textwrap
import time

import psutil
import pytest

from search_spaces import Space, log_uniform, uniform
from service.search.samplers import SamplerProcess, Told, ask
from trainers.errors import ConfigError, SpaceError, WorkerError

SPACE = Space({"optimizer.lr": log_uniform(1e-5, 1.0), "model.dropout": uniform(0.0, 0.6)})
GENEROUS_S = 60
SLOW = [
    Told(number=i, params={"optimizer.lr": 10.0 ** -(1 + i % 4), "model.dropout": i / 400},
         values=(i / 200,))
    for i in range(200)
]  # fmt: skip
"""Evidence on which a GP thinks for minutes about a batch of 200."""


def refuse_small(params):
    return None if params["optimizer.lr"] > 1e-2 else "too small"


def refuse_with_a_bug(params):
    raise KeyError("a bug")


def wait_until(condition):
    for _ in range(GENEROUS_S * 20):
        if condition():
            return True
        time.sleep(0.05)
    return False


def test_the_process_answers_what_ask_answers_in_order():
    told = SLOW[:20]  # enough for TPE to model, in a process with other hash seeds
    with SamplerProcess() as process:
        handles = [
            process.ask_async("tpe", SPACE, told, 4, 0, batch=b, refuse=refuse_small)
            for b in range(3)
        ]
        answers = [handle.result(GENEROUS_S) for handle in handles]
        pid = process.pid
        assert process.asking_s > 0
        assert process.waited_s > 0
        assert handles[0].done()
    assert not psutil.pid_exists(pid)
    assert answers == [
        ask("tpe", SPACE, told, 4, 0, batch=b, refuse=refuse_small) for b in range(3)
    ]


@pytest.mark.parametrize("sampler", ["random", "sobol"])
def test_samplers_that_learn_nothing_start_no_process(sampler):
    with SamplerProcess() as process:
        handle = process.ask_async(sampler, SPACE, [], 4, 0)
        assert handle.done()
        assert len(handle.result()) == 4
        assert process.pid is None


def test_errors_come_back_as_they_are():
    with SamplerProcess() as process:
        grid = process.ask_async("grid", SPACE, [], 1, 0)
        with pytest.raises(SpaceError, match="grid over a continuous interval"):
            grid.result()
        with pytest.raises(ConfigError, match="did you mean"):
            process.ask_async("tpee", SPACE, [], 1, 0)
        with pytest.raises(ConfigError, match="top level of a module"):
            process.ask_async("tpe", SPACE, [], 1, 0, refuse=lambda params: None)
        with pytest.raises(WorkerError, match=r"KeyError.*a bug"):
            process.ask_async("tpe", SPACE, [], 1, 0, refuse=refuse_with_a_bug).result(GENEROUS_S)
        assert len(process.ask_async("tpe", SPACE, [], 1, 0).result(GENEROUS_S)) == 1


def test_a_killed_process_is_told_of_and_replaced_by_the_next_ask():
    with SamplerProcess() as process:
        handle = process.ask_async("gp", SPACE, SLOW, 200, 0)
        os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(WorkerError, match="isoflop resume"):
            handle.result(GENEROUS_S)
        assert len(process.ask_async("tpe", SPACE, [], 2, 0).result(GENEROUS_S)) == 2


def test_close_gives_up_what_is_being_asked():
    process = SamplerProcess()
    handle = process.ask_async("gp", SPACE, SLOW, 200, 0)
    process.close()
    with pytest.raises(WorkerError, match="ended before it answered"):
        handle.result(GENEROUS_S)
    process.close()


def test_the_process_ends_with_a_parent_that_was_killed_even_while_it_thinks():
    # A script without a __main__ guard, as users write them.
    script = textwrap.dedent(
        """
        from test_samplers_process import SLOW, SPACE
        from service.search.samplers import SamplerProcess
        process = SamplerProcess()
        process.ask_async("tpe", SPACE, [], 1, 0).result()
        process.ask_async("gp", SPACE, SLOW, 200, 0)
        print(process.pid, flush=True)
        input()
        """
    )
    paths = [os.path.dirname(__file__), *(path or os.getcwd() for path in sys.path)]
    parent = subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    assert child.is_running()
    parent.kill()
    parent.communicate()
    assert wait_until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)
