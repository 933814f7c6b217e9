"""Who may do what: every route against every kind of visitor, one table."""

import re

import pytest
from fastapi.testclient import TestClient
from study_in_ledger import add_study

from service.jobs.settings import ServiceSettings
from service.web import server
from service.web.access import SESSION_COOKIE
from service.web.app import create_app
from service.web.server import refuse_open_door
from trainers.errors import ConfigError, LedgerError

VISITORS = (None, "eve", "bob", "ada", "root")
"""Nobody; a submitter without rights here; a viewer of the project; the owner; an admin."""
OPEN = (200, 200, 200, 200, 200)
SIGNED_IN = (401, 200, 200, 200, 200)
READERS = (401, 404, 200, 200, 200)
"""Who may not read is told that there is no such thing."""
OWNERS = (401, 404, 403, 409, 409)
"""409: allowed, but the search has ended."""
ADMINS = (401, 403, 403, 403, 200)
NO_LAW = (401, 404, 409, 409, 409)
"""409: it may be read, but has no points yet."""
S = "/api/v1/searches/small-1"
T = "/api/v1/studies/law-1"

ROUTES = [
    ("GET", "/healthz", OPEN),
    ("GET", "/readyz", OPEN),
    ("GET", "/metrics", SIGNED_IN),
    ("GET", "/api/v1/me", SIGNED_IN),
    ("GET", "/api/v1/cluster", SIGNED_IN),
    ("GET", "/api/v1/jobs", SIGNED_IN),
    ("GET", "/api/v1/searches", SIGNED_IN),
    ("GET", "/api/v1/studies", SIGNED_IN),
    ("GET", "/api/v1/energy/statement", SIGNED_IN),
    ("GET", "/api/v1/audit", ADMINS),
    ("GET", S, READERS),
    ("GET", f"{S}/spec", READERS),
    ("GET", f"{S}/rounds", READERS),
    ("GET", f"{S}/verdicts", READERS),
    ("GET", f"{S}/warnings", READERS),
    ("GET", f"{S}/history", READERS),
    ("GET", f"{S}/trials", READERS),
    ("GET", f"{S}/trials/1", READERS),
    ("GET", f"{S}/curves", READERS),
    ("GET", f"{S}/charts", READERS),
    ("GET", f"{S}/energy", READERS),
    ("GET", f"{S}/artifacts", READERS),
    ("GET", f"{S}/artifacts/report.html", READERS),
    ("GET", f"{S}/tables/trials.csv", READERS),
    ("GET", f"{S}/ledger", READERS),
    ("POST", f"{S}/trials/1/stop", OWNERS),
    ("DELETE", S, (401, 404, 403, 204, 404)),
    ("GET", T, READERS),
    ("GET", f"{T}/points", READERS),
    ("GET", f"{T}/tables/points.csv", READERS),
    ("GET", f"{T}/fits", READERS),
    ("GET", f"{T}/charts", READERS),
    ("GET", f"{T}/frontier?flops=1e12", NO_LAW),
    ("GET", f"{T}/predict?flops=1e12", NO_LAW),
    ("POST", "/api/v1/specs/check", (401, 200, 403, 200, 200)),
    ("POST", "/api/v1/jobs", (401, 201, 403, 201, 201)),
    ("GET", "/api/v1/jobs/{job}", READERS),
    ("GET", "/api/v1/jobs/{job}/log", READERS),
    ("POST", "/api/v1/jobs/{job}/stop", (401, 404, 403, 202, 202)),
    ("POST", "/api/v1/jobs/{job}/cancel", (401, 404, 403, 202, 202)),
    ("POST", "/api/v1/jobs/{job}/resume", OWNERS),
    ("POST", "/api/v1/jobs/{job}/extend", OWNERS),
]
PAGES = [
    ("/", (303, 200, 200, 200, 200)),
    ("/studies", (303, 200, 200, 200, 200)),
    ("/submit", (303, 200, 200, 200, 200)),
    ("/jobs", (303, 200, 200, 200, 200)),
    ("/cluster", (303, 200, 200, 200, 200)),
    ("/energy", (303, 200, 200, 200, 200)),
    ("/compare?id=small-1", (303, 404, 200, 200, 200)),
    ("/searches/small-1", (303, 404, 200, 200, 200)),
    ("/searches/small-1/trials/1", (303, 404, 200, 200, 200)),
    ("/studies/law-1", (303, 404, 200, 200, 200)),
    ("/jobs/{job}", (303, 404, 200, 200, 200)),
]
STREAMS = {
    f"{S.replace('small-1', '{search_id}')}/live",
    f"{T.replace('law-1', '{study_id}')}/live",
    "/api/v1/jobs/{job_id}/log/stream",
}
"""Never end, so the browser's tests read them."""


def body_for(path):
    from web_search import SPEC

    if path.endswith("/jobs"):
        return {"spec": SPEC}
    if path.endswith("/check"):
        return {"spec": SPEC}
    return {"trials": 2} if path.endswith("/extend") else None


