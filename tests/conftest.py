import os

# Threads beyond the cores slow torch down tenfold, and workers set one thread as well.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from hypothesis import settings

# The same examples in every run, so that red means a change of ours; new examples are looked for
# by hand:  pytest --hypothesis-profile=explore
settings.register_profile("repeat", derandomize=True)
settings.register_profile("explore", derandomize=False, print_blob=True)
settings.load_profile("repeat")


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch, tmp_path):
    """No site, ledger or registered data of the machine that runs the tests leaks into them."""
    for name in list(os.environ):
        if name.startswith("ISOFLOP_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("ISOFLOP_HOME", str(tmp_path / "isoflop-home"))


def pytest_collection_modifyitems(items):
    if torch.cuda.is_available():
        return
    skip = pytest.mark.skip(reason="no CUDA device is visible on this machine")
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(skip)
