import math
from pathlib import Path

import optuna
import pandas as pd
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from service.ledger import Ledger
from service.ledger.optuna_space import distributions
from service.ledger.testing_records import (
    border,
    new_search,
    round_record,
    segment_record,
    trial_record,
)
from trainers.errors import LedgerError

SPACE = {
    "optimizer.lr": {"log_uniform": [1e-4, 1.0]},
    "model.width": {"int": [32, 128], "step": 32},
    "model.activation": ["relu", "tanh"],
    "train.grad_clip_norm": [None, 0.5],
}
NARROWER = {**SPACE, "optimizer.lr": {"log_uniform": [0.01, 0.1]}, "model.activation": ["relu"]}
PARAMS = {
    "optimizer.lr": 0.05,
    "model.width": 64,
    "model.activation": "tanh",
    "train.grad_clip_norm": None,
}


@pytest.fixture
def ledger(sqlite_url: str):
    with Ledger.open(sqlite_url) as ledger:
        yield ledger


@pytest.fixture
def search_id(ledger: Ledger) -> str:
    search_id = new_search(ledger, objectives={"val_loss": "minimize", "params": "minimize"})
    ledger.put_round(search_id, round_record(0, space=SPACE))
    ledger.put_round(search_id, round_record(1, space=NARROWER, reasons=[{"path": "optimizer.lr"}]))
    done = {"metrics": {"val_loss": 0.5, "params": 100.0}, "num_params": 100}
    ledger.add_trials(
        search_id,
        [
            trial_record(0, params=PARAMS, state="complete", **done),
            trial_record(1, params={**PARAMS, "optimizer.lr": 3.0}, state="infeasible", **done),
            trial_record(2, params={"optimizer.lr": 0.1}, state="pruned"),
            trial_record(3, params=PARAMS, state="diverged", reason="loss is NaN at step 3"),
            trial_record(4, params=PARAMS, state="running"),
            trial_record(5, params=PARAMS, state="waiting", parent_trial=2),
            trial_record(6, params=PARAMS, state="complete", metrics={"val_loss": math.nan}),
        ],
    )
    ledger.add_segments(search_id, [segment_record("r0b0s0", [0, 2, 3])])
    ledger.begin_attempt(search_id, "r0b0s0")
    ledger.apply(border(search_id, 1, [1, 2], trial_ids=[0, 2], lr=0.1, own=1.0))
    ledger.apply(
        border(search_id, 1, [1], sequence=1, trial_ids=[3], status="diverged", grad_norm=math.nan)
    )
    return search_id


def test_trials_frame_has_a_row_per_trial_and_types_that_fit(
    ledger: Ledger, search_id: str
) -> None:
    frame = ledger.trials_frame(search_id).set_index("trial_id")
    assert list(frame.index) == list(range(7))
    types = frame.dtypes.astype(str)
    expected = {
        "epochs_done": "int64",
        "stopped_early": "bool",
        "parent_trial": "Int64",
        "num_params": "Int64",
        "flops_per_epoch": "float64",
        "state": "str",
        "param.optimizer.lr": "float64",
        "param.model.width": "Int64",
        "param.model.activation": "str",
        "val_loss": "float64",
    }
    assert {name: types[name] for name in expected} == expected
    assert frame.loc[5, "parent_trial"] == 2
    assert frame["epochs_done"].tolist() == [2, 0, 2, 1, 0, 0, 0]
    assert frame.loc[0, "val_loss"] == 0.5


def test_curves_frame_has_a_row_per_epoch_and_only_metrics_that_were_measured(
    ledger: Ledger, search_id: str
) -> None:
    frame = ledger.curves_frame(search_id)
    assert list(frame.columns) == [
        "trial_id", "epoch", "status", "busy_s", "val_loss", "lr", "grad_norm", "own",
    ]  # fmt: skip
    assert frame["trial_id"].tolist() == [0, 0, 2, 2, 3]
    assert frame["status"].tolist()[-1] == "diverged"
    assert frame["own"].isna().tolist() == [False] * 4 + [True]
    assert frame["lr"].tolist()[:4] == [0.1] * 4


def test_frames_of_an_empty_search_have_their_columns(ledger: Ledger) -> None:
    search_id = new_search(ledger)
    assert "state" in ledger.trials_frame(search_id)
    assert list(ledger.curves_frame(search_id)) == ["trial_id", "epoch", "status", "busy_s"]
    assert "sampler" in ledger.rounds_frame(search_id)
    assert "attempt" in ledger.segments_frame(search_id)


