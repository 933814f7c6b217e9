"""Webhooks: each event once, again after a failure, and given up at last."""

import http.server
import json
import threading
from dataclasses import replace

import pytest

from service.jobs.records import JobRecord
from service.jobs.webhooks import RETRY_S, Webhooks, spent_share
from service.ledger import Ledger

SPEC = {"data": {"name": "digits"}, "model": {"kind": "mlp"}, "budget": {"minutes": 1}}
JOB = JobRecord(
    job_id="j-a",
    owner="ada",
    kind="search",
    action={"run": {}},
    name="small",
    project="p",
    spec=SPEC,
    priority="normal",
    state="running",
    webhook_url="http://hooks.example.org/x",
)


class Receiver:
    """Remembers what was posted, and refuses as often as it is told."""

    def __init__(self, refuse=0):
        self.refuse, self.seen = refuse, []

    def __call__(self, url, content):
        if self.refuse:
            self.refuse -= 1
            raise OSError("no answer")
        self.seen.append((url, content["event"], content["job_id"]))


@pytest.fixture(params=["sqlite", "postgres"])
def ledger(request):
    with Ledger.open(request.getfixturevalue(f"{request.param}_url")) as opened:
        opened.create_job(JOB)
        opened.create_job(replace(JOB, job_id="j-silent", webhook_url=None, state="finished"))
        yield opened


def end(ledger, state, now=100.0):
    ledger.update_job("j-a", state=state, finished_unix_s=now)


@pytest.mark.parametrize("state", ["finished", "failed"])
def test_an_end_is_told_once_also_after_a_restart(ledger, state):
    receiver = Receiver()
    end(ledger, state)
    for _ in range(3):
        Webhooks(ledger, post=receiver, clock=lambda: 101.0).turn()
    assert receiver.seen == [("http://hooks.example.org/x", state, "j-a")]
    assert ledger.deliveries("j-a")[0].delivered_unix_s == 101.0


def test_a_stopped_job_is_not_told(ledger):
    receiver = Receiver()
    end(ledger, "stopped")
    Webhooks(ledger, post=receiver, clock=lambda: 101.0).turn()
    assert receiver.seen == []


def test_a_failed_try_is_repeated_later_and_not_before(ledger):
    receiver, now = Receiver(refuse=2), [101.0]
    webhooks = Webhooks(ledger, post=receiver, clock=lambda: now[0])
    end(ledger, "finished")
    webhooks.turn()
    webhooks.turn()
    assert ledger.deliveries("j-a")[0].tries == 1
    for wait in RETRY_S[:2]:
        now[0] += wait
        webhooks.turn()
    assert len(receiver.seen) == 1
    assert ledger.deliveries("j-a")[0].tries == 3


def test_it_is_given_up_at_last_and_says_why(ledger):
    receiver, now = Receiver(refuse=100), [101.0]
    webhooks = Webhooks(ledger, post=receiver, clock=lambda: now[0])
    end(ledger, "finished")
    for wait in (0.0, *RETRY_S, 10_000.0):
        now[0] += wait
        webhooks.turn()
    given_up = ledger.deliveries("j-a")[0]
    assert (given_up.next_unix_s, given_up.error) == (None, "no answer")
    assert given_up.tries == len(RETRY_S) + 1


def test_ninety_percent_of_a_budget_are_told_once(ledger):
    search_id = ledger.create_search(name="small", spec=SPEC, seed=0).search_id
    ledger.update_job("j-a", search_id=search_id)
    receiver, now = Receiver(), [0.0]
    webhooks = Webhooks(ledger, post=receiver, clock=lambda: now[0])
    span = ledger.open_span(
        search_id, host="h", boot_id="b", pid=1, started_s=0.0, started_unix_s=0.0
    )
    for elapsed_s in (50.0, 55.0, 58.0):
        ledger.extend_span(search_id, span.span, elapsed_s)
        now[0] += 100.0
        webhooks.turn()
    assert [event for _, event, _ in receiver.seen] == ["budget"]
    assert spent_share(ledger, search_id) == pytest.approx(58 / 60)


def test_a_real_receiver_gets_json_and_redirects_are_not_followed(tmp_path):
    got = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            got.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(302 if len(got) == 1 else 200)
            self.send_header("Location", "http://127.0.0.1:1/elsewhere")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with Ledger.open(tmp_path / "l.db") as ledger:
        url = f"http://127.0.0.1:{server.server_port}/hook"
        ledger.create_job(replace(JOB, webhook_url=url, state="finished", finished_unix_s=100.0))
        now = [101.0]
        webhooks = Webhooks(ledger, clock=lambda: now[0])
        webhooks.turn()
        assert ledger.deliveries("j-a")[0].delivered_unix_s is None
        now[0] += RETRY_S[0]
        webhooks.turn()
        assert ledger.deliveries("j-a")[0].delivered_unix_s is not None
    server.shutdown()
    server.server_close()
    assert [message["event"] for message in got] == ["finished", "finished"]
