"""The same search on two Ray nodes started by hand, against PostgreSQL, as on one worker."""

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from small_search import table

from service import SearchResult, run_search
from service.jobs.local_cluster import free_ports

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]
ROOT = Path(__file__).parents[3]
SMALL = """
kind: search
name: small
data: {name: digits, num_train: 200}
model: {kind: mlp, depth: 1, width: 16}
train: {epochs: 4, batch_size: 50}
space:
  optimizer.lr: {log_uniform: [1e-4, 1e-1]}
  model.dropout: {uniform: [0.0, 0.5]}
rounds:
  - {sampler: sobol, trials: 8, epochs: 2}
  - {sampler: tpe, trials: 8, epochs: 4, refine: {}}
finalists: {trials: 2, seeds: 2}
recipe: {checks: false}
"""


@pytest.fixture
def cluster(tmp_path) -> Iterator[tuple[str, dict[str, str]]]:
    """A head and a second node with ports of their own, in token mode; gone at the end."""
    token = tmp_path / "token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_USAGE_STATS_ENABLED": "0",
        "PYTHONPATH": str(ROOT),
    }
    gcs, dashboard, client, *agents = free_ports(7)
    ray = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--num-cpus", "1"]
    ray += ["--disable-usage-stats"]
    head = [*ray, "--head", "--port", str(gcs), "--dashboard-host", "127.0.0.1",
            "--dashboard-port", str(dashboard), "--ray-client-server-port", str(client),
            "--temp-dir", f"/tmp/isoflop-two-{gcs}"]  # fmt: skip
    second = [*ray, "--address", f"127.0.0.1:{gcs}"]
    for number, command in enumerate((head, second)):
        command += ["--dashboard-agent-listen-port", str(agents[2 * number])]
        command += ["--metrics-export-port", str(agents[2 * number + 1])]
    running = []
    try:
        for number, command in enumerate((head, second)):
            log = (tmp_path / f"node{number}.log").open("wb")
            running.append(
                subprocess.Popen(
                    command, env=environment, stdout=log, stderr=log, start_new_session=True
                )
            )
            _wait_for_nodes(f"127.0.0.1:{gcs}", number + 1, environment)
        yield f"127.0.0.1:{gcs}", environment
    finally:
        for process in reversed(running):
            os.killpg(process.pid, signal.SIGTERM)
        for process in running:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


def _wait_for_nodes(address: str, number: int, environment: dict[str, str]) -> None:
    ask = (
        "import ray, sys; ray.init(address=sys.argv[1], log_to_driver=False); "
        "sys.exit(sum(n['Alive'] for n in ray.nodes()) < int(sys.argv[2]))"
    )
    deadline_s = time.monotonic() + 120
    command = [sys.executable, "-c", ask, address, str(number)]
    while subprocess.run(command, env=environment, capture_output=True).returncode:
        assert time.monotonic() < deadline_s, f"{number} nodes did not come up"
        time.sleep(1.0)


def test_two_nodes_and_postgresql_give_the_table_of_one_worker(cluster, postgres_url, tmp_path):
    address, environment = cluster
    spec = tmp_path / "small.yaml"
    spec.write_text(SMALL)
    command = [sys.executable, "-c", "from service.cli import main; main()", "search", str(spec),
               "--address", address, "--workers", "2", "--ledger", postgres_url,
               "--out", str(tmp_path / "out"), "--json"]  # fmt: skip
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    result = SearchResult("small-1", postgres_url)
    alone = run_search(spec, workers=1, ledger=tmp_path / "alone.db", out=tmp_path / "alone")
    pd.testing.assert_frame_equal(table(result.trials()), table(alone.trials()))
    assert result.record.state == "finished"
    assert abs(result.energy().residual) < 1e-9
