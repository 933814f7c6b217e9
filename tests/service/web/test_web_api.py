"""What the API promises, route by route: keys, pages, filters, thinning, problems, streams."""

import io
import json
import math

import httpx
import pandas as pd
import pytest
from loopback import events, listening
from web_search import SPEC

from service.ledger.testing_records import border, segment_record, trial_record

S = "/api/v1/searches/small-1"
LOG = "".join(f"line {i}: lr = 1e-3 → ü\n" for i in range(4000))
"""More than two slices of 64 KiB, with characters of several bytes."""


@pytest.fixture
def ada(service, search):
    return service.client("ada")


@pytest.fixture
def online(service, search):
    """The same service on a real socket, for what streams."""
    with listening(service.app) as address:
        headers = {"Authorization": f"Bearer {service.tokens['ada']}"}
        with httpx.Client(base_url=address, headers=headers, timeout=60) as client:
            yield client


def submit(client, key=None, **body):
    headers = {"Idempotency-Key": key} if key else {}
    return client.post("/api/v1/jobs", json={"spec": SPEC, **body}, headers=headers)


def every_page(client, path, **params):
    items, after = [], None
    while True:
        page = client.get(path, params={**params, **({"after": after} if after else {})}).json()
        items.append(page["items"])
        after = page["next"]
        if after is None:
            return items


def test_one_key_makes_one_job(service, ada):
    first, second = submit(ada, "k1"), submit(ada, "k1")
    assert first.status_code == second.status_code == 201
    assert first.json()["job_id"] == second.json()["job_id"]
    assert first.headers["location"] == f"/api/v1/jobs/{first.json()['job_id']}"
    assert submit(service.client("eve"), "k1").json()["job_id"] != first.json()["job_id"]
    other = submit(ada, "k1", spec={**SPEC, "name": "other"})
    assert other.status_code == 409
    assert "stands for one request" in other.json()["detail"]
    assert len(service.ledger.jobs()) == 2


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("sort", ["trial_id", "metrics.val_error", "params.optimizer.lr", "state"])
def test_pages_of_trials_hold_each_once_and_in_order(ada, sort, descending):
    pages = every_page(ada, f"{S}/trials", sort=sort, descending=descending, limit=5)
    assert [len(page) for page in pages] == [5, 5, 2]
    trials = [trial for page in pages for trial in page]
    assert {trial["trial_id"] for trial in trials} == set(range(12))
    place, _, name = sort.partition(".")
    keys = [trial[place][name] if name else trial[sort] for trial in trials]
    assert keys == sorted(keys, reverse=descending)


def test_pages_of_searches_and_jobs_end(service, ada):
    for number in range(7):
        service.ledger.create_search(name=f"s{number}", spec=SPEC, seed=0, owner="ada")
        submit(ada)
    pages = every_page(ada, "/api/v1/searches", limit=3)
    assert [len(page) for page in pages] == [3, 3, 2]
    assert len({one["search_id"] for page in pages for one in page}) == 8
    assert [len(page) for page in every_page(ada, "/api/v1/jobs", limit=3)] == [3, 3, 1]
    found = ada.get("/api/v1/searches", params={"text": "s3"}).json()["items"]
    assert [one["search_id"] for one in found] == ["s3-1"]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (["state=pruned"], {3, 7, 11}),
        (["metrics.val_error<=0.3"], set(range(8, 12))),
        (["metrics.val_error<=0.3", "state!=pruned"], {8, 9, 10}),
        (["params.optimizer.kind=adam", "trial_id<2"], {0, 1}),
        (["params.optimizer.kind=sgd"], set()),
        (["params.optimizer.lr>0.01"], {i for i in range(12) if -4 + 0.3 * (i % 10) > -2}),
    ],
)
def test_conditions_choose_trials_curves_and_charts(ada, where, expected):
    trials = ada.get(f"{S}/trials", params={"where": where}).json()["items"]
    assert {trial["trial_id"] for trial in trials} == expected
    curves = ada.get(f"{S}/curves", params={"where": where}).json()
    assert {int(trial) for trial in curves["epochs"]} == expected
    assert ada.get(f"{S}/charts", params={"where": where}).json()["num_trials"] == len(expected)


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("where=metrics.val_error<=low", "is a number"),
        ("where=state<complete", "takes = and !="),
        ("where=nothing=1", "metrics.NAME"),
        ("sort=stat", "did you mean `state`"),
        ("after=rubbish", "`next` of the page before"),
        ("limit=501", "`limit`"),
    ],
)
def test_what_cannot_be_asked_is_a_problem_that_says_why(ada, query, says):
    answer = ada.get(f"{S}/trials?{query}")
    assert answer.status_code == 400
    assert says in answer.json()["detail"]


