"""`service.Client` and `service.AsyncClient` against a real server: what comes home is the same."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import pytest
from loopback import listening

from service import AsyncClient, Client, open_search
from service.jobs import driver
from trainers.errors import ConfigError, ServiceError

TINY = {
    "name": "tiny",
    "data": {"name": "digits", "num_train": 200},
    "model": {"depth": 1, "width": 16},
    "train": {"epochs": 3, "batch_size": 50},
    "space": {"optimizer.lr": {"log_uniform": [1e-3, 1e-1]}},
    "rounds": [{"sampler": "sobol", "trials": 4}],
    "finalists": {"trials": 1, "seeds": 2},
    "recipe": {"checks": False},
    "resources": {"max_workers": 1},
}


@pytest.fixture
def address(service):
    with listening(service.app) as address:
        yield address


@pytest.fixture
def driving(service, monkeypatch, tmp_path):
    """Do the cluster's work: run a job's driver in this process, to its end."""
    monkeypatch.setenv("ISOFLOP_STORAGE", str(tmp_path / "runs"))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)

    def drive(job_id):
        service.manager.tick()
        run = service.backend.started[-1][0]
        service.backend.move(run, "running")
        service.backend.printed[run] = "it begins\n"
        assert driver.run_attempt(service.ledger, job_id, 1) == 0
        service.backend.move(run, "succeeded", exit_code=0)
        service.manager.tick()

    return drive


def assert_same(fetched, original):
    for table in ("trials", "curves"):
        pd.testing.assert_frame_equal(getattr(fetched, table)(), getattr(original, table)())
    assert fetched.verdict == original.verdict
    assert fetched.energy().own_kwh == pytest.approx(original.energy().own_kwh)
    assert fetched.best.config == original.best.config


def test_what_comes_home_is_what_the_server_holds(service, address, driving, tmp_path):
    with Client(address, service.tokens["ada"]) as client, ThreadPoolExecutor() as pool:
        job = client.submit(TINY, idempotency_key="k")
        assert client.submit(TINY, idempotency_key="k").job_id == job.job_id
        seen = []
        begun = threading.Event()

        def on_status(status):
            seen.append(status["state"])
            begun.set()

        waiting = pool.submit(job.wait, out=tmp_path / "a", poll_s=0.05, on_status=on_status)
        assert begun.wait(60)
        driving(job.job_id)
        fetched = waiting.result(60)
        assert seen[0] == "queued"
        assert "".join(job.log(follow=True)).startswith("it begins")
        assert client.jobs(state="finished")[0]["job_id"] == job.job_id
        original = open_search("tiny-1", ledger=service.ledger.url)
        assert_same(fetched, original)
        again = asyncio.run(_with_async(address, service.tokens["ada"], job.job_id, tmp_path / "b"))
        assert_same(again, original)
        assert (tmp_path / "a" / "report.html").read_bytes() == (
            tmp_path / "b" / "report.html"
        ).read_bytes()
    model = fetched.best.load()
    assert sum(parameter.numel() for parameter in model.parameters()) > 0


async def _with_async(address, token, job_id, out):
    async with AsyncClient(address, token) as client:
        assert await client.submit(TINY, idempotency_key="k") == job_id
        assert (await client.status(job_id))["search_id"] == "tiny-1"
        assert [piece async for piece in client.log(job_id)] == ["it begins\n"]
        assert (await client.get("searches/tiny-1"))["state"] == "finished"
        return await client.wait(job_id, out=out)


def test_what_the_service_refuses_is_said_in_its_words(service, address, search):
    with Client(address, service.tokens["eve"]) as client:
        with pytest.raises(ServiceError, match="there is no search `small-1` that you may see"):
            client.fetch("small-1")
        with pytest.raises(ConfigError, match="did you mean `name`"):
            client.submit({**TINY, "nam": "x"})
    with (
        Client(address, "iso_wrong_token") as stranger,
        pytest.raises(ServiceError, match="unknown, expired or revoked"),
    ):
        stranger.jobs()
    with (
        Client("http://127.0.0.1:1") as nobody,
        pytest.raises(ServiceError, match=r"127\.0\.0\.1:1"),
    ):
        nobody.jobs()
