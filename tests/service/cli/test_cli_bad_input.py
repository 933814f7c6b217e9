"""Bad input: a message that states rule, value and next step, exit code 2, nothing started."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from service.cli import main
from service.ledger import Ledger
from service.ledger.book_records import Factor

SPACE = "space: {optimizer.lr: {log_uniform: [1e-4, 1e-1]}}\n"


def isoflop(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from service.cli import main; main()", *arguments],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture
def refused(tmp_path):
    def refused(spec: str, *arguments: str, **environment: str) -> str:
        (tmp_path / "spec.yaml").write_text(spec)
        done = isoflop(
            "search", "spec.yaml", "--workers", "1", *arguments, cwd=tmp_path, **environment
        )
        assert done.returncode == 2, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        assert not (tmp_path / "isoflop.db").exists()
        assert not (tmp_path / "runs").exists()
        return done.stderr

    return refused


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("optimizer: {lrr: 0.1}\n", "did you mean `lr`"),
        ("optimiser: {lr: 0.1}\n", "did you mean `optimizer`"),
        ("space: {optimizer.lr: {uniform: [1, 1]}}\n", "is empty"),
        ("space: {optimizer.lr: {uniform: [1, 0]}}\n", "is inverted"),
        ("space: {optimizer.lr: {log_uniform: [0, 1]}}\n", "low > 0"),
        ("space: {optimizer.lr: {uniform: [0.1, 1], when: {model.kind: mlp}}}\n", "model.kind"),
        (SPACE + "sampler: grid\n", "`grid` or `step`"),
        (SPACE + "optimizer: {lr: 0.1}\n", "optimizer.lr"),
        (SPACE + "budget: {trials: 0}\n", "budget.trials"),
        (SPACE + "budget: {kgco2e: 1}\n", "ISOFLOP_COUNTRY"),
        ("data: {name: digitz}\n", "did you mean `digits`"),
        ("train: {batch_size: 100000}\n", "100000"),
        ("- a\n- list\n", "spec"),
        ("a: [unclosed\n", "YAML"),
        ("kind: dance\n", "kind"),
        ("name: a/b\n", "try 'a-b'"),
        ("model: {width: 1000000}\n", "must fit into memory"),
        ("budget: {trials: 100000000000000000000}\n", "budget.trials"),
        pytest.param(
            "resources: {gpus_per_worker: 1}\n",
            "torch sees no GPU",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU"),
        ),
        ("", "spec"),
    ],
)
def test_each_broken_rule_is_named(refused, spec, message):
    assert message in refused(spec)


def test_a_misspelt_country_is_refused_with_the_nearest_code(refused):
    assert "FRA" in refused("model: {depth: 1}\n", ISOFLOP_COUNTRY="FR")


def test_an_output_that_is_a_file_is_refused(refused, tmp_path):
    (tmp_path / "taken").write_text("")
    assert "is a file" in refused("model: {depth: 1}\n", "--out", "taken")


def test_a_cluster_that_does_not_answer_is_refused(refused):
    assert "nothing answers at 127.0.0.1:1" in refused(
        "model: {depth: 1}\n", "--address", "127.0.0.1:1"
    )


def test_a_huge_spec_is_refused_unread(refused):
    assert "spec" in refused("# " + "x" * 100_000_000)


def test_a_missing_file_is_refused(tmp_path):
    done = isoflop("search", "nowhere.yaml", cwd=tmp_path)
    assert done.returncode == 2
    assert "nowhere.yaml" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["init", "no/where.yaml"], "cannot use `no/where.yaml`: No such file or directory"),
        (["stop", "x"], "there is no ledger at isoflop.db"),
        (["landscape", "x"], "there is no ledger at isoflop.db"),
        (["landscape", "x", "--out", "x.foo"], "must end in .png, .svg or .pdf, but got x.foo"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_and_none_is_made(
    tmp_path, monkeypatch, capsys, arguments, words
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["isoflop", *arguments])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 2
    assert words in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_control_c_at_any_time_says_what_can_be_resumed(monkeypatch, capsys):
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("service.search.doctor.findings", interrupted)
    monkeypatch.setattr(sys, "argv", ["isoflop", "doctor"])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 130
    assert "`isoflop list` shows what can be resumed" in capsys.readouterr().err


def test_a_terminal_without_unicode_gets_replacements(tmp_path):
    with Ledger.open(tmp_path / "isoflop.db") as ledger:
        ledger.add_factor(
            Factor(site="größe", basis="pue", value=1.2, valid_from_unix_s=0.0, source="me")
        )
    done = isoflop("factors", "list", cwd=tmp_path, PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert "gr??e" in done.stdout


def test_messages_are_not_wrapped_and_commands_can_be_copied(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = "a folder/" + "x" * 80 + "[b].yaml"
    (tmp_path / "a folder").mkdir()
    monkeypatch.setattr(sys, "argv", ["isoflop", "init", path])
    with pytest.raises(SystemExit):
        main()
    assert f"isoflop check '{path}'" in capsys.readouterr().out


def test_a_bad_override_is_refused(refused):
    assert "did you mean" in refused("model: {depth: 1}\n", "--set", "optimizer.lrr=1")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"x": [1.0, np.nan] * 10, "y": [0, 1] * 10}, "x"),
        ({"x": [1.0, np.inf] * 10, "y": [0, 1] * 10}, "x"),
        ({"x": [1.0] * 20, "label": [0, 1] * 10}, "label"),
        ({"x": [], "y": []}, "row"),
    ],
)
def test_bad_tables_are_refused_at_registration(tmp_path, columns, message):
    import pandas as pd

    pd.DataFrame(columns).to_csv(tmp_path / "t.csv", index=False)
    done = isoflop("data", "add", "mine", "t.csv", "--target", "y", cwd=tmp_path)
    assert done.returncode == 2, done.stdout
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_commands_on_a_ledger_that_is_not_there(tmp_path):
    for command in (["list"], ["show", "x"], ["report", "x"], ["compare", "x", "y"]):
        done = isoflop(*command, cwd=tmp_path)
        assert done.returncode == 2
        assert "there is no ledger" in done.stderr
    assert not (tmp_path / "isoflop.db").exists()


def test_a_ledger_that_is_no_database_is_refused(tmp_path):
    (tmp_path / "isoflop.db").write_text("this is no database, only text " * 100)
    done = isoflop("list", cwd=tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs Linux's /proc")
def test_a_folder_that_only_looks_writable_is_refused(refused):
    assert "`--out` must be writable" in refused(SPACE, "--out", "/proc/isoflop")


def test_evidence_that_is_not_there_is_refused_before_a_ledger_is_made(refused):
    message = refused(SPACE + "start_from: {trials: no_such.csv}\n")
    assert "start_from.trials" in message
    assert "no_such.csv" in message


NETS = """
from torch import nn


class Raises(nn.Module):
    def __init__(self, *_):
        super().__init__()
        self.head = nn.Linear(64, 10)

    def forward(self, x):
        raise RuntimeError("no such rows")


def too_wide(input_shape, num_outputs):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, num_outputs + 3))
"""


@pytest.mark.parametrize(
    ("factory", "message"), [("Raises", "no such rows"), ("too_wide", "its module gave (2, 13)")]
)
def test_a_factory_whose_module_does_not_fit_is_refused(refused, tmp_path, factory, message):
    (tmp_path / "unfit_nets.py").write_text(NETS)
    spec = SPACE + f"model: {{factory: 'unfit_nets:{factory}'}}\n"
    assert message in refused(spec, PYTHONPATH=str(tmp_path))
