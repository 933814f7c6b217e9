import shutil

import pytest
from fake_search import FakeSearch, FakeSite, accounts_of

from service.ledger import Ledger
from service.report.facts import collect


@pytest.fixture(scope="session")
def finished_ledger(tmp_path_factory):
    """A ledger file with one finished search: built once, copied for each test."""
    path = tmp_path_factory.mktemp("finished") / "isoflop.db"
    with Ledger.open(path) as opened:
        FakeSearch(opened).build()
    return path


@pytest.fixture
def ledger(tmp_path):
    """An empty ledger."""
    with Ledger.open(tmp_path / "empty.db") as opened:
        yield opened


@pytest.fixture
def fake(ledger):
    """A search of which nothing has run yet."""
    return FakeSearch(ledger)


@pytest.fixture
def done(finished_ledger, tmp_path):
    """A ledger with one finished search, `demo-1`."""
    path = tmp_path / "isoflop.db"
    shutil.copyfile(finished_ledger, path)
    with Ledger.open(path) as opened:
        yield opened


@pytest.fixture
def facts(done):
    """The finished search, metered."""
    return collect(done, "demo-1", accounts=accounts_of(done, "demo-1"), site=FakeSite())
