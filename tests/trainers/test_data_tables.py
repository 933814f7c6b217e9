import json

import numpy as np
import pandas as pd
import pytest
import torch

from trainers.config import DataConfig
from trainers.data import describe, load, register, registered
from trainers.data.reading import read_file
from trainers.errors import DataError

ROWS = 60


def _frame() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "carat": rng.random(ROWS),
            "colour": [["red", "green", "blue"][i % 3] for i in range(ROWS)],
            "small": [i % 2 == 0 for i in range(ROWS)],
            "label": [["cat", "dog"][i % 2] for i in range(ROWS)],
            "price": rng.random(ROWS) * 100,
        }
    )


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("ISOFLOP_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def _csv(tmp_path, frame, name="plates.csv"):
    path = tmp_path / name
    frame.to_csv(path, index=False)
    return path


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_table_is_encoded_described_and_loaded(tmp_path, home, suffix):
    frame, path = _frame(), tmp_path / f"plates.{suffix}"
    if suffix == "csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_parquet(path)
    meta = register("plates", path, "label")
    assert meta["task"] == "classification"
    assert meta["classes"] == ["cat", "dog"]
    assert meta["rows"] == ROWS
    assert "one-hot" in meta["notes"]["column colour"]
    assert registered() == [meta] == [describe("plates")]
    path.unlink()  # a copy was made
    dataset = load(DataConfig(name="plates", standardise=False))
    assert dataset.input_shape == (6,)  # carat, three colours, small, price
    assert set(dataset.x_train[:, 1:4].sum(dim=1).tolist()) == {1.0}
    assert dataset.x_train.dtype == torch.float32


def test_registering_again_changes_nothing_but_other_content_is_refused(tmp_path, home):
    path = _csv(tmp_path, _frame())
    meta = register("plates", path, "label")
    assert register("plates", path, "label") == meta
    path = _csv(tmp_path, _frame().iloc[1:])
    with pytest.raises(DataError, match=r"registered with other content.*plates-v2"):
        register("plates", path, "label")
    assert [entry.name for entry in (home / "data").iterdir()] == ["plates"]  # nothing left over


def test_two_processes_registering_at_once_agree_or_are_told(tmp_path, monkeypatch):
    path = _csv(tmp_path, _frame())
    meta = register("plates", path, "label")
    # The second one looked before the first one's folder was there.
    looks = iter([[], ["plates"]] * 2)
    monkeypatch.setattr("trainers.data.registry.registered_names", lambda home: next(looks))
    assert register("plates", path, "label") == meta
    with pytest.raises(DataError, match="registered with other content"):
        register("plates", _csv(tmp_path, _frame().iloc[1:]), "label")


@pytest.mark.parametrize("name", ["digits", "a/b", "", "../up", ".hidden"])
def test_names_that_are_taken_or_malformed(tmp_path, name):
    with pytest.raises(DataError, match=r"built in|must be letters"):
        register(name, _csv(tmp_path, _frame()), "label")


def test_task_is_decided_with_a_reason_and_can_be_overridden(tmp_path):
    frame = pd.DataFrame({"x": np.arange(200.0), "grade": np.arange(200) % 5})
    frame["count"], frame["whole"] = np.arange(200), np.arange(200) % 4 + 0.0
    path = _csv(tmp_path, frame)
    assert read_file(path, "grade").task == "classification"
    assert read_file(path, "whole").class_names == ("0", "1", "2", "3")
    counted = read_file(path, "count")
    assert counted.task == "regression"
    assert "200 distinct values" in counted.notes["task"]
    forced = read_file(path, "grade", "regression")
    assert forced.y.shape == (200, 1)
    assert "as asked for" in forced.notes["task"]
    both = read_file(path, ["grade", "whole"])
    assert (both.task, both.num_outputs) == ("regression", 2)
    with pytest.raises(DataError, match=r"did you mean `regression`"):
        read_file(path, "grade", "regresion")


def _with(column, value, rows=slice(3, 5)):
    frame = _frame()
    frame[column] = frame[column].astype(object)
    frame.loc[frame.index[rows], column] = value
    return frame


@pytest.mark.parametrize(
    ("frame", "target", "message"),
    [
        (_frame(), "lable", "no target column `lable`; did you mean `label`"),
        (_with("carat", np.nan), "label", "NaN or empty values in `carat`: 2"),
        (_with("carat", np.inf, slice(7, 8)), "label", "infinite values in `carat`: 1"),
        (_with("colour", None), "label", "NaN or empty values in `colour`: 2"),
        (_with("label", None), "label", "`label` has none in 2 of 60 rows .the first is row 3"),
        (_with("price", np.nan), "price", "`price` has none in 2 of 60 rows"),
        (_with("price", np.inf), "price", "targets must be finite, but 2 values"),
        (_with("label", "cat", slice(None)), "label", "at least 2 classes, but `label` holds only"),
        (_frame().assign(label=[f"id{i}" for i in range(ROWS)]), "label", "may be an identifier"),
        (_frame().assign(key=[f"k{i}" for i in range(ROWS)]), "label", "`key` has 60 .k0, k1"),
        (_frame().iloc[:0], "label", "only its header"),
        (_frame()[["label"]], "label", "must hold features beside the target"),
    ],
)
def test_unusable_tables_are_refused(tmp_path, home, frame, target, message):
    with pytest.raises(DataError, match=message):
        register("plates", _csv(tmp_path, frame), target)
    assert registered() == []


def test_dates_are_refused_with_advice(tmp_path):
    frame = _frame().assign(day=pd.Timestamp("2026-01-01"))
    frame.to_parquet(tmp_path / "dated.parquet")
    with pytest.raises(DataError, match=r"`day` is of type datetime.*into days"):
        read_file(tmp_path / "dated.parquet", "label")


def test_regression_on_text_is_refused(tmp_path):
    with pytest.raises(DataError, match="regression needs numbers"):
        read_file(_csv(tmp_path, _frame()), "label", "regression")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "the file is empty"),
        ("a.csv", b"\n\n", "must hold rows"),
        ("a.csv", b"\xff\xfe\x00binary\n1,2,3,4", "readable .csv table"),
        ("a.csv", b"x,y\n1,2\n1,2,3,4\n", "readable .csv table"),
        ("a.parquet", b"not parquet", "readable .parquet table"),
        ("a.npz", b"not a zip", "must be an .npz of plain arrays"),
        ("a.xlsx", b"PK", "must be a .npz, .csv or .parquet file, but got `a.xlsx`"),
    ],
)
def test_unreadable_files(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        register("plates", tmp_path / name, "y")


def test_a_missing_file(tmp_path):
    with pytest.raises(DataError, match="must be a file, but there is none"):
        register("plates", tmp_path / "none.csv", "y")


@pytest.mark.parametrize("name", ["photos", "photos.csv"])
def test_a_folder(tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(DataError, match=f"{name}` is a folder; name a file in it"):
        register("plates", tmp_path / name, "y")


@pytest.mark.parametrize("key", ["X", "x", "data"])
def test_npz_images_keep_their_shape(tmp_path, key):
    x = np.random.default_rng(0).integers(256, size=(ROWS, 3, 6, 8)).astype(np.uint8)
    labels = np.array(["a", "b", "c"])[np.arange(ROWS) % 3]
    np.savez(tmp_path / "plates.npz", **{key: x, "label": labels})
    register("plates", tmp_path / "plates.npz", "label")
    dataset = load(DataConfig(name="plates", standardise=False))
    assert dataset.input_shape == (3, 6, 8)
    assert dataset.class_names == ("a", "b", "c")
    assert dataset.num_rows == ROWS


@pytest.mark.parametrize(
    ("shape", "expected", "note"),
    [
        ((9, 9), (1, 9, 9), "one-channel images"),
        ((4, 50), (4, 50), "channels, length"),
        ((9, 9, 3), (3, 9, 9), "channels last"),
        ((3, 9, 9), (3, 9, 9), "keep their shape"),
        ((7,), (7,), "keep their shape"),
        ((), (1,), "one feature"),
    ],
)
def test_npz_layouts_are_read_as_noted(tmp_path, shape, expected, note):
    x = np.random.default_rng(0).random((ROWS, *shape))
    np.savez(tmp_path / "a.npz", X=x, y=np.arange(ROWS) % 2)
    source = read_file(tmp_path / "a.npz", "y")
    assert source.x.shape[1:] == expected
    assert note in source.notes["layout"]
    np.testing.assert_allclose(np.sort(source.x, axis=None), np.sort(x, axis=None), rtol=1e-6)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"features": np.ones((4, 2)), "y": np.arange(4) % 2}, "under one of X, x, data"),
        ({"X": np.ones((4, 2)), "labels": np.arange(4) % 2}, "no target array `y`"),
        ({"X": np.ones((4, 2)), "y": np.arange(3)}, r"shapes are \(3,\) and \(4, 2\)"),
        ({"X": np.ones((0, 2)), "y": np.arange(0)}, r"must hold rows, but has shape \(0, 2\)"),
        ({"X": np.array([["a"], ["b"]]), "y": np.arange(2)}, "must be numbers"),
        ({"X": np.array([[1, np.nan], [1, 1]]), "y": np.arange(2)}, r"`X\[1\]`: 1"),
        ({"X": np.full((2, 3, 3), np.inf), "y": np.arange(2)}, "values in `X`: 18"),
        ({"X": np.ones((2, 1)), "y": np.array([{}, {}], dtype=object)}, "without objects"),
    ],
)
def test_unusable_arrays_are_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=message):
        register("plates", tmp_path / "a.npz", "y")