def test_curves_are_thinned_and_keep_their_last_epoch(service, ada):
    search_id = service.ledger.create_search(name="long", spec=SPEC, seed=0, owner="ada").search_id
    service.ledger.add_trials(search_id, [trial_record(0), trial_record(1)])
    service.ledger.add_segments(search_id, [segment_record("r0b0s0", [0, 1], stop_epoch=1003)])
    attempt = service.ledger.begin_attempt(search_id, "r0b0s0")
    service.ledger.apply(border(search_id, attempt, range(1, 1004)))
    path = f"/api/v1/searches/{search_id}/curves"
    for most in (2, 100, 400):
        view = ada.get(path, params={"max_points": most}).json()
        for trial, epochs in view["epochs"].items():
            assert len(epochs) <= most + 1
            assert epochs[-1] == 1003
            assert epochs == sorted(set(epochs))
            exact = [int(trial) + epoch / 100 + attempt / 1e4 for epoch in epochs]
            assert view["values"][trial] == pytest.approx(exact)
    assert ada.get(path, params={"metric": "val_los"}).status_code == 400


def test_a_bad_spec_is_refused_with_the_line(service, ada):
    text = "kind: search\nname: x\ndata: {name: digits}\noptimizer:\n  learning_rate: 0.1\n"
    answer = ada.post("/api/v1/jobs", json={"spec": text})
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert "line 5" in answer.json()["errors"][0]
    assert "learning_rate" in answer.json()["errors"][0]
    verdict = ada.post("/api/v1/specs/check", json={"spec": text}).json()
    assert verdict == {"valid": False, "errors": answer.json()["errors"], "preview": {}}
    assert service.ledger.jobs() == []


@pytest.mark.parametrize(
    "spec",
    ["", "- 1", "a: b: c", "&a [*a]", "kind: search\nkind: study", {"model": {"depth": 10**30}},
     {"space": {"model.width": {"int": [1, math.e]}}}, {"name": "x" * 10_000}, {"\0": 1}],
)  # fmt: skip
def test_no_spec_brings_the_service_down(ada, spec):
    answer = ada.post("/api/v1/jobs", json={"spec": spec})
    assert answer.status_code == 400
    assert answer.json()["detail"]
    assert ada.post("/api/v1/specs/check", json={"spec": spec}).json()["valid"] is False


def test_bodies_that_are_too_large_or_no_json(ada):
    large = ada.post("/api/v1/jobs", json={"spec": "x" * 400_000})
    assert (large.status_code, large.json()["code"]) == (413, "too_large")
    unread = ada.post("/api/v1/jobs", content=b"{", headers={"Content-Type": "application/json"})
    assert (unread.status_code, unread.json()["code"]) == (400, "invalid")
    unknown = submit(ada, webhook="http://example.org")
    assert "webhook" in unknown.json()["detail"]


@pytest.mark.parametrize("name", ["nothing-1", "ü", "x" * 150, "%00", "a%20b", "a..b", "1;--"])
def test_ids_that_are_none_are_not_found(ada, name):
    for path in (f"searches/{name}", f"searches/{name}/charts", f"jobs/{name[:50]}"):
        assert ada.get(f"/api/v1/{path}").status_code == 404


