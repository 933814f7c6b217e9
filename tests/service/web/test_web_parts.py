"""The small parts that every route stands on, each against the rule it states."""

import asyncio
import json
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from service.ledger.browse import Condition
from service.web import cursors
from service.web.access import FailureLimit
from service.web.live import LiveFeeds
from service.web.problems import Problem
from service.web.reading import conditions
from service.web.security import HEADERS, BodyLimit, SecurityHeaders
from trainers.errors import ConfigError

values = st.one_of(
    st.none(), st.text(max_size=20), st.integers(-(10**9), 10**9), st.floats(allow_nan=False)
)
ANY = (str, float, int, type(None))


@settings(deadline=None, max_examples=50)
@given(st.tuples(values, values))
def test_cursors_come_back_as_they_went(position):
    assert cursors.from_text(cursors.to_text(position), ANY, ANY) == position


@settings(deadline=None, max_examples=50)
@given(st.text(max_size=60))
def test_no_text_breaks_the_cursor_reader(text):
    with suppress(ConfigError):
        assert len(cursors.from_text(text, ANY, ANY)) == 2


@pytest.mark.parametrize(
    "forged",
    [[1], [1, "x"], [1, None], [1, 2**63], [1, [2]], {"a": 1}, "text", [1, 2, 3], [1, 0.5]],
)
def test_positions_of_another_kind_are_refused(forged):
    with pytest.raises(ConfigError, match="`next` of the page before"):
        cursors.from_text(cursors.to_text(forged), (int,), (int,))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("state=complete", ("state", "=", "complete")),
        ("metrics.val_error<=0.1", ("metrics.val_error", "<=", "0.1")),
        (" params.optimizer.kind != adam ", ("params.optimizer.kind", "!=", "adam")),
        ("round>0", ("round", ">", "0")),
        ("params.data.name=a=b", ("params.data.name", "=", "a=b")),
    ],
)
def test_conditions_are_read(text, expected):
    field, operator, value = expected
    assert conditions([text]) == [Condition(field=field, operator=operator, value=value)]


@pytest.mark.parametrize("text", ["", "state", "=1", "a<", "a ~ b", "state=a\0b"])
def test_what_is_no_condition_is_refused(text):
    with pytest.raises(ConfigError, match=r"e\.g\. metrics"):
        conditions([text])


def test_failures_are_limited_per_address_and_forgotten(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("service.web.access.time.monotonic", lambda: now[0])
    limit = FailureLimit(most=3, window_s=10)
    for _ in range(3):
        limit.check("a")
        limit.fail("a")
    with pytest.raises(Problem) as refused:
        limit.check("a")
    assert refused.value.status == 429
    assert refused.value.headers["Retry-After"] == "11"
    limit.check("b")
    now[0] = 10.5
    limit.check("a")


async def _echo(request):
    body = await request.body()
    return PlainTextResponse(f"{len(body)}")


def test_bodies_are_limited_whether_or_not_they_say_their_length():
    app = BodyLimit(Starlette(routes=[Route("/", _echo, methods=["POST"])]), max_bytes=100)
    client = TestClient(app)
    assert client.post("/", content=b"x" * 100).text == "100"
    refused = client.post("/", content=b"x" * 101)
    assert refused.status_code == 413
    assert refused.json()["code"] == "too_large"
    assert client.post("/", content=iter([b"x" * 60, b"x" * 60])).status_code == 413


def test_every_answer_carries_the_security_headers():
    app = SecurityHeaders(Starlette(routes=[Route("/", _echo, methods=["POST"])]))
    for answer in (TestClient(app).post("/"), TestClient(app).get("/nothing")):
        for name, value in HEADERS.items():
            assert answer.headers[name] == value
        assert answer.headers["Cache-Control"] == "no-store"
        assert "unsafe-eval" not in answer.headers["Content-Security-Policy"]


def test_many_viewers_share_one_reader_and_see_the_latest():
    reads = []

    def snapshot():
        reads.append(1)
        return {"count": min(len(reads), 3)}

    async def watch(feeds):
        seen = []
        async for text in feeds.watch("topic", snapshot):
            seen.append(json.loads(text)["count"])
            if seen[-1] == 3:
                return seen

    async def main():
        feeds = LiveFeeds(poll_s=0.05)
        watching = [asyncio.create_task(watch(feeds)) for _ in range(20)]
        await asyncio.sleep(0.02)
        assert feeds.num_viewers == 20
        seen = await asyncio.gather(*watching)
        await asyncio.sleep(0)
        return feeds, seen

    feeds, seen = asyncio.run(main())
    assert all(one[-1] == 3 and one == sorted(one) for one in seen)
    assert len(reads) < 20
    assert feeds.num_viewers == 0


def test_a_reader_that_fails_ends_its_streams():
    def snapshot():
        raise ConfigError("gone")

    async def main():
        feeds = LiveFeeds(poll_s=0.01)
        async for _ in feeds.watch("topic", snapshot):
            pass

    with pytest.raises(ConfigError, match="gone"):
        asyncio.run(asyncio.wait_for(main(), 60))
