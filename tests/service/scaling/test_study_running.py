"""Studies end to end: nothing twice, nothing lost, forks exact, budgets hit, predictions first."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from small_study import SMALL, meter_by_hand, run, table, trials_of

from service.ledger import Ledger
from service.scaling.facts import PREDICTION, facts_of
from service.scaling.points import Points
from service.scaling.spec import (
    Prediction,
    StudySpec,
    extend_study,
    plan_study,
    resume_study,
    run_verification,
    study_points,
    tuning_frame,
    verifications,
)
from service.search.context import SearchContext
from service.search.display import Silent
from service.search.yaml_loading import dump_yaml
from trainers import train_pack
from trainers.config import TrialConfig
from trainers.errors import ConfigError, LedgerError, ScalingError
from trainers.trial import Trial

WSD = {"kind": "wsd", "warmup_fraction": 0.1, "cooldown_fraction": 0.3, "fork_budgets": True}
FORKED: dict[str, Any] = {
    "schedule": WSD, "budgets_flops": [5e5, 1e6, 2e6], "sizes": {"model.width": [4, 6]}
}  # fmt: skip


TWO_SEEDS = {"seeds": {"default": 1, "near_minimum": 2}}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("study")
    return folder, run(folder, **TWO_SEEDS)


@pytest.fixture(scope="module")
def undisturbed(finished: tuple[Path, str]) -> pd.DataFrame:
    """The table of the study before any test added to it."""
    return table(*finished)


def points_of(folder: Path, study_id: str, **options: Any) -> Points:
    with Ledger.open(str(folder / "ledger.db")) as ledger:
        return study_points(ledger, study_id, **options)


def assert_nothing_twice(folder: Path, study_id: str) -> None:
    trials = trials_of(folder, study_id)
    places = [(trial.config_id, trial.seed) for trial in trials]
    assert len(set(places)) == len(places)
    assert {trial.state for trial in trials} == {"complete"}


def test_every_size_is_trained_at_every_budget_with_more_seeds_near_minima(
    finished: tuple[Path, str], undisturbed: pd.DataFrame
) -> None:
    frame = points_of(*finished).frame
    counts = frame.groupby(["size.model.width", "budget_flops"]).size()
    assert counts.to_dict() == {(w, c): 2 for w in (4, 8) for c in (5e5, 2e6)}
    assert_nothing_twice(*finished)
    num_tuning = sum(facts_of(trial)["purpose"] == "tuning" for trial in trials_of(*finished))
    assert len(undisturbed) == num_tuning + 2 + 4  # its best are points; points; more seeds
    assert frame["seed"].nunique() == 4  # two of each size; budgets of one size share theirs


def test_budgets_are_hit_and_flops_are_counted(finished: tuple[Path, str]) -> None:
    """Against the products of the net written out: 64 -> width -> 10, twice backward but once."""
    points = points_of(*finished)
    frame = points.frame
    width = frame["size.model.width"]
    params = 64 * width + width + 10 * width + 10
    per_row = 6 * (64 * width + 10 * width) - 2 * 64 * width
    np.testing.assert_allclose(frame["flops"], per_row * frame["tokens"])
    np.testing.assert_allclose(frame["flops"], frame["budget_flops"], rtol=0.05)
    np.testing.assert_array_equal(frame["params"], params)
    np.testing.assert_allclose(frame["flops_6nd"], 6 * params * frame["tokens"])
    assert points.metric == "val_loss"


def test_a_point_costs_what_its_trial_used(finished: tuple[Path, str], tmp_path: Path) -> None:
    folder, study_id = Path(shutil.copytree(finished[0], tmp_path / "copy")), finished[1]
    expected = meter_by_hand(folder, study_id, watts_per_core=30.0)
    frame = points_of(folder, study_id).frame.set_index("trial_id")
    np.testing.assert_allclose(frame["kwh"], [expected[trial] for trial in frame.index])


def test_the_best_of_tuning_is_a_point_and_its_values_are_used(finished: tuple[Path, str]) -> None:
    with Ledger.open(str(finished[0] / "ledger.db")) as ledger:
        tuning = tuning_frame(ledger, finished[1])
    frame = points_of(*finished).frame
    for width, own in tuning.groupby("size.model.width"):
        best = own.loc[own["loss"].idxmin()]
        assert best["best"]
        assert best["trial_id"] in set(frame["trial_id"])
        used = frame.loc[frame["size.model.width"] == width, "optimizer.lr"]
        assert set(used) == {best["optimizer.lr"]}
    assert tuning["best"].sum() == 2


def test_a_finished_study_trains_nothing_again(finished: tuple[Path, str]) -> None:
    folder, study_id = finished
    before = trials_of(folder, study_id)
    resume_study(study_id, ledger=folder / "ledger.db", workers=1)
    assert trials_of(folder, study_id) == before


def test_extending_trains_only_what_is_new(tmp_path: Path) -> None:
    study_id = run(tmp_path)
    ledger = tmp_path / "ledger.db"
    before = {trial.trial_id: trial for trial in trials_of(tmp_path, study_id)}
    extend_study(
        study_id, budgets_flops=[4e6], sizes={"model.width": [6]}, ledger=ledger, workers=1
    )
    trials = trials_of(tmp_path, study_id)
    assert [t for t in trials if t.trial_id in before] == list(before.values())
    added = [facts_of(t) for t in trials if t.trial_id not in before]
    points = sorted(
        (f["size"]["model.width"], f["budget_flops"]) for f in added if f["purpose"] == "point"
    )
    assert points == [(4, 4e6), (6, 2e6), (6, 4e6), (8, 4e6)]
    assert {f["size"]["model.width"] for f in added if f["purpose"] == "tuning"} == {6}
    assert_nothing_twice(tmp_path, study_id)
    with pytest.raises(ConfigError, match="needs sizes, budgets or seeds to add, but got none"):
        extend_study(study_id, ledger=ledger)
    with pytest.raises(ConfigError, match=r"own paths \['model.width'\], but got `model.depth`"):
        extend_study(study_id, sizes={"model.depth": [3]}, ledger=ledger)


def test_forked_budgets_equal_the_same_trials_trained_alone(tmp_path: Path) -> None:
    study_id = run(tmp_path, **FORKED)
    trials = trials_of(tmp_path, study_id)
    forks = [trial for trial in trials if trial.parent_trial is not None]
    assert len(forks) == 2  # the smallest budget's point is the best of tuning
    for fork in forks:
        assert fork.sampler_attrs["shared_epochs"] > 0
        config = TrialConfig.model_validate(dict(fork.config))
        trial = Trial(trial_id=fork.trial_id, config=config, seed=fork.seed)
        [alone] = train_pack([trial], None, 10**6).states
        assert fork.metrics["val_loss"] == pytest.approx(alone.metrics["val_loss"], rel=1e-9)
    with Ledger.open(str(tmp_path / "ledger.db")) as ledger:
        rows = ledger.epoch_rows(study_id, [forks[0].trial_id])
    assert min(epoch for _, epoch, _, _ in rows) == forks[0].sampler_attrs["shared_epochs"] + 1
    own_kwh = meter_by_hand(tmp_path, study_id, watts_per_core=30.0)
    frame = points_of(tmp_path, study_id).frame.set_index("trial_id")
    epochs = {trial.trial_id: trial.epochs_done for trial in trials}
    for fork in forks:
        point, parent = frame.loc[fork.trial_id], fork.parent_trial
        assert point["run"] == f"trial {parent}"
        shared = fork.sampler_attrs["shared_epochs"] / epochs[parent]
        assert point["kwh"] == pytest.approx(own_kwh[fork.trial_id] + shared * own_kwh[parent])


def predict(points: Points, flops: float, params: float | None) -> Prediction:
    """A power law through two means: any fit will do."""
    mean = points.frame.groupby("budget_flops")["loss"].mean()
    loss = float(mean.iloc[-1]) * (flops / mean.index[-1]) ** -0.05
    return Prediction(
        params=params or 430.0, loss=loss, low=0.8 * loss, high=1.2 * loss, method="p"
    )


def test_a_prediction_is_written_before_it_is_tried(finished: tuple[Path, str]) -> None:
    folder, study_id = finished
    before = trials_of(folder, study_id)
    points = points_of(folder, study_id)
    [found] = run_verification(study_id, predict, flops=6e6, ledger=folder / "ledger.db", workers=1)
    added = trials_of(folder, study_id)[len(before) :]
    with Ledger.open(str(folder / "ledger.db")) as ledger:
        [event] = ledger.events(study_id, PREDICTION)
        first_round = next(r for r in ledger.rounds(study_id) if r.round == added[0].round)
        assert event.unix_s <= first_round.started_unix_s
        assert verifications(ledger, study_id) == [found]
    assert {facts_of(t)["purpose"] for t in added} == {"verification"}
    # 75 w + 10 parameters, and widths are multiples of 4: 4 is nearest in ratio to 430.
    assert (found.size, found.params) == ({"model.width": 4}, 310)
    assert found.actual == pytest.approx(np.mean([t.metrics["val_loss"] for t in added]))
    assert found.error == pytest.approx(found.actual - found.predicted)
    assert found.inside == (found.low <= found.actual <= found.high)
    # What verified a law is no part of what it is fitted to, and asking again trains nothing.
    pd.testing.assert_frame_equal(points_of(folder, study_id).frame, points.frame)
    again = run_verification(study_id, predict, flops=6e6, ledger=folder / "ledger.db", workers=1)
    assert again == [found]
    assert len(trials_of(folder, study_id)) == len(before) + len(added)
    with pytest.raises(ConfigError, match="larger than every budget of the study"):
        run_verification(study_id, predict, flops=2e6, ledger=folder / "ledger.db")
    with pytest.raises(ConfigError, match="needs a budget, but neither"):
        run_verification(study_id, predict, ledger=folder / "ledger.db")


class StopsAfter(Silent):
    """Asks the study to stop once so many trials have ended."""

    def __init__(self, num_ended: int) -> None:
        self.num_ended = num_ended

    def tick(self, context: SearchContext) -> None:
        ended = context.ledger.trials(context.search_id, states=["complete"])
        if len(ended) >= self.num_ended:
            context.ledger.request_stop(context.search_id)


def test_a_stopped_study_goes_on_as_if_nothing_had_been(
    undisturbed: pd.DataFrame, tmp_path: Path
) -> None:
    study_id = run(tmp_path, display=StopsAfter(5), **TWO_SEEDS)
    stopped = trials_of(tmp_path, study_id)
    assert 5 <= sum(trial.state == "complete" for trial in stopped) < len(undisturbed)
    resume_study(study_id, ledger=tmp_path / "ledger.db", workers=1)
    pd.testing.assert_frame_equal(table(tmp_path, study_id), undisturbed)


@pytest.mark.long
def test_two_workers_give_the_same_table(undisturbed: pd.DataFrame, tmp_path: Path) -> None:
    study_id = run(tmp_path, workers=2, **TWO_SEEDS)
    pd.testing.assert_frame_equal(table(tmp_path, study_id), undisturbed)


@pytest.mark.long
def test_a_killed_driver_loses_nothing_and_repeats_nothing(
    undisturbed: pd.DataFrame, tmp_path: Path
) -> None:
    """SIGKILL at two random instants; the table is that of the undisturbed study."""
    spec = {**SMALL, **TWO_SEEDS}
    (tmp_path / "spec.yaml").write_text(dump_yaml(spec))
    begin = "run_study('spec.yaml', workers=1, ledger='ledger.db', out='out')"
    go_on = "resume_study('small-1', workers=1, ledger='ledger.db')"
    rng, code = random.Random(5), begin
    for kill in (True, True, False):
        process = subprocess.Popen(
            [sys.executable, "-c", f"from service.scaling.spec import *\n{code}"],
            cwd=tmp_path, env=dict(os.environ), start_new_session=True,
        )  # fmt: skip
        if kill:
            wait_for_trials(tmp_path, process)
            time.sleep(rng.uniform(0.0, 0.6))
            process.send_signal(signal.SIGKILL)
            process.wait()
        else:
            assert process.wait(timeout=240) == 0
        code = go_on
    with Ledger.open(str(tmp_path / "ledger.db")) as ledger:
        assert ledger.search("small-1").state == "finished"
    assert_nothing_twice(tmp_path, "small-1")
    pd.testing.assert_frame_equal(table(tmp_path, "small-1"), undisturbed)


def wait_for_trials(folder: Path, process: subprocess.Popen[bytes]) -> None:
    """Wait until something is recorded that could be lost."""
    import sqlite3

    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with sqlite3.connect(folder / "ledger.db") as connection:
                if connection.execute("select count(*) from trials").fetchone()[0]:
                    return
        except sqlite3.Error:
            pass
        time.sleep(0.02)


def test_a_spent_budget_ends_a_study_and_more_budget_goes_on(tmp_path: Path) -> None:
    study_id = run(tmp_path, budget={"hours": 1e-9})
    with Ledger.open(str(tmp_path / "ledger.db")) as ledger:
        record = ledger.search(study_id)
    assert record.state == "finished"
    assert "the time budget is used up" in record.reason
    assert not any(trial.epochs_done for trial in trials_of(tmp_path, study_id))
    with pytest.raises(ScalingError, match=r"has no finished point yet .* isoflop resume"):
        points_of(tmp_path, study_id)
    extend_study(study_id, seeds={"default": 1}, ledger=tmp_path / "ledger.db", workers=1)
    assert len(points_of(tmp_path, study_id)) == 4


def test_a_plan_counts_what_is_then_trained(finished: tuple[Path, str]) -> None:
    spec = StudySpec.from_mapping({**SMALL, "seeds": {"default": 2}})
    plan = plan_study(spec, workers=2, flops_per_s=1e9)
    rows = plan.rows
    assert rows.groupby("purpose")["trials"].sum().to_dict() == {"points": 6, "tuning": 4}
    np.testing.assert_allclose(rows["flops"], rows["trials"] * rows["budget_flops"], rtol=0.05)
    assert plan.hours == pytest.approx(plan.flops / 2e9 / 3600)
    assert plan.kwh == pytest.approx(2 * plan.hours * 0.01)
    assert plan.trials == 10
    assert "10 trials" in plan.text
    measured = plan_study(spec, workers=1)
    assert measured.trials == 10
    assert measured.hours > 0


def test_a_search_is_no_study(tmp_path: Path) -> None:
    with Ledger.open(str(tmp_path / "ledger.db")) as ledger:
        ledger.create_search(
            name="other", kind="search", project="", spec={}, seed=0, mode="deterministic",
            versions={}, code_fingerprint="", out_dir=None,
        )  # fmt: skip
        with pytest.raises(LedgerError, match="is a search, and this needs a study"):
            study_points(ledger, "other-1")