@pytest.fixture
def study(service):
    """A study of ada's without points, in the project that bob reads."""
    return add_study(service.ledger)


@pytest.fixture
def job(service):
    return service.client("ada").post("/api/v1/jobs", json=body_for("/jobs")).json()["job_id"]


@pytest.mark.parametrize(("method", "path", "expected"), ROUTES, ids=lambda v: str(v)[:50])
def test_api_routes(service, search, study, job, method, path, expected):
    path = path.replace("{job}", job)
    found = tuple(
        service.client(user).request(method, path, json=body_for(path)).status_code
        for user in VISITORS
    )
    assert found == expected


@pytest.mark.parametrize(("path", "expected"), PAGES, ids=lambda v: str(v)[:50])
def test_pages(service, search, study, job, path, expected):
    path = path.replace("{job}", job)
    headers = {"accept": "text/html"}
    found = tuple(service.client(u).get(path, headers=headers).status_code for u in VISITORS)
    assert found == expected


def test_the_table_holds_every_route_of_the_api(service):
    patterns = [
        re.compile(re.sub(r"\{\w+\}", r"[^/]+", path.partition("?")[0]).replace(".", r"\."))
        for path in service.app.openapi()["paths"]
        if path not in STREAMS
    ]
    listed = [path.partition("?")[0].replace("{job}", "j-1") for _, path, _ in ROUTES]
    missing = [p.pattern for p in patterns if not any(p.fullmatch(path) for path in listed)]
    assert missing == []


def test_every_refusal_is_a_problem_with_a_code(service, search):
    for user, path, code in (
        (None, S, "unauthenticated"),
        ("eve", S, "not_found"),
        ("bob", "/api/v1/audit", "forbidden"),
        ("ada", f"{S}/trials?sort=nothing", "invalid"),
        ("ada", f"{S}/trials?limit=0", "invalid"),
        ("ada", "/api/v1/nothing", "not_found"),
    ):
        answer = service.client(user).get(path)
        assert answer.headers["content-type"] == "application/problem+json"
        problem = answer.json()
        assert problem["code"] == code
        assert problem["status"] == answer.status_code
        assert problem["type"] == f"urn:isoflop:problem:{code}"
        assert "secret" not in problem["detail"]


def test_a_refused_reader_does_not_learn_what_exists(service, search):
    client = service.client("eve")
    there, not_there = client.get(S).json(), client.get("/api/v1/searches/none-1").json()
    assert there["detail"].replace("small-1", "") == not_there["detail"].replace("none-1", "")
    assert client.get("/api/v1/searches").json()["items"] == []


def test_only_known_kinds_of_files_are_given_out(service, search):
    client = service.client("ada")
    assert [one["name"] for one in client.get(f"{S}/artifacts").json()] == ["report.html"]
    assert client.get(f"{S}/artifacts/secret.key").status_code == 404
    assert client.get(f"{S}/artifacts/..%2F..%2Fisoflop.db").status_code == 404
    answer = client.get(f"{S}/artifacts/report.html")
    assert answer.headers["content-disposition"].startswith("attachment")