@pytest.mark.parametrize("format", ["csv", "parquet"])
def test_tables_come_whole(ada, format):
    read = pd.read_csv if format == "csv" else pd.read_parquet
    answer = ada.get(f"{S}/tables/trials.{format}")
    frame = read(io.BytesIO(answer.content))
    assert list(frame["trial_id"]) == list(range(12))
    assert frame["val_error"].to_numpy() == pytest.approx([0.5 - i / 40 for i in range(12)])
    curves = read(io.BytesIO(ada.get(f"{S}/tables/curves.{format}").content))
    assert len(curves) == 12 * 3


def test_a_spreadsheet_runs_nothing_from_a_csv(service, ada):
    service.ledger.update_trials("small-1", [(0, {"reason": "=cmd|' /C calc'!A0"})])
    frame = pd.read_csv(io.BytesIO(ada.get(f"{S}/tables/trials.csv").content))
    assert frame["reason"][0] == "'=cmd|' /C calc'!A0"


def begin(service, client):
    """Submit a job and let its driver run; return the job's id and the run's name."""
    job_id = submit(client).json()["job_id"]
    service.manager.tick()
    run = service.backend.started[-1][0]
    service.backend.move(run, "running")
    return job_id, run


def end(service, run):
    service.backend.move(run, "failed", message="it ended")
    for _ in range(8):
        service.manager.tick()


def test_the_log_is_read_by_offset_to_its_end(service, ada):
    job_id, run = begin(service, ada)
    service.backend.printed[run] = LOG
    service.manager.tick()
    text, offset = "", 0
    while piece := ada.get(f"/api/v1/jobs/{job_id}/log", params={"offset": offset}).json():
        if not piece["text"]:
            break
        assert len(piece["text"].encode()) <= 65_536
        text, offset = text + piece["text"], piece["next_offset"]
    assert text == LOG
    assert offset == len(LOG.encode())
    assert not piece["ended"]


def test_a_stream_that_broke_goes_on_without_gap_or_repeat(service, online):
    job_id, run = begin(service, online)
    service.backend.printed[run] = LOG[: len(LOG) // 2]
    service.manager.tick()
    path = f"/api/v1/jobs/{job_id}/log/stream"
    text, last = "", ""
    for half in (1, 2):
        with online.stream("GET", path, headers={"Last-Event-ID": last}) as response:
            assert response.headers["content-type"].startswith("text/event-stream")
            for name, event_id, data in events(response):
                last = event_id
                if name == "end":
                    break
                text += json.loads(data)
                if half == 1:
                    break  # the connection is gone in the middle
        if half == 1:
            service.backend.printed[run] = LOG
            service.ledger.update_job(job_id, state="stopping", stopping_unix_s=1.0)
            end(service, run)
    assert text == LOG


def test_viewers_see_a_search_change(service, online):
    service.ledger.update_search("small-1", state="running")
    with online.stream("GET", f"{S}/live") as response:
        states = (json.loads(data) for name, _, data in events(response) if name == "state")
        first = next(states)
        assert first["state"] == "running"
        assert first["trials"] == {"complete": 9, "pruned": 3}
        assert first["epochs_done"] == first["epochs_planned"] == 36
        service.ledger.update_trials("small-1", [(0, {"metrics": {"val_error": 0.01}})])
        assert next(states)["best"] == 0.01
        service.ledger.update_search("small-1", state="finished")
        assert next(states)["state"] == "finished"


@pytest.mark.parametrize("state", ["stopping", "finished"])
def test_only_a_live_job_has_a_tile_of_workers(service, ada, state):
    job_id = submit(ada).json()["job_id"]
    service.ledger.update_job(job_id, state=state)
    is_hidden = state == "finished"
    alone = ada.get(f"/jobs/{job_id}", headers={"accept": "text/html"})
    service.ledger.update_job(job_id, search_id="small-1")
    with_search = ada.get("/searches/small-1", headers={"accept": "text/html"})
    for page in (alone, with_search):
        assert f'<div class="tile"{" hidden" * is_hidden}><b id="workers">' in page.text
