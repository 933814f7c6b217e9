"""What the ledger costs; prints, asserts no times. `pytest -m benchmark -s tests/service/ledger`"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from service.ledger import Ledger
from service.ledger.testing_records import border, new_search, segment_record, trial_record
from trainers.config import TrialConfig


@contextmanager
def printed(what: str) -> Iterator[None]:
    start_s = time.perf_counter()
    yield
    print(f"{what}: {1e3 * (time.perf_counter() - start_s):.1f} ms")


@pytest.mark.benchmark
@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_ten_thousand_trials(database: str, request: pytest.FixtureRequest) -> None:
    url = request.getfixturevalue(f"{database}_url")
    config = TrialConfig().full_mapping()
    trials = [trial_record(i, batch=i // 64, config=config) for i in range(10_000)]
    with Ledger.open(url) as ledger:
        search_id = new_search(ledger)
        with printed(f"\n{database}: insert 10,000 trials"):
            ledger.add_trials(search_id, trials)
        with printed("read all trials"):
            assert len(ledger.trials(search_id)) == 10_000
        with printed("read one batch of 64"):
            assert len(ledger.trials(search_id, round=0, batch=100)) == 64
        with printed("sum up progress"):
            assert ledger.progress(search_id)[0].num_trials == 10_000
        ledger.add_segments(search_id, [segment_record("r0b0s0", range(64))])
        attempt = ledger.begin_attempt(search_id, "r0b0s0")
        with printed("a border of 64 trials x 20 epochs"):
            ledger.apply(border(search_id, attempt, range(1, 21), trial_ids=range(64)))
        with printed("values of 64 trials at one epoch"):
            assert len(ledger.values_at(search_id, range(64), 20, "val_loss")) == 64
