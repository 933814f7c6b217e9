"""What is compared at a rung, for one objective and for several; and the asynchronous mode."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from small_search import small_spec

from service import run_search
from service.ledger import Ledger
from service.report.summary import load_summary
from service.report.terminal import search_detail

HALVED = {"sampler": "random", "trials": 12, "epochs": 4, "halving": {"eta": 2, "first_epoch": 1}}


def run(folder, **changes):
    spec = small_spec(**{"rounds": [HALVED], "finalists": {"trials": 1, "seeds": 2}, **changes})
    return run_search(spec, workers=1, ledger=folder / "ledger.db", out=folder / "out")


def rungs(result):
    with Ledger.open(result.ledger_url) as ledger:
        return [event.payload for event in ledger.events(result.search_id, "rung")]


def shown(result):
    """Return what report, summary and terminal say, as text."""
    console = Console(file=io.StringIO(), width=400)
    with Ledger.open(result.ledger_url) as ledger:
        console.print(search_detail(ledger, result.search_id)[1])
    return (
        (result.out_dir / "report.html").read_text(),
        load_summary(result.out_dir),
        console.file.getvalue(),
    )


def test_the_value_of_the_rungs_epoch_is_compared_and_the_report_says_so(tmp_path):
    result = run(tmp_path)
    page, summary, terminal = shown(result)
    said = "compared at epochs 1 and 2 is the value at that epoch of val_error"
    assert said in page
    assert said in summary["rounds"][0]["compared"]
    assert said in terminal
    curves = result.curves().set_index(["trial_id", "epoch"])["val_error"]
    trials = result.trials().set_index("trial_id")
    # 12 trials, one in two goes on: none is counted again at a rung that it never reached.
    assert [len(payload["promoted"]) for payload in rungs(result)] == [6, 3]
    for payload in rungs(result):
        assert payload["best_so_far"] is False
        going = [curves[int(t), payload["epoch"]] for t in payload["promoted"]]
        stopped = [curves[int(t), payload["epoch"]] for t in payload["pruned"]]
        assert max(going) <= min(stopped)
        assert f"of {len(going) + len(stopped)}, the best {len(going)} go on" in str(payload)
        for trial_id in payload["pruned"]:
            assert trials.loc[int(trial_id), "epochs_done"] == payload["epoch"]
            assert f"at epoch {payload['epoch']}" in trials.loc[int(trial_id), "reason"]


def test_the_best_so_far_is_compared_where_restore_best_is_on(tmp_path):
    stops = {"early_stopping": {"restore_best": True}}
    result = run(tmp_path, regularisation=stops)
    page, summary, terminal = shown(result)
    said = "the best value up to that epoch (restore-best is on)"
    assert said in page
    assert said in summary["rounds"][0]["compared"]
    assert said in terminal
    assert all(payload["best_so_far"] for payload in rungs(result))
    # The weights kept are those of the lowest validation loss up to the rung.
    curves = result.curves()
    for payload in rungs(result):
        seen = curves[curves["epoch"] <= payload["epoch"]]
        kept = seen.loc[seen.groupby("trial_id")["val_loss"].idxmin()]
        error = kept.set_index("trial_id")["val_error"]
        for trial_id, reason in {**payload["pruned"], **payload["promoted"]}.items():
            assert f"best val_error {error[int(trial_id)]:.4g} up to" in reason


def test_several_objectives_are_compared_by_non_dominated_rank_at_equal_length(tmp_path):
    result = run(
        tmp_path,
        space={"optimizer.lr": {"log_uniform": [1e-4, 1e-1]}, "model.width": [8, 16, 32]},
        model={"kind": "mlp", "depth": 1},
        objectives={"val_error": "minimize", "params": "minimize"},
    )
    assert "by non-dominated rank" in load_summary(result.out_dir)["rounds"][0]["compared"]
    curves = result.curves().set_index(["trial_id", "epoch"])["val_error"]
    params = result.trials().set_index("trial_id")["num_params"]
    for payload in rungs(result):
        points = {
            int(t): (curves[int(t), payload["epoch"]], params[int(t)])
            for t in {**payload["pruned"], **payload["promoted"]}
        }
        for gone in map(int, payload["pruned"]):
            for going in map(int, payload["promoted"]):
                better = all(a <= b for a, b in zip(points[gone], points[going], strict=True))
                assert not (better and points[gone] != points[going]), (gone, going)


def test_which_way_of_training_and_why_is_shown(tmp_path):
    result = run(tmp_path)
    page, summary, terminal = shown(result)
    with Ledger.open(result.ledger_url) as ledger:
        plans = list(ledger.plans(result.search_id).values())
    assert plans
    assert all(plan.reasons["tier"] for plan in plans)
    (said,) = summary["training"][:1]
    assert "written-out kernels" in said
    assert plans[0].reasons["tier"] in said
    assert "written-out kernels" in page
    assert "written-out kernels" in terminal


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_the_asynchronous_mode_trains_all_and_logs_each_decision(sampler, tmp_path):
    result = run(
        tmp_path, rounds=[{**HALVED, "sampler": sampler, "trials": 24}], mode="asynchronous"
    )
    trials = result.trials().query("role == 'search'")
    assert len(trials) == 24
    assert set(trials["state"]) <= {"complete", "pruned", "diverged"}
    decided = {int(t) for p in rungs(result) for t in {**p["pruned"], **p["promoted"]}}
    assert decided >= set(trials[trials["state"] != "diverged"]["trial_id"])
    reasons = [r for p in rungs(result) for r in {**p["pruned"], **p["promoted"]}.values()]
    assert all("place" in reason for reason in reasons)
