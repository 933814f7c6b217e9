"""Studies over the service, against a law that is known exactly, on a real loopback socket."""

from __future__ import annotations

import asyncio
import io
import json
import sys

import numpy as np
import pandas as pd
import pytest
from loopback import listening
from study_in_ledger import BUDGETS, SPEC, TRUTH, add_points, add_study, best, finished_study, loss

from service import AsyncClient, Client, ScalingStudy
from service.cli import main
from service.client_wire import PointReader, submit_request
from service.energy import Site
from service.jobs.records import JobRecord
from service.scaling.spec import StudySpec
from service.web.study_views import PredictionView
from trainers.errors import ServiceError

BASE = "/api/v1/studies"


@pytest.fixture
def study(service) -> str:
    return finished_study(service.ledger)


@pytest.fixture
def address(service):
    """The same service on a socket of this machine."""
    with listening(service.app) as address:
        yield address


def test_the_api_answers_what_the_law_says(service, study):
    client = service.client("ada")
    view = client.get(f"{BASE}/{study}").json()
    assert (view["kind"], view["state"], view["num_points"]) == ("study", "finished", 25)
    assert "10x compute" in view["sentence"]
    assert view["largest_flops"] == pytest.approx(BUDGETS[-1], rel=0.01)
    assert {row["name"] for row in view["exponents"]} == {"a", "alpha", "beta", "E"}
    params = client.get(f"{BASE}/{study}/fits").json()["fits"][0]["params"]
    for name, value in TRUTH.items():
        assert params[name] == pytest.approx(value, rel=1e-3)
    for flops in (3e10, 1e12):
        found = client.get(f"{BASE}/{study}/predict", params={"flops": flops}).json()
        for name, value in zip(("params", "tokens", "loss"), best(flops), strict=True):
            assert found[name] == pytest.approx(value, rel=1e-2)
        assert found["loss_low"] <= found["loss"] <= found["loss_high"]
        assert found["times_data"] == pytest.approx(flops / BUDGETS[-1], rel=0.01)
        assert found["kwh"] is found["kgco2e"] is None  # no point was metered
    far = client.get(f"{BASE}/{study}/predict", params={"flops": 1e13}).json()
    assert any("largest" in text for text in far["warnings"])
    rows = client.get(f"{BASE}/{study}/frontier", params={"flops": [1e10, 1e11]}).json()["rows"]
    assert [row["loss"] for row in rows] == pytest.approx([best(c)[2] for c in (1e10, 1e11)])
    charts = client.get(f"{BASE}/{study}/charts").json()["charts"]
    assert [chart["name"] for chart in charts[:3]] == ["frontier", "isoflop", "returns"]
    assert all(chart["table"]["rows"] for chart in charts)


def test_points_come_page_by_page_and_as_files(service, study):
    client = service.client("ada")
    ids, after = [], None
    while True:
        query = {"limit": 10, "after": after} if after else {"limit": 10}
        page = client.get(f"{BASE}/{study}/points", params=query).json()
        ids += [row["trial_id"] for row in page["items"]]
        if (after := page["next"]) is None:
            break
    assert ids == list(range(25))
    csv = pd.read_csv(io.StringIO(client.get(f"{BASE}/{study}/tables/points.csv").text))
    parquet = pd.read_parquet(
        io.BytesIO(client.get(f"{BASE}/{study}/tables/points.parquet").content)
    )
    np.testing.assert_allclose(csv["loss"], parquet["loss"])
    assert len(csv) == 25


def test_bad_requests_say_why(service, study, search):
    client = service.client("ada")
    for path, status, says in (
        (f"{study}/predict", 400, "flops"),
        (f"{study}/predict?flops=-1", 400, "greater than 0"),
        (f"{study}/predict?flops=nan", 400, "flops"),
        (f"{study}?recipe=other", 400, "recipe"),
        (f"{study}/points?after=-1", 400, "after"),
        ("none-1", 404, "there is no study"),
        (search.search_id, 404, "there is no study"),
    ):
        answer = client.get(f"{BASE}/{path}")
        assert answer.status_code == status, path
        assert says in answer.json()["detail"]


def test_a_study_without_enough_points_says_so(service):
    study_id = add_study(service.ledger)
    client = service.client("ada")
    assert client.get(f"{BASE}/{study_id}/points").json() == {"items": [], "next": None}
    assert client.get(f"{BASE}/{study_id}/tables/points.csv").text.strip() == ""
    assert client.get(f"{BASE}/{study_id}/charts").json()["charts"] == []
    add_points(service.ledger, study_id, BUDGETS[:1], num_sizes=3)
    service.ledger.update_search(study_id, state="stopped")
    view = client.get(f"{BASE}/{study_id}").json()
    assert (view["sentence"], view["num_points"]) == (None, 3)
    assert view["why_no_law"]
    [chart] = client.get(f"{BASE}/{study_id}/charts").json()["charts"]
    assert (chart["name"], chart["table"]["num_rows"]) == ("points-so-far", 3)
    refused = client.get(f"{BASE}/{study_id}/predict?flops=1e10")
    assert refused.status_code == 409
    assert "has no law yet" in refused.json()["detail"]
    page = client.get(f"/studies/{study_id}", headers={"accept": "text/html"})
    assert page.status_code == 200
    assert "3</b><span>points" in page.text


def job_of(ledger, study_id, **fields) -> str:
    known = {
        "job_id": "j-1", "owner": "ada", "kind": "study", "action": {"run": {}}, "name": "law",
        "project": "vision/plates", "spec": SPEC, "priority": "normal", "state": "running",
        "attempt": 1, "search_id": study_id,
    }  # fmt: skip
    return ledger.create_job(JobRecord(**{**known, **fields})).job_id


