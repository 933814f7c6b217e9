"""What is slow to make and shared by the tests of whole searches and of the executors."""

import pytest
from small_search import outcome, small_spec


@pytest.fixture(scope="session")
def local_ray():
    """One local Ray for all: starting it takes seconds."""
    from service.search.executor.ray_cluster import Cluster, WorkerShape

    cluster = Cluster(4, WorkerShape(), None)  # room for two executors of two workers
    yield cluster
    cluster.close()


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory):
    """Tables of the small search, run by one worker that nobody disturbs."""
    from service import run_search

    folder = tmp_path_factory.mktemp("undisturbed")
    result = run_search(
        small_spec(name="small"), workers=1, ledger=folder / "ledger.db", out=folder / "out"
    )
    return outcome(result)
