import optuna
import pandas as pd
import pytest

from search_spaces import Space
from service.search.evidence import load_evidence
from trainers.errors import ConfigError

SPACE = Space(
    {
        "optimizer.kind": ["adam", "momentum"],
        "optimizer.lr": {"log_uniform": [1e-5, 1e-1]},
        "optimizer.momentum": {"uniform": [0.8, 0.99], "when": {"optimizer.kind": "momentum"}},
        "model.width": {"int": [32, 128], "step": 32},
        "model.batch_norm": ["none", "before"],
    }
)
ROWS = [
    {"kind": "adam", "lr": 1e-3, "momentum": None, "width": 64, "norm": "none", "error": 0.1},
    {"kind": "momentum", "lr": 1e-2, "momentum": 0.9, "width": 32, "norm": "before", "error": 0.2},
]
EXPECTED = [
    {
        "optimizer.kind": "adam",
        "optimizer.lr": 1e-3,
        "model.width": 64,
        "model.batch_norm": "none",
    },
    {
        "optimizer.kind": "momentum",
        "optimizer.lr": 1e-2,
        "optimizer.momentum": 0.9,
        "model.width": 32,
        "model.batch_norm": "before",
    },
]


def table(pattern, rows=ROWS, **more):
    names = {
        "kind": "optimizer.kind",
        "lr": "optimizer.lr",
        "momentum": "optimizer.momentum",
        "width": "model.width",
        "norm": "model.batch_norm",
    }
    frame = pd.DataFrame(rows).rename(columns={old: pattern(new) for old, new in names.items()})
    return frame.rename(columns={"error": "val_error"}).assign(**more)


@pytest.mark.parametrize(
    "pattern",
    [
        lambda path: path,
        lambda path: f"param.{path}",
        lambda path: f"params_{path}",
        lambda path: f"config.{path}.value",
        lambda path: path.replace(".", "/"),
        lambda path: path.rsplit(".", 1)[-1],
    ],
    ids=["dotted", "ours", "optuna frame", "wandb", "slashes", "last word"],
)
def test_columns_are_matched_in_the_usual_spellings(tmp_path, pattern):
    table(pattern, epoch=[3, 5], State=["finished", "finished"]).to_csv(
        tmp_path / "runs.csv", index=False
    )
    found = load_evidence(str(tmp_path / "runs.csv"), SPACE, ["val_error"])
    assert [row.params for row in found.rows] == EXPECTED
    assert [row.metrics["val_error"] for row in found.rows] == [0.1, 0.2]
    assert [row.epochs for row in found.rows] == [3, 5]
    assert found.skipped == ()
    assert all(SPACE.contains(row.params) for row in found.rows)


def test_our_own_parquet_export_is_read(tmp_path):
    frame = table(lambda path: f"param.{path}", epochs_done=[12, 12], state=["complete", "pruned"])
    frame.to_parquet(tmp_path / "trials.parquet")
    found = load_evidence(str(tmp_path / "trials.parquet"), SPACE, ["val_error"])
    assert [row.params for row in found.rows] == EXPECTED[:1]
    assert found.skipped == ("1 x state is pruned (first: row 2)",)


def test_rows_that_do_not_fit_are_skipped_and_reported(tmp_path):
    good = ROWS[0]
    rows = [
        good,
        {**good, "lr": 3.0},
        {**good, "lr": 4.0},
        {**good, "width": 33},
        {**good, "kind": "lion"},
        {**good, "lr": None},
        {**good, "error": None},
    ]
    table(lambda path: path, rows).to_csv(tmp_path / "runs.csv", index=False)
    found = load_evidence(str(tmp_path / "runs.csv"), SPACE, ["val_error"])
    assert len(found.rows) == 1
    assert found.skipped[0] == "2 x `optimizer.lr` is outside the space (first: row 2)"
    assert "1 x `optimizer.lr` is missing (first: row 6)" in found.skipped
    assert "1 x `val_error` is no finite number (first: row 7)" in found.skipped
    assert len(found.skipped) == 5
    assert "1 trials from" in found.summary()
    assert "elsewhere" in found.summary()


def test_text_that_looks_like_a_missing_value_is_text(tmp_path):
    (tmp_path / "runs.csv").write_text("model.batch_norm,val_error\nNone,0.1\nnull,0.2\n")
    space = Space({"model.batch_norm": ["None", "null"]})
    found = load_evidence(str(tmp_path / "runs.csv"), space, ["val_error"])
    assert [row.params["model.batch_norm"] for row in found.rows] == ["None", "null"]


def test_an_optuna_study_is_read_with_its_states(tmp_path):
    url = f"sqlite:///{tmp_path}/optuna.db"
    study = optuna.create_study(storage=url, study_name="old")
    space = {
        "optimizer.lr": optuna.distributions.FloatDistribution(1e-5, 1e-1, log=True),
        "model.width": optuna.distributions.IntDistribution(32, 128),
    }
    for lr, state in ((1e-3, "COMPLETE"), (1e-2, "PRUNED")):
        study.add_trial(
            optuna.trial.create_trial(
                params={"optimizer.lr": lr, "model.width": 64},
                distributions=space,
                value=0.1,
                intermediate_values={1: 0.3, 7: 0.1},
                state=optuna.trial.TrialState[state],
            )
        )
    own = Space({"optimizer.lr": SPACE["optimizer.lr"], "model.width": SPACE["model.width"]})
    found = load_evidence(url, own, ["val_error"])
    assert [(row.params, row.epochs) for row in found.rows] == [
        ({"optimizer.lr": 1e-3, "model.width": 64}, 7)
    ]
    assert "state is pruned" in found.skipped[0]
    with pytest.raises(ConfigError, match="has old; write"):
        load_evidence(f"{url}#new", own, ["val_error"])


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("missing.csv", None, "cannot be read"),
        ("empty.csv", "", "cannot be read"),
        ("broken.parquet", "no parquet", "cannot be read"),
        ("other.csv", "x,val_error\n1,2\n", "needs columns named like the space's paths"),
        ("other.csv", "lr,loss\n1,2\n", "needs a column `val_error`"),
    ],
)
def test_unreadable_sources_say_what_to_do(tmp_path, name, content, words):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(ConfigError, match=words):
        load_evidence(str(tmp_path / name), SPACE, ["val_error"])


def test_an_unreachable_storage_says_what_to_do():
    with pytest.raises(ConfigError, match="must be an Optuna storage"):
        load_evidence("nosuch://db", SPACE, ["val_error"])
