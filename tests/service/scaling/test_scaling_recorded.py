"""Studies that isoflop ran: opened, listed, shown, reported, extended and verified."""

import json
import sys
from dataclasses import replace

import pytest
from small_study import SMALL

from service import ScalingStudy
from service.cli import main
from service.ledger import Ledger
from service.scaling.report.page import render_page, trust
from service.scaling.report.paper import methods
from service.scaling.report.record import record
from service.scaling.spec import StudySpec, run_study
from service.scaling.study import write_recorded
from service.scaling.study_sections import TuneSpec
from trainers.errors import LedgerError, ScalingError

ENOUGH = {
    **{key: value for key, value in SMALL.items() if key != "tune"},
    "optimizer": {"kind": "momentum", "lr": 0.05},
    "train": {"batch_size": 8},
    "sizes": {"model.width": [2, 4, 8, 16]},
    "budgets_flops": [1e6, 2e6, 4e6, 1e7],
    "verify": {"flops": 2e7},
}


@pytest.fixture(scope="module")
def ran(tmp_path_factory, _quick):
    """A study of four sizes and budgets, with its outputs; the ledger and its id."""
    folder = tmp_path_factory.mktemp("recorded")
    ledger = str(folder / "ledger.db")
    return ledger, run_study(
        ENOUGH, workers=1, ledger=ledger, out=folder / "out", report=write_recorded
    )


@pytest.fixture(scope="module", autouse=True)
def _quick():
    """Leave out what takes seconds and is tested elsewhere: pictures, and the table of choices."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("service.scaling.report.outputs.FORMATS", ())
        patch.setattr("service.scaling.gathering.multiverse", lambda points: None)
        yield


@pytest.fixture
def isoflop(monkeypatch, capsys, ran):
    def run(*arguments):
        monkeypatch.setenv("ISOFLOP_LEDGER", ran[0])
        monkeypatch.setattr(sys, "argv", ["isoflop", *arguments])
        with pytest.raises(SystemExit) as done:
            main()
        assert not done.value.code, capsys.readouterr()
        return capsys.readouterr().out

    return run


def test_a_study_is_opened_with_its_points_and_energy(ran):
    study = ScalingStudy.open(ran[1], ledger=ran[0])
    assert study.name == ran[1]
    assert len(study.points) == 16
    assert study.points.frame["flops"].max() == pytest.approx(1e7, rel=0.05)
    assert study.points.metric == "val_loss"
    assert study.axis.kwh_per_flop is None or study.axis.kwh_per_flop > 0
    with pytest.raises(ScalingError, match="needs runs that differ"):
        study.hyperparameters()
    with pytest.raises(LedgerError, match=ran[1]):
        ScalingStudy.open("nothing-1", ledger=ran[0])


def test_which_tuned_values_were_used_is_stated_everywhere(ran):
    study = ScalingStudy.open(ran[1], ledger=ran[0])
    assert study.analysis().tuning is None
    tune = TuneSpec(trials=4, space=SMALL["tune"]["space"])
    said = "optimizer.lr tuned at one budget of each size, 4 trials each; points use the law of"
    analysis = replace(study.analysis(), tuning=tune.sentence)
    assert analysis.tuning.startswith(said)
    assert "Tuning: optimizer.lr tuned at one budget" in methods(analysis)
    assert record(analysis)["tuning"] == analysis.tuning
    assert analysis.tuning.split(" (")[0] in render_page(analysis, [])


def test_list_show_and_report_know_studies(ran, isoflop):
    row = json.loads(isoflop("list", "--json"))[0]
    with Ledger.open(ran[0]) as ledger:
        written = ledger.search(ran[1]).out_dir
    with open(f"{written}/study.json") as file:
        assert row["verdict"] == json.load(file)["sentence"]
    shown = isoflop("show", ran[1])
    assert "10x compute" in shown
    assert "complete" in shown
    assert "val_loss" in isoflop("show", f"{ran[1]}/0")
    reported = json.loads(isoflop("report", ran[1], "--json"))
    assert reported["kind"] == "study"
    assert reported["data"]["num_points"] == 16


def test_a_prediction_is_stored_then_run_then_shown(ran, isoflop):
    done = json.loads(isoflop("scale", "verify", ran[1], "--workers", "1", "--json"))[0]
    assert done["low"] < done["predicted"] < done["high"]
    assert done["inside"] == (done["low"] <= done["actual"] <= done["high"])
    study = ScalingStudy.open(ran[1], ledger=ran[0])
    assert study.analysis().verification["actual"] == done["actual"]
    assert any(label == "predicted, then run" for label, *_ in trust(study.analysis()))


def test_a_budget_is_predicted_from_the_ledger(ran, isoflop):
    row = json.loads(isoflop("scale", "predict", ran[1], "--flops", "5e7", "--json"))
    assert row["frontier"][0]["flops"] == 5e7
    assert not row["warnings"]


def test_a_plan_says_what_a_study_would_cost(isoflop, tmp_path):
    (tmp_path / "study.yaml").write_text(StudySpec.from_mapping(ENOUGH).to_yaml())
    plan = json.loads(isoflop("scale", "plan", str(tmp_path / "study.yaml"), "--json"))
    assert plan["trials"] >= 16
    assert plan["flops"] > 16 * 5e5
    assert plan["kwh"] > 0
