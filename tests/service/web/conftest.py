"""A service with users and a finished search, over a cluster that a test moves by hand."""

from dataclasses import dataclass, field

import pytest
from fastapi.testclient import TestClient
from web_search import finished_search

from service.jobs.manager import JobManager
from service.jobs.settings import ServiceSettings
from service.jobs.testing import FakeBackend
from service.ledger import Ledger
from service.ledger.records import SearchRecord
from service.web.app import create_app
from service.web.fitting import FittingPool


@dataclass
class Service:
    """A service in this process, and who can use it."""

    ledger: Ledger
    backend: FakeBackend
    manager: JobManager
    app: object
    tokens: dict[str, str] = field(default_factory=dict)

    def client(self, user: str | None = None) -> TestClient:
        """Return a client of a user; None: of nobody."""
        headers = {"Authorization": f"Bearer {self.tokens[user]}"} if user else {}
        return TestClient(self.app, headers=headers, follow_redirects=False)


@pytest.fixture
def settings() -> ServiceSettings:
    return ServiceSettings()


@pytest.fixture(scope="session")
def fitter():
    """One process for all: starting it takes seconds."""
    pool = FittingPool(1)
    yield pool
    pool.close()


@pytest.fixture
def empty(tmp_path, settings, fitter):
    """A service without users: one person's, on this machine."""
    backend = FakeBackend()
    settings = settings.model_copy(
        update={"storage": settings.storage.model_copy(update={"path": tmp_path / "runs"})}
    )
    with Ledger.open(tmp_path / "isoflop.db") as ledger:
        manager = JobManager(ledger, backend, settings)
        manager.tick()
        yield Service(ledger, backend, manager, create_app(manager, ledger, settings, fitter))


@pytest.fixture
def service(empty):
    """The same with four users: ada owns the search, bob reads her project, eve reads nothing."""
    for user, role, projects in (
        ("ada", "submitter", ()),
        ("bob", "viewer", ("vision/*",)),
        ("eve", "submitter", ()),
        ("root", "admin", ()),
    ):
        empty.ledger.create_user(user, role, projects=projects)
        empty.tokens[user] = empty.ledger.add_token(user)[1]
    return empty


@pytest.fixture
def search(service, tmp_path) -> SearchRecord:
    """A finished search of ada's with twelve trials, curves, a round and a warning."""
    return finished_search(service.ledger, tmp_path)


@pytest.fixture(scope="session")
def real_service(tmp_path_factory):
    """`isoflop serve` with a Ray head of its own, two users, and searches that were there before.

    Gives the address, the users' tokens and the ids of the odd searches.
    """
    from browser_visit import serving
    from odd_searches import add_odd_searches
    from study_in_ledger import finished_study

    folder = tmp_path_factory.mktemp("service")
    with Ledger.open(folder / "isoflop.db") as ledger:
        ledger.create_user("ada", "submitter")
        ledger.create_user("bob", "viewer", projects=["vision/*"])
        finished_search(ledger, folder, num_trials=60)
        finished_study(ledger)
        odd = add_odd_searches(ledger, "ada")
        tokens = {user: ledger.add_token(user)[1] for user in ("ada", "bob")}
    with serving(folder) as address:
        yield address, tokens, odd