@pytest.mark.parametrize("token", ["", "iso_x_y", "nonsense", "iso_" + "a" * 5000])
def test_wrong_tokens_are_refused(service, token):
    answer = service.client().get("/api/v1/me", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"


def test_a_revoked_token_ends_at_once(service):
    client = service.client("ada")
    assert client.get("/api/v1/me").json()["user_id"] == "ada"
    service.ledger.revoke_token(service.ledger.tokens("ada")[0].token_id)
    assert client.get("/api/v1/me").status_code == 401


def test_guessing_is_slowed_down_and_audited(service):
    client = service.client()
    wrong = {"Authorization": "Bearer iso_aaaa_bbbb"}
    codes = [client.get("/api/v1/me", headers=wrong).status_code for _ in range(12)]
    assert codes == [401] * 10 + [429] * 2
    assert int(client.get("/api/v1/me", headers=wrong).headers["retry-after"]) > 0
    refused = service.ledger.audit_events(action="sign_in")
    assert len(refused) == 10
    assert all(event.outcome == "refused" for event in refused)


def sign_in(client, token, **more):
    return client.post(
        "/sign-in", data={"token": token, **more}, headers={"Origin": "http://testserver"}
    )


def test_a_browser_signs_in_and_out(service, search):
    client = service.client()
    assert client.get("/searches/small-1").headers["location"] == "/sign-in?next=/searches/small-1"
    answer = sign_in(client, service.tokens["ada"], next="/searches/small-1")
    assert answer.headers["location"] == "/searches/small-1"
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert client.get("/searches/small-1").status_code == 200
    client.post("/sign-out", headers={"Origin": "http://testserver"})
    assert client.get("/searches/small-1").status_code == 303
    assert [e.action for e in service.ledger.audit_events(user_id="ada")] == ["sign_in"]


def test_a_cookie_is_secure_over_tls(service):
    client = TestClient(service.app, base_url="https://testserver", follow_redirects=False)
    answer = client.post(
        "/sign-in",
        data={"token": service.tokens["ada"]},
        headers={"Origin": "https://testserver"},
    )
    assert "Secure" in answer.headers["set-cookie"]
    assert "max-age" in answer.headers["strict-transport-security"]


@pytest.mark.parametrize(
    "target", ["//evil.example", "/\\evil.example", "https://evil.example", "javascript:alert(1)"]
)
def test_signing_in_never_leads_elsewhere(service, target):
    answer = sign_in(service.client(), service.tokens["ada"], next=target)
    assert answer.headers["location"] == "/"


def test_another_sites_page_cannot_write_with_our_cookie(service, search):
    client = service.client()
    sign_in(client, service.tokens["ada"])
    assert SESSION_COOKIE in client.cookies
    body = {"spec": {}}
    for headers in (
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
    ):
        answer = client.post("/api/v1/jobs", json=body, headers=headers)
        assert answer.status_code == 403
        assert client.post("/sign-out", headers=headers).status_code == 403
    assert client.get("/api/v1/me").status_code == 200


def test_without_users_the_service_is_one_persons_on_loopback(empty):
    client = empty.client()
    assert client.get("/api/v1/me").json()["role"] == "admin"
    rebound = client.get("/api/v1/me", headers={"Host": "evil.example"})
    assert rebound.status_code == 403
    foreign = client.post("/api/v1/jobs", json={}, headers={"Origin": "http://evil.example"})
    assert foreign.status_code == 403


def test_without_users_it_refuses_to_listen_elsewhere(empty):
    reachable = ServiceSettings(listen={"host": "0.0.0.0"})
    with pytest.raises(ConfigError, match="isoflop users add"):
        refuse_open_door(empty.ledger, reachable)
    refuse_open_door(empty.ledger, ServiceSettings())
    empty.ledger.create_user("ada", "admin")
    refuse_open_door(empty.ledger, reachable)


def test_a_second_service_on_a_ledger_starts_nothing(empty, monkeypatch):
    monkeypatch.setattr(server, "_listen", lambda _: pytest.fail("it went on"))
    settings = ServiceSettings(ledger={"url": empty.ledger.url})
    with empty.ledger.serving(), pytest.raises(LedgerError, match="one service"):
        server.run(settings)


def test_the_first_user_closes_the_open_door(empty, monkeypatch):
    client = empty.client()
    assert client.get("/api/v1/me").status_code == 200
    empty.ledger.create_user("ada", "admin")
    monkeypatch.setattr("service.web.services.USERS_KNOWN_FOR_S", -1.0)
    assert client.get("/api/v1/me").status_code == 401


def test_a_stop_says_who_asked_and_how(service):
    from web_search import SPEC

    ada = service.ledger.user("ada")
    on_page, over_api = service.client(), service.client("ada")
    sign_in(on_page, service.tokens["ada"])
    for client, how in ((on_page, "on a page"), (over_api, "over the API")):
        job = service.manager.submit(ada, SPEC).job_id
        made = service.ledger.create_search(name="x", spec={}, seed=0, owner="ada")
        service.ledger.update_job(job, state="running", attempt=1, search_id=made.search_id)
        origin = {"Origin": "http://testserver"}
        answer = client.post(f"/api/v1/jobs/{job}/stop", headers=origin)
        assert answer.json()["reason"] == f"stopped by ada {how}"


def behind_proxy(service, proxies):
    settings = ServiceSettings(sign_in={"trusted_header": {"name": "X-User", "proxies": proxies}})
    fitter = service.app.state.services.fitter
    app = create_app(service.manager, service.ledger, settings, fitter)
    return TestClient(app, client=("10.0.0.2", 5000))


def test_a_named_proxys_word_is_believed_and_nobody_elses(service):
    assert behind_proxy(service, ["10.0.0.2"]).get(
        "/api/v1/me", headers={"X-User": "bob"}
    ).json()["user_id"] == "bob"  # fmt: skip
    stranger = behind_proxy(service, ["10.0.0.3"])
    assert stranger.get("/api/v1/me", headers={"X-User": "root"}).status_code == 401
    unknown = behind_proxy(service, ["10.0.0.0/24"])
    assert unknown.get("/api/v1/me", headers={"X-User": "mallory"}).status_code == 403


def test_writes_are_audited_with_their_address(service):
    client = service.client("ada")
    job = client.post("/api/v1/jobs", json=body_for("/jobs")).json()["job_id"]
    client.post(f"/api/v1/jobs/{job}/cancel")
    events = service.client("root").get("/api/v1/audit?user=ada").json()["items"]
    assert [(event["action"], event["target"]) for event in events] == [
        ("cancel", job),
        ("submit", job),
    ]
    assert events[0]["address"] == "testclient"