@pytest.mark.parametrize("format", ["csv", "parquet"])
def test_exported_files_hold_what_the_frames_hold(
    ledger: Ledger, search_id: str, tmp_path: Path, format: str
) -> None:
    files = ledger.export(search_id, tmp_path / "out", format)
    assert [file.name for file in files] == [
        f"{name}.{format}" for name in ("trials", "curves", "rounds", "segments")
    ]
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == sorted(
        file.name for file in files
    )
    read = pd.read_csv if format == "csv" else pd.read_parquet
    trials = read(files[0])
    expected = ledger.trials_frame(search_id)
    assert trials["param.model.width"].dropna().tolist() == [64] * 6
    assert list(trials.columns) == list(expected.columns)
    pd.testing.assert_frame_equal(read(files[1]), ledger.curves_frame(search_id))
    assert read(files[2])["reasons"].tolist() == ["[]", '[{"path":"optimizer.lr"}]']
    assert read(files[3])["trial_ids"].tolist() == ["[0,2,3]"]


def test_export_says_what_it_cannot_do(ledger: Ledger, search_id: str, tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="`csv` or `parquet`, but got 'xlsx'"):
        ledger.export(search_id, tmp_path, "xlsx")  # type: ignore[arg-type]
    (tmp_path / "file").touch()
    with pytest.raises(LedgerError, match=r"cannot be written to .*; name a directory"):
        ledger.export(search_id, tmp_path / "file", "csv")


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_optuna_reads_true_states_values_and_distributions(
    ledger: Ledger,
    search_id: str,
    database: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    url = f"sqlite:///{tmp_path / 'optuna.db'}"
    if database == "postgres":
        url = request.getfixturevalue("postgres_url")
    for _ in range(2):  # the second export replaces the first
        assert ledger.export_optuna(search_id, url) == search_id
    url = url.replace("postgresql://", "postgresql+psycopg://")
    study = optuna.load_study(study_name=search_id, storage=url)
    assert [trial.state for trial in study.trials] == [
        TrialState.COMPLETE,
        TrialState.COMPLETE,
        TrialState.PRUNED,
        TrialState.FAIL,
        TrialState.RUNNING,
        TrialState.WAITING,
        TrialState.FAIL,
    ]
    first, infeasible, pruned, diverged, *_ = study.trials
    assert first.values == [0.5, 100.0]
    assert first.params == PARAMS
    assert first.distributions == {
        "optimizer.lr": FloatDistribution(1e-4, 3.0, log=True),
        "model.width": IntDistribution(32, 128),
        "model.activation": CategoricalDistribution(["relu", "tanh"]),
        "train.grad_clip_norm": CategoricalDistribution([None, 0.5]),
    }
    assert first.intermediate_values == {1: 0.0101, 2: 0.0201}
    assert pruned.intermediate_values == pytest.approx({1: 2.0101, 2: 2.0201})
    assert infeasible.system_attrs["constraints"] == [1.0]
    assert diverged.user_attrs["reason"] == "loss is NaN at step 3"
    assert study.metric_names == ["val_loss", "params"]
    assert [trial.number for trial in study.best_trials] == [0]
    study.enqueue_trial(PARAMS)
    study.ask()  # the storage goes on counting where the export ended
    assert len(study.trials) == 8


def test_foreign_study_is_never_replaced(ledger: Ledger, search_id: str, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'optuna.db'}"
    optuna.create_study(study_name=search_id, storage=url)
    with pytest.raises(LedgerError, match="study 'demo-1' that is not an export"):
        ledger.export_optuna(search_id, url)


def test_bad_optuna_storages_are_refused(ledger: Ledger, search_id: str, tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="cannot share the ledger's own database"):
        ledger.export_optuna(search_id, ledger.url)
    with pytest.raises(LedgerError, match="Optuna storage cannot be used"):
        ledger.export_optuna(search_id, f"sqlite:///{tmp_path / 'no' / 'such' / 'a.db'}")
    with pytest.raises(LedgerError, match="Optuna storage cannot be used"):
        ledger.export_optuna(search_id, "nonsense")


def test_distribution_is_the_union_of_rounds_and_values() -> None:
    spaces = [{"a": {"uniform": [0.0, 1.0]}, "b": [1, True]}, {"a": {"uniform": [0.5, 2.0]}}]
    params = [{"a": 0.7, "b": True, "c": 5, "d": [1, 2], "e": "x"}, {"a": -1.0, "b": 1, "c": 9}]
    assert distributions(params, spaces) == {
        "a": FloatDistribution(-1.0, 2.0),
        "b": CategoricalDistribution([1, True]),
        "c": IntDistribution(5, 9),
        "d": CategoricalDistribution(["[1,2]"]),
        "e": CategoricalDistribution(["x"]),
    }
