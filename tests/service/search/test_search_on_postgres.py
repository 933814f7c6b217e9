"""A whole search with its ledger in a real PostgreSQL server."""

from __future__ import annotations

import subprocess
import sys

from small_search import SMALL, assert_same_outcome

from service import open_search
from service.search.yaml_loading import dump_yaml


def test_a_search_on_postgresql_gives_the_table_that_sqlite_gives(
    postgres_url, undisturbed, tmp_path
):
    (tmp_path / "spec.yaml").write_text(dump_yaml({"name": "small", **SMALL}))
    done = subprocess.run(
        [sys.executable, "-c", "from service.cli import main; main()", "search", "spec.yaml",
         "--workers", "1", "--out", "out", "--ledger", postgres_url],
        cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    result = open_search("small-1", ledger=postgres_url)
    assert_same_outcome(result, undisturbed)
    assert result.energy().node_kwh > 0
    assert result.report_path is not None
    assert not list(tmp_path.glob("*.db"))
    extended = result.extend(trials=4, workers=1)
    assert len(extended.trials()) > len(undisturbed[0])
