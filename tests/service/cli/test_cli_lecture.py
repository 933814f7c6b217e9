"""`isoflop lecture` as a user types it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path


def isoflop(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from service.cli import main; main()", "lecture", *arguments],
        cwd=cwd, capture_output=True, text=True, timeout=200, check=False,
        env={**os.environ, "COLUMNS": "200"},
    )  # fmt: skip


def test_the_list_has_every_page_in_two_languages(tmp_path):
    rows = json.loads(isoflop("list", "--json", cwd=tmp_path).stdout)
    assert len(rows) == 68
    assert rows[59]["zh"] == "超参数对训练的影响"
    assert rows[59]["runs"] == "p60.yaml"
    assert "Blank Page" in isoflop("list", cwd=tmp_path).stdout


def test_the_errata_say_page_printed_right_and_test(tmp_path):
    found = json.loads(isoflop("errata", "--json", cwd=tmp_path).stdout)
    assert len(found) == 42
    assert found[0]["pages"] == [43]
    assert "1 - β1^t" in found[0]["right"]
    assert any("test_adam_as_printed_freezes" in test for test in found[0]["tests"])
    assert all(erratum["tests"] for erratum in found)
    assert "…" not in isoflop("errata", cwd=tmp_path).stdout


def test_a_page_is_made_and_says_where_it_lies(tmp_path):
    done = isoflop("run", "p65", "--out", "pages", "--set", "params=1e9", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "3.15e+23" in done.stdout
    assert "1.2e+22" in done.stdout  # 6 N D of the changed run
    assert (tmp_path / "pages" / "p65.html").exists()
    made = isoflop("run", "p24", "--out", "pages", "--json", cwd=tmp_path)
    assert json.loads(made.stdout)["page"] == 24


def test_bad_input_is_refused_with_what_would_work(tmp_path):
    for arguments, message in (
        (("run",), "name one page"),
        (("run", "p60", "--all"), "name one page"),
        (("run", "--all", "--set", "a=1"), "changes one page"),
        (("run", "p60", "--long"), "p60 has none"),
        (("run", "p34", "--long", "--set", "a=1"), "leave out --set"),
        (("run", "p1"), "carried as text"),
        (("run", "p99"), "p1 to p68"),
        (("run", "p60", "--set", "optimizer.lr=-1"), "greater than 0"),
    ):
        done = isoflop(*arguments, cwd=tmp_path)
        assert done.returncode == 2, done.stdout
        assert message in done.stderr
        assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())
