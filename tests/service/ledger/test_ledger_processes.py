import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from service.ledger import Ledger
from service.ledger.testing_records import (
    border,
    new_search,
    segment_record,
    trial_record,
)

CREATE = """
import sys, time
from service.ledger import Ledger
while time.time() < float(sys.argv[2]):
    pass
with Ledger.open(sys.argv[1]) as ledger:
    for _ in range(5):
        print(ledger.create_search(name="demo", spec={}, seed=0).search_id)
"""

WRITE = """
import sys
from service.ledger import Ledger
from service.ledger.testing_records import border
with Ledger.open(sys.argv[1]) as ledger:
    for sequence in range(100_000):
        epochs = [2 * sequence + 1, 2 * sequence + 2]
        ledger.apply(border("demo-1", 1, epochs, sequence=sequence, trial_ids=range(8)))
        print(sequence, flush=True)
"""


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_processes_may_create_one_ledger_at_once(
    database: str, request: pytest.FixtureRequest
) -> None:
    url = request.getfixturevalue(f"{database}_url")
    start = str(time.time() + 2.0)
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", CREATE, url, start],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    outputs = [run.communicate(timeout=120) for run in runs]
    assert [errors for _, errors in outputs] == [""] * 4
    made = [line for output, _ in outputs for line in output.split()]
    assert sorted(made) == sorted(f"demo-{number}" for number in range(1, 21))
    with Ledger.open(url) as ledger:
        assert len(ledger.searches()) == 20


@pytest.mark.parametrize("num_acknowledged", [1, 7])
def test_what_was_acknowledged_survives_sigkill_and_nothing_is_half_written(
    tmp_path: Path, num_acknowledged: int
) -> None:
    path = tmp_path / "a.db"
    with Ledger.open(path) as ledger:
        search_id = new_search(ledger)
        ledger.add_trials(search_id, [trial_record(i) for i in range(8)])
        ledger.add_segments(search_id, [segment_record("r0b0s0", range(8))])
        ledger.begin_attempt(search_id, "r0b0s0")
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITE, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    acknowledged = [int(writer.stdout.readline()) for _ in range(num_acknowledged)]
    writer.send_signal(signal.SIGKILL)
    acknowledged += [int(line) for line in writer.stdout.read().split()]
    writer.wait()

    with Ledger.open(path) as ledger:
        counts: dict[int, int] = {}
        for _, epoch, _, _ in ledger.epoch_rows(search_id):
            counts[epoch] = counts.get(epoch, 0) + 1
        last = max(counts)
        assert last >= 2 * (acknowledged[-1] + 1)
        assert counts == dict.fromkeys(range(1, last + 1), 8)
        assert {trial.epochs_done for trial in ledger.trials(search_id)} == {last}
        assert {ref.epoch for ref in ledger.checkpoints(search_id, range(8)).values()} == {last}
        assert len(ledger.usage(search_id)) == last // 2
        replay = border(search_id, 1, [last - 1, last], sequence=last // 2 - 1, trial_ids=range(8))
        assert not ledger.apply(replay)
