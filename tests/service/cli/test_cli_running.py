"""The command line as a user types it: run, look, interrupt, resume."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SPEC = """
name: small
data: {name: digits, num_train: 200}
model: {kind: mlp, depth: 1, width: 16}
train: {epochs: EPOCHS, batch_size: 50}
space: {optimizer.lr: {log_uniform: [1e-4, 1e-1]}, optimizer.beta1: [0.8, 0.9]}
rounds: [{sampler: random, trials: 8}]
finalists: {trials: 1, seeds: 2}
recipe: {checks: false}
"""


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "from service.cli import main; main()", *arguments]


def isoflop(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), cwd=cwd, capture_output=True, text=True, timeout=200, check=False
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    (folder / "spec.yaml").write_text(SPEC.replace("EPOCHS", "2"))
    done = isoflop("search", "spec.yaml", "--workers", "1", "--out", "out", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "report:" in done.stdout
    return folder


def test_help_teaches_and_loads_neither_ray_nor_torch(tmp_path):
    code = (
        "import sys; sys.argv = ['isoflop', '--help']\n"
        "from service.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "assert not {'ray', 'torch', 'pandas', 'optuna'} & set(sys.modules), 'loaded'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name in ("search", "resume", "extend", "stop", "list", "show", "report", "compare"):
        assert name in done.stdout


def test_list_and_show_and_compare_have_json(folder):
    listed = json.loads(isoflop("list", "--json", cwd=folder).stdout)
    assert [row["id"] for row in listed] == ["small-1"]
    shown = isoflop("show", "small-1", cwd=folder)
    assert shown.returncode == 0, shown.stderr
    trial = isoflop("show", "small-1/0", "--json", cwd=folder)
    assert json.loads(trial.stdout)
    energy = isoflop("energy", "small-1", "--json", cwd=folder)
    assert json.loads(energy.stdout)


def test_every_answer_has_json(folder):
    rows = "\n".join([",".join(f"pixel{i}" for i in range(64)), ",".join(["0"] * 64)])
    (folder / "rows.csv").write_text(rows)
    for arguments in (
        ["init", "new.yaml"],
        ["stop", "small-1"],
        ["export", "small-1", "--out", "json-tables"],
        ["predict", "small-1", "rows.csv"],
    ):
        done = isoflop(*arguments, "--json", cwd=folder)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)


def test_report_is_written_again(folder):
    done = isoflop("report", "small-1", "--out", "again", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert (folder / "again" / "report.html").stat().st_size > 100_000


def test_dry_run_prints_the_plan_and_trains_nothing(folder):
    before = json.loads(isoflop("list", "--json", cwd=folder).stdout)
    done = isoflop("search", "spec.yaml", "--dry-run", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    assert plan["rounds"][0]["trials"] == 8
    assert plan["rounds"][0]["flops"] > 0
    assert json.loads(isoflop("list", "--json", cwd=folder).stdout) == before


def test_exports_open(folder):
    import pandas as pd

    assert isoflop("export", "small-1", "--out", "tables", cwd=folder).returncode == 0
    assert list((folder / "tables").glob("*.parquet"))
    done = isoflop("export", "small-1", "--format", "optuna", "--out", "study", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert isoflop("export", "small-1", "--format", "xml", cwd=folder).returncode == 2
    assert len(pd.read_parquet(folder / "out" / "trials.parquet")) >= 8


def test_a_spent_budget_before_any_trial_exits_with_3(folder):
    done = isoflop(
        "search", "spec.yaml", "--workers", "1", "--set", "budget.minutes=1e-6", "--out", "none",
        cwd=folder,
    )  # fmt: skip
    assert done.returncode == 3, done.stdout + done.stderr


def test_a_stopped_recipe_exits_with_4(folder):
    done = isoflop(
        "search", "spec.yaml", "--workers", "1", "--set", "init.kind=zeros",
        "--set", "recipe.checks=true", "--out", "stopped", cwd=folder,
    )  # fmt: skip
    assert done.returncode == 4, done.stdout + done.stderr
    assert "continue_on_failure" in done.stderr


def test_ctrl_c_saves_and_says_how_to_resume(tmp_path):
    (tmp_path / "spec.yaml").write_text(SPEC.replace("EPOCHS", "20000"))
    process = subprocess.Popen(
        command("search", "spec.yaml", "--workers", "1", "--out", "out"),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    _wait_for_epochs(tmp_path)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert "isoflop resume small-1" in errors
    listed = json.loads(isoflop("list", "--json", cwd=tmp_path).stdout)
    assert listed[0]["state"] == "interrupted"
    curves = _trials(tmp_path)
    assert 0 < max(trial["epochs_done"] for trial in curves) < 20000


def test_stop_from_another_process_then_resume_goes_on(tmp_path):
    (tmp_path / "spec.yaml").write_text(SPEC.replace("EPOCHS", "3000"))
    process = subprocess.Popen(
        command("search", "spec.yaml", "--workers", "1", "--out", "out"),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    _wait_for_epochs(tmp_path)
    running = isoflop("resume", "small-1", cwd=tmp_path)
    assert running.returncode == 2
    assert "is being run by process" in running.stderr
    assert "will finish its epoch" in isoflop("stop", "small-1", cwd=tmp_path).stdout
    process.communicate(timeout=120)
    assert process.returncode == 130
    done_before = {t["trial_id"]: t["epochs_done"] for t in _trials(tmp_path)}
    assert min(done_before.values()) < 3000
    resumed = isoflop("resume", "small-1", "--workers", "1", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert all(trial["epochs_done"] == 3000 for trial in _trials(tmp_path))


def _trials(folder: Path) -> list[dict[str, int]]:
    from service.ledger import Ledger

    with Ledger.open(str(folder / "isoflop.db")) as ledger:
        return [
            {"trial_id": trial.trial_id, "epochs_done": trial.epochs_done}
            for trial in ledger.trials("small-1")
        ]


def _wait_for_epochs(folder: Path) -> None:
    """Wait until a segment is running."""
    from service.ledger import Ledger
    from trainers.errors import LedgerError

    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            if (folder / "isoflop.db").exists():
                with Ledger.open(str(folder / "isoflop.db")) as ledger:
                    if any(s.state == "running" for s in ledger.segments("small-1")):
                        time.sleep(0.5)
                        return
        except LedgerError:
            pass
        time.sleep(0.1)
    raise AssertionError("no segment began to run within two minutes")