def test_several_npz_targets_are_numbers(tmp_path):
    y = np.random.default_rng(0).random((ROWS, 3))
    np.savez(tmp_path / "a.npz", X=np.random.default_rng(1).random((ROWS, 2)), y=y)
    source = read_file(tmp_path / "a.npz", "y")
    assert (source.task, source.y.shape) == ("regression", (ROWS, 3))


def test_altered_rows_are_caught(tmp_path, home):
    register("plates", _csv(tmp_path, _frame()), "label")
    rows = home / "data/plates/rows.npz"
    with np.load(rows) as arrays:
        x, y = arrays["x"].copy(), arrays["y"]
    x[0, 0] += 1
    np.savez(rows, x=x, y=y)
    with pytest.raises(DataError, match="was altered"):
        load(DataConfig(name="plates", split_seed=77))
    (home / "data/plates/meta.json").write_text("{")
    with pytest.raises(DataError, match="register `plates` again"):
        load(DataConfig(name="plates"))


def test_a_home_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ISOFLOP_HOME", str(tmp_path / "file"))
    with pytest.raises(DataError, match="set ISOFLOP_HOME to a folder that can"):
        register("plates", _csv(tmp_path, _frame()), "label")


def test_meta_is_plain_json(tmp_path, home):
    meta = register("plates", _csv(tmp_path, _frame()), "label")
    assert json.loads((home / "data/plates/meta.json").read_text()) == meta
