"""One search taken out of a ledger reads as it did inside, and tells nothing of the others."""

import json
import shutil

import pandas as pd
import pytest
import sqlalchemy as sa
from small_search import small_spec

from service import SearchResult, run_search
from service.ledger import Ledger
from service.ledger.slices import copy_search, settle_in
from service.ledger.testing_records import new_search
from trainers.errors import MissingError


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    rounds = [{"sampler": "sobol", "trials": 3, "epochs": 2}]
    spec = small_spec(name="mine", rounds=rounds, finalists={"trials": 1, "seeds": 2})
    result = run_search(spec, workers=1, ledger=folder / "all.db", out=folder / "out")
    with Ledger.open(folder / "all.db") as ledger:
        new_search(ledger, "secret-project")
        window = ledger.windows(*_span(ledger, result.search_id))[0]
        window["payload"]["members"]["secret-project-1:7"] = {"cpu_s": 0.0, "pids": {}}
        ledger.put_windows([window])
    return result


def _span(ledger, search_id):
    span = ledger.spans(search_id)[0]
    return span.host, span.boot_id, span.started_s, span.ended_s


def test_a_slice_answers_as_the_whole_ledger_does(finished, tmp_path):
    path = tmp_path / "mine.db"
    with Ledger.open(finished.ledger_url) as source:
        copy_search(source, finished.search_id, path)
    shutil.copytree(finished.out_dir, tmp_path / "files")
    settle_in(path, finished.search_id, tmp_path / "files")
    taken = SearchResult(finished.search_id, str(path))
    for frame in ("trials", "curves", "rounds"):
        pd.testing.assert_frame_equal(getattr(taken, frame)(), getattr(finished, frame)())
    assert taken.verdict == finished.verdict
    assert taken.energy().parts_kwh() == finished.energy().parts_kwh()
    assert taken.best.weights.parent == (tmp_path / "files").resolve()
    assert taken.best.load() is not None


def test_a_slice_does_not_name_other_searches(finished, tmp_path):
    path = tmp_path / "mine.db"
    with Ledger.open(finished.ledger_url) as source:
        copy_search(source, finished.search_id, path)
    with Ledger.open(path) as ledger:
        assert [search.search_id for search in ledger.searches()] == [finished.search_id]
    with sa.create_engine(f"sqlite:///{path}").connect() as connection:
        payloads = connection.execute(sa.text("select payload from energy_windows")).scalars()
        members = [key for text in payloads for key in json.loads(text)["members"]]
    assert any(key.startswith("other-") for key in members)
    assert not any("secret" in key for key in members)


def test_an_unknown_search_makes_no_file(finished, tmp_path):
    with Ledger.open(finished.ledger_url) as source, pytest.raises(MissingError):
        copy_search(source, "nothing-1", tmp_path / "none.db")
    assert not (tmp_path / "none.db").exists()
