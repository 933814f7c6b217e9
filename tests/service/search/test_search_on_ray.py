"""Whole searches on Ray workers: they may die, or belong to a cluster that is somebody else's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from small_search import SMALL, assert_same_outcome, small_spec

from service import open_search, run_search
from service.ledger import Ledger
from service.search.display import Silent
from service.search.yaml_loading import dump_yaml


class KillsWorkers(Silent):
    """Kills a worker that is training, so many times, each time another one."""

    def __init__(self, num_kills):
        self._left = num_kills
        self._seen_pids = set()
        self._epochs_came = False

    def epochs(self, rows):
        self._epochs_came = True

    def tick(self, context):
        new = context.executor.pids() - self._seen_pids
        if self._epochs_came and new and self._left:
            self._left -= 1
            self._seen_pids |= new
            os.kill(min(new), signal.SIGKILL)
        self._epochs_came = False


def test_killed_workers_change_nothing(local_ray, undisturbed, tmp_path):
    killer = KillsWorkers(num_kills=3)
    result = run_search(
        small_spec(name="small", resources={"save_every_epochs": 1}),
        workers=2,
        ledger=tmp_path / "ledger.db",
        out=tmp_path / "out",
        display=killer,
    )
    assert killer._left == 0
    with Ledger.open(result.ledger_url) as ledger:
        retries = ledger.events(result.search_id, "retry")
    assert len(retries) >= 1
    assert_same_outcome(result, undisturbed)


def test_a_search_joins_a_cluster_and_leaves_it_running(local_ray, undisturbed, tmp_path):
    import ray

    (tmp_path / "spec.yaml").write_text(dump_yaml({"name": "small", **SMALL}))
    address = ray.get_runtime_context().gcs_address
    done = subprocess.run(
        [sys.executable, "-c", "from service.cli import main; main()", "search", "spec.yaml",
         "--address", address, "--workers", "2", "--out", "out"],
        cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    result = open_search("small-1", ledger=tmp_path / "isoflop.db")
    assert_same_outcome(result, undisturbed)
    assert result.energy().trials_kwh > 0  # workers that are no children of the driver are metered
    assert ray.cluster_resources()["CPU"] == 4