def test_a_client_streams_points_and_takes_the_same_study_home(service, address, tmp_path):
    study_id = add_study(service.ledger)
    job = job_of(service.ledger, study_id)
    add_points(service.ledger, study_id, BUDGETS[:4])
    with Client(address, service.tokens["ada"]) as client:
        stream = client.points(job)
        got = [next(stream) for _ in range(20)]
        assert len(client.study(study_id, tmp_path / "now").points) == 20
        add_points(service.ledger, study_id, BUDGETS[4:])  # while it is watched
        got += [next(stream) for _ in range(5)]
        service.ledger.update_search(study_id, state="finished", finished_unix_s=1e9)
        service.ledger.update_job(job, state="finished")
        assert list(stream) == []
        assert [point["trial_id"] for point in got] == list(range(25))

        mine = client.job(job).wait(out=tmp_path / "home", poll_s=0.05)
    theirs = ScalingStudy.open(study_id, ledger=service.ledger)
    assert isinstance(mine, ScalingStudy)
    pd.testing.assert_frame_equal(mine.points.frame, theirs.points.frame)
    assert (
        mine.fit("chinchilla", bootstrap=0).params == theirs.fit("chinchilla", bootstrap=0).params
    )
    assert mine.recorded.spec == theirs.recorded.spec


def test_coroutines_do_the_same(service, address, study, tmp_path):
    job = job_of(service.ledger, study, state="finished")

    async def main():
        async with AsyncClient(address, service.tokens["ada"]) as client:
            losses = [point["loss"] async for point in client.points(job)]
            found = await client.wait(job, out=tmp_path / "a")
            now = await client.study(study, tmp_path / "b")
            return losses, found, now

    losses, found, now = asyncio.run(main())
    assert losses == list(found.points.frame["loss"]) == list(now.points.frame["loss"])


def test_what_cannot_be_streamed_is_explained(service, address, search):
    job_of(service.ledger, None, kind="search")
    job_of(service.ledger, None, job_id="j-2", state="failed", reason="no data")
    with Client(address, service.tokens["ada"]) as client:
        for name, says in (
            ("j-1", "only a study has points"),
            ("j-2", "failed: no data"),
            ("none-1", "there is no study"),
        ):
            with pytest.raises(ServiceError, match=says):
                next(client.points(name))


def test_a_point_is_yielded_once_whatever_is_sent_again():
    reader = PointReader()
    point = f"data: {json.dumps({'trial_id': 3, 'loss': 1.5})}"
    sent = f"retry: 2000\n\nevent: point\n{point}\n\n: still here\n\nevent: point\n{point}\n\n"
    lines = [*f"{sent}event: state\ndata: {{}}\n\nevent: end\ndata: {{}}\n\n".split("\n")]
    found = [row for line in lines if (row := reader.feed(line)) is not None]
    assert found == [{"trial_id": 3, "loss": 1.5}]
    assert reader.ended


def test_a_spec_object_is_sent_with_its_kind():
    spec = StudySpec(sizes={"model.width": [4, 8]}, budgets_flops=[1e9])
    assert submit_request(spec)["json"]["spec"]["kind"] == "study"


def test_a_prediction_carries_energy_and_co2_of_the_site():
    """C FLOP at 2e-17 kWh/FLOP, PUE 1.5, and Germany's intensity, written out."""
    places = [(best(c)[0] * times, c) for c in BUDGETS for times in (0.25, 0.5, 1, 2, 4)]
    frame = pd.DataFrame(places, columns=["params", "flops"])
    frame["tokens"] = frame["flops"] / (6 * frame["params"])
    frame["loss"] = [loss(n, d) for n, d in zip(frame["params"], frame["tokens"], strict=True)]
    frame["kwh"] = 2e-17 * frame["flops"]
    site = Site.from_environment({"ISOFLOP_COUNTRY": "DEU", "ISOFLOP_PUE": "1.5"})
    columns = {name: name for name in ("params", "tokens", "flops", "loss", "kwh")}
    study = ScalingStudy.from_frame(frame, site=site, **columns)
    study.fit("chinchilla", bootstrap=0)
    found = PredictionView.of(study.frontier(1e13), study)
    assert found.kwh == pytest.approx(1e13 * 2e-17 * 1.5)
    assert found.kgco2e == pytest.approx(found.kwh * site.intensity_g_per_kwh / 1000)
    assert found.interval == "90 % prediction interval"


def test_the_command_line_fetches_and_extends_studies(
    service, address, study, tmp_path, monkeypatch, capsys
):
    job = job_of(service.ledger, study, state="finished")
    monkeypatch.setenv("ISOFLOP_URL", address)
    monkeypatch.setenv("ISOFLOP_TOKEN", service.tokens["ada"])

    def isoflop(*arguments):
        monkeypatch.setattr(sys, "argv", ["isoflop", *arguments])
        with pytest.raises(SystemExit) as done:
            main()
        return done.value.code, capsys.readouterr()

    code, said = isoflop("fetch", job, "--out", str(tmp_path / "home"))
    assert not code, said
    assert "10x compute" in said.out
    assert (tmp_path / "home" / "ledger.db").exists()
    code, said = isoflop("scale", "extend", job, "--budget", "3e11", "--size", "model.width=128",
                         "--json")  # fmt: skip
    assert not code, said
    more = json.loads(said.out)
    assert (more["kind"], more["search_id"], more["state"]) == ("study", study, "queued")
    asked = service.ledger.job(more["job_id"]).action
    assert asked["extend"] == study
    assert (asked["budgets_flops"], asked["sizes"]) == ([3e11], {"model.width": [128]})
    code, said = isoflop("extend", more["job_id"], "--trials", "3")
    assert code
