"""What the terminal shows while a search runs."""

from __future__ import annotations

import io
import os
import re
import sys

import pytest
from rich.console import Console
from rich.live import Live

from service import run_search
from service.cli import live

SPEC = {
    "name": "small",
    "data": {"name": "digits", "num_train": 200},
    "model": {"kind": "mlp", "depth": 1, "width": 16},
    "train": {"epochs": 4, "batch_size": 50},
    "space": {"optimizer.lr": {"log_uniform": [1e-4, 1e-1]}},
    "rounds": [{"sampler": "random", "trials": 48, "halving": {"eta": 2, "first_epoch": 1}}],
    "finalists": {"trials": 1, "seeds": 2},
    "recipe": {"checks": False},
}


@pytest.fixture
def every_change(monkeypatch):
    """Show every change, however soon after the last."""
    monkeypatch.setattr(live, "REFRESH_S", 0.0)
    monkeypatch.setattr(live, "PLAIN_LINE_EVERY_S", 0.0)


def search(tmp_path, display):
    return run_search(
        SPEC, workers=1, ledger=tmp_path / "ledger.db", out=tmp_path / "out", display=display
    )


def test_a_terminal_shows_round_trials_best_energy_and_time_left(tmp_path, every_change):
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=120, color_system=None)
    with Live(console=console, auto_refresh=False) as panel:
        panel.update = lambda shown: console.print(shown)  # keep every picture, not the last
        result = search(tmp_path, live.Panel(panel))
    shown = screen.getvalue()
    assert "small-1" in shown
    assert re.search(r"round +0 \(coarse\)", shown)
    assert re.search(r"round +finalists", shown)
    assert re.search(r"trials +\d+ done, [1-9]\d* running, \d+ pruned", shown)
    assert re.search(r"best val_error +none yet", shown)
    assert re.search(r"best val_error +0\.\d+ \(trial \d+\)", shown)
    assert re.search(r"energy +\S+ Wh", shown)
    assert re.search(r"time +\d+ s, about \d+ s left", shown)
    pruned = int((result.trials()["state"] == "pruned").sum())
    assert f"{pruned} pruned" in shown


def test_a_log_gets_plain_lines(tmp_path, every_change, capsys):
    search(tmp_path, live.PlainLines())
    lines = capsys.readouterr().out.splitlines()
    assert "\x1b" not in "".join(lines)
    pattern = r"round .*; trials \d+ done.*; best val_error .*; energy .* Wh; time \d+ s"
    assert any(re.match(pattern, line) for line in lines)


def test_a_search_goes_on_where_the_reader_of_its_lines_has_gone(monkeypatch):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        lines = live.PlainLines()
        lines.note("nobody reads this")
        lines.note("nor this")
        monkeypatch.undo()
