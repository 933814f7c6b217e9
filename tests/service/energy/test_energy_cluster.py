"""Meters of other hosts: what is lost on the way comes again, and restarts go on in a new span."""

import os
import time

import pytest
from energy_helpers import RealTimeMeter, new_search

from service.energy import EnergySession, accounts
from service.energy.cluster import HostAgent, RemoteHost
from service.ledger import Ledger


class LossyCalls:
    """Calls of an agent in this process; every other answer is lost after the agent gave it."""

    def __init__(self, make):
        self._make = make
        self._agent = make()
        self.lose = True
        self._count = 0

    def ask(self, method, *args):
        answer = getattr(self._agent, method)(*args)
        self._count += 1
        return None if self.lose and method == "collect" and self._count % 2 == 0 else answer

    def tell(self, method, *args):
        getattr(self._agent, method)(*args)

    def close(self):
        pass

    def restart(self):
        self._agent.stop()
        self._agent = self._make()


@pytest.fixture
def ledger(tmp_path):
    with Ledger.open(tmp_path / "ledger.db") as ledger:
        yield ledger


def wait(condition, within_s=20.0):
    until = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_lost_answers_lose_no_window_and_a_restart_opens_a_new_span(ledger, tmp_path):
    search_id = new_search(ledger)
    calls = LossyCalls(lambda: HostAgent(search_id, tmp_path / "spool", RealTimeMeter()))
    host = RemoteHost(ledger, search_id, calls)
    host.worker_began(host.host, os.getpid())

    def windows():
        host.mark()
        host.flush()
        return accounts(ledger, search_id).num_windows

    wait(lambda: windows() >= 4)
    calls.restart()
    wait(lambda: windows() >= 8)
    calls.lose = False
    host.end()
    spans = ledger.spans(search_id)
    assert len(spans) == 2
    assert spans[1].started_s <= spans[0].ended_s + 1.0
    account = accounts(ledger, search_id)
    assert account.residual < 1e-9
    assert host.own_kwh() == pytest.approx(account.own_kwh, rel=0.2)
    rows = ledger.windows(spans[0].host, spans[0].boot_id, spans[0].started_s, spans[0].ended_s)
    first = [row["seq"] for row in rows if row["meter_epoch"] == rows[0]["meter_epoch"]]
    assert first == list(range(len(first)))


@pytest.mark.long
def test_an_agent_runs_in_a_ray_actor(ledger, tmp_path):
    import ray

    from service.energy.cluster import RayCalls

    search_id = new_search(ledger)
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    try:
        agent = ray.remote(HostAgent).options(num_cpus=0, max_restarts=-1)
        actor = agent.remote(search_id, tmp_path / "spool")
        host = RemoteHost(ledger, search_id, RayCalls(actor))
        session = EnergySession.begin(ledger, search_id, spool=tmp_path / "spool")
        session.add_hosts([host])
        for _ in range(40):
            session.mark()
            session.flush()
            time.sleep(0.1)
        session.end()
    finally:
        ray.shutdown()
    assert accounts(ledger, search_id).num_windows > 5
    assert accounts(ledger, search_id).residual < 1e-9
