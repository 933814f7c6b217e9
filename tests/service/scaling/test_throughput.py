"""Throughput against workers: counted from the ledgers of real searches."""

from pathlib import Path

import numpy as np
import pytest

from service.ledger import Ledger
from service.scaling.throughput import throughput
from trainers.errors import ConfigError

SEARCH = {
    "data": {"name": "digits", "num_train": 200},
    "model": {"kind": "mlp", "depth": 1, "width": 8},
    "train": {"epochs": 2, "batch_size": 50},
    "space": {"optimizer.lr": {"log_uniform": [1e-3, 1e-1]}},
    "rounds": [{"sampler": "random", "trials": 6}],
    "finalists": {"trials": 0},
    "recipe": {"checks": False},
}


def test_rows_are_what_the_ledgers_hold(tmp_path: Path) -> None:
    frame = throughput(SEARCH, workers=(1,), folder=tmp_path, repeats=2)
    assert frame["trials"].tolist() == [6, 6]
    np.testing.assert_allclose(frame["trials_per_s"] * frame["seconds"], 6)
    assert frame["speedup"].mean() == pytest.approx(1.0)
    for place, row in frame.iterrows():
        with Ledger.open(str(tmp_path / f"workers1-{place}" / "ledger.db")) as ledger:
            [record] = ledger.searches()
        assert 0 < row["seconds"] < record.seconds


@pytest.mark.parametrize(("workers", "repeats"), [((), 1), ((0, 1), 1), ((1,), 0)])
def test_it_needs_workers(workers: tuple[int, ...], repeats: int, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs numbers of workers >= 1"):
        throughput(SEARCH, workers=workers, folder=tmp_path, repeats=repeats)
