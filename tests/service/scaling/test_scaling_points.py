import io
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.scaling.points import Points
from service.scaling.where import rows_where
from trainers.errors import DataError

SHARED = Path(__file__).parents[3].parent / "shared" / "data"
FRAME = pd.DataFrame(
    {
        "size": [1e6, 2e6, 4e6, 4e6],
        "seen": [1e8, 2e8, 4e8, 8e8],
        "compute": [6e14, 2.4e15, 9.6e15, 1.92e16],
        "val_loss": [3.0, 2.5, 2.2, 2.1],
        "recipe": ["adamw", "muon", "adamw", "muon"],
        "state": ["finished", "finished", "crashed", "finished"],
    }
)


def points(frame=FRAME, **columns):
    return Points.from_frame(
        frame, **({"params": "size", "tokens": "seen", "loss": "val_loss"} | columns)
    )


@pytest.mark.parametrize("left_out", ["params", "tokens", "flops"])
def test_any_two_of_the_three_sizes_give_the_third(left_out):
    columns = {"params": "size", "tokens": "seen", "flops": "compute"}
    whole = {"params": "size", "tokens": "seen", "flops": "compute"}
    columns.pop(left_out)
    made = Points.from_frame(FRAME, loss="val_loss", **columns)
    np.testing.assert_allclose(made.frame[left_out], FRAME[whole[left_out]], rtol=1e-12)
    assert made.flops_per_param_token == 6
    assert any(note.startswith(f"{left_out} derived as") for note in made.notes)


def test_canonical_columns_come_first_and_others_follow():
    made = points(by="recipe")
    assert list(made.frame.columns[:10]) == [
        *("run", "by", "params", "tokens", "flops", "loss", "weight", "kwh", "seed", "source_line")
    ]
    assert {"compute", "state"} <= set(made.frame.columns)
    assert list(made.frame["source_line"]) == [2, 3, 4, 5]
    assert made.frame["run"].nunique() == 4
    assert made.metric == "val_loss"
    assert made.count == "size"
    assert made.recipes == ("adamw", "muon")
    assert len(made.only(by="muon")) == 2


def test_a_column_called_loss_that_is_not_the_loss_is_kept_apart():
    made = points(FRAME.assign(loss=9.0))
    assert list(made.frame["loss"]) == list(FRAME["val_loss"])
    assert (made.frame["source.loss"] == 9).all()


def test_an_unknown_recipe_is_refused_with_the_nearest():
    with pytest.raises(DataError, match="did you mean `adamw`"):
        points(by="recipe").only(by="adam")


def test_points_without_recipes_have_none_to_choose():
    with pytest.raises(DataError, match=r"of one recipe, .*but got `adamw`; leave the recipe out"):
        points().only("adamw")


@pytest.mark.parametrize("table", [[1, 2], {"size": [1.0]}, "runs.csv", None])
def test_points_come_from_a_table(table):
    kind = type(table).__name__
    with pytest.raises(DataError, match=f"must be a pandas DataFrame, but got a {kind}; use"):
        Points.from_frame(table, params="size", tokens="seen", loss="val_loss")


def test_duplicates_are_dropped_and_counted_but_not_across_seeds():
    doubled = pd.concat([FRAME, FRAME.iloc[:2]], ignore_index=True)
    made = points(doubled)
    assert len(made) == 4
    assert "2 duplicate rows dropped (first: lines 6, 7)" in made.notes
    assert len(points(doubled.assign(s=[0, 0, 0, 0, 1, 1]), seed="s")) == 6


@pytest.mark.parametrize("value", [0.0, -1.0, math.inf, -math.inf, math.nan, "n/a"])
@pytest.mark.parametrize("column", ["size", "seen", "val_loss"])
def test_a_row_that_is_no_positive_number_is_refused_by_its_line(column, value):
    broken = FRAME.astype({column: object})
    broken.loc[2, column] = value
    with pytest.raises(DataError, match=rf"`{column}` must be positive.* 1 of 4 .*line 4"):
        points(broken)


def test_only_the_first_bad_lines_are_listed_and_all_are_counted():
    with pytest.raises(DataError, match=r"9 of 9 .*line 2: -1.0, .*line 6: -1.0 and 4 more"):
        points(pd.DataFrame({"size": [1.0] * 9, "seen": 1.0, "val_loss": -1.0}))


def test_energy_may_be_unknown_but_not_negative():
    made = points(FRAME.assign(e=[1.0, math.nan, 0.0, 2.0]), kwh="e")
    assert made.frame["kwh"].isna().tolist() == [False, True, False, False]
    with pytest.raises(DataError, match="`e` must be numbers of at least 0"):
        points(FRAME.assign(e=[1.0, -1.0, 0.0, 2.0]), kwh="e")


def test_a_missing_column_is_refused_with_the_nearest():
    with pytest.raises(DataError, match=r"loss: .*no column `valloss`; did you mean `val_loss`"):
        points(loss="valloss")


def test_one_size_is_too_few():
    with pytest.raises(DataError, match="two of params, tokens and flops, but got params='size'"):
        Points.from_frame(FRAME, params="size", loss="val_loss")


def test_no_rows_left_is_refused():
    with pytest.raises(DataError, match="none is left"):
        points(where="state == 'queued'")


@pytest.mark.parametrize(
    ("ratio", "said"),
    [
        (np.full(20, 6.0), "agree with 6 x"),
        (np.full(20, 9.0), "1.5 x 6ND .*alike at all sizes"),
        (6 * np.geomspace(1.76, 1.15, 20), "drifting from 1.7.* to 1.1"),
    ],
)
def test_reported_flops_are_compared_with_6nd(ratio, said):
    size = np.geomspace(1e8, 1e10, 20)
    frame = pd.DataFrame(
        {"n": size, "d": 20 * size, "c": ratio * 20 * size**2, "l": 2.0 + 1 / size}
    )
    made = Points.from_frame(frame, params="n", tokens="d", flops="c", loss="l")
    assert made.flops_per_param_token == pytest.approx(np.median(ratio))
    assert pd.Series(made.notes).str.contains(said).any(), made.notes


def test_csv_lines_are_those_of_the_file_and_the_hash_is_of_its_bytes(tmp_path):
    path = tmp_path / "runs.csv"
    path.write_text("n, d, l\n1,2,3\n\n1,2,-3\n")
    with pytest.raises(DataError, match="line 4: -3"):
        Points.from_csv(path, params="n", tokens="d", loss="l")
    made = Points.from_csv(path, params="n", tokens="d", loss="l", where="l > 0")
    assert made.frame["source_line"].tolist() == [2]
    import hashlib

    assert made.data_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_parquet_and_csv_give_the_same_points(tmp_path):
    FRAME.to_parquet(tmp_path / "runs.parquet")
    FRAME.to_csv(tmp_path / "runs.csv", index=False)
    columns = {"params": "size", "flops": "compute", "loss": "val_loss", "by": "recipe"}
    first, second = (
        Points.from_csv(tmp_path / f"runs.{kind}", **columns).frame for kind in ("parquet", "csv")
    )
    pd.testing.assert_frame_equal(first, second)


@pytest.mark.parametrize("content", [None, b"", b"\x00\xff\xfe", b'a,b\n"1,2\n'])
def test_a_file_that_is_no_table_is_refused(tmp_path, content):
    path = tmp_path / "runs.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"runs\.csv|no column"):
        Points.from_csv(path, params="n", tokens="d", loss="l")


@pytest.mark.skipif(not SHARED.exists(), reason="published points are not beside the project")
def test_published_points_are_read():
    made = Points.from_csv(
        SHARED / "chinchilla_epoch_points.csv",
        params="params",
        flops="flops",
        loss="loss",
        where="epoch_outlier == 0",
    )
    assert len(made) == 240
    source = pd.read_csv(SHARED / "chinchilla_epoch_points.csv").query("epoch_outlier == 0")
    np.testing.assert_allclose(made.frame["tokens"], source["tokens"], rtol=1e-6)


def where(expression, frame=FRAME):
    return rows_where(frame, expression)


@pytest.mark.parametrize(
    "expression",
    [
        "state == 'finished' and size >= 2e6",
        "not state == 'crashed'",
        "1e6 < size <= 2e6 or val_loss * 2 > 5.5",
        "seen / size == 100 or seen // size % 2 == 0",
        "recipe in ['muon', 'sgd']",
        "recipe not in ('muon',)",
        "-size < -1e6",
    ],
)
def test_where_agrees_with_pandas(expression):
    expected = FRAME.eval(expression.replace("('muon',)", "['muon']"))
    np.testing.assert_array_equal(where(expression), expected)


def test_where_reads_dotted_and_quoted_columns():
    frame = pd.DataFrame({"optimizer.lr": [1e-3, 1e-2], "val loss": [1.0, 2.0]})
    assert where("optimizer.lr > 2e-3", frame).tolist() == [False, True]
    assert where("`val loss` < 2", frame).tolist() == [True, False]


@pytest.mark.parametrize("expression", ["n / 0 > 1", "l > n / d", "n % d == 0", "n // (d - d) < 1"])
def test_where_refuses_to_divide_by_zero(expression):
    """1 / 0 is infinite, and larger than any threshold: every row would be kept."""
    frame = pd.DataFrame({"n": [1.0, 2.0], "d": [3.0, 0.0], "l": [1.0, 1.0]})
    with pytest.raises(DataError, match=r"divides by zero in .* is 0 in .* of 2 rows \(lines"):
        where(expression, frame)
    assert where("n / (d + 1) > 1", frame).tolist() == [False, True]


def test_where_compares_text_that_holds_numbers():
    frame = pd.read_csv(io.StringIO("l\n1.5\nn/a?\n\n-1\n"), skip_blank_lines=False)
    assert where("l > 0", frame).tolist() == [True, False, False, False]


@pytest.mark.parametrize(
    "expression",
    [
        "__import__('os').system('true')",
        "size.__class__ == 1",
        "@size > 1",
        "[x for x in size] == 1",
        "size[0] > 1",
        "(lambda: 1)() == 1",
        "size ** 99 > 1",
        "f'{size}' == 'a'",
        "size is 1",
        "recipe in seen",
        "recipe in ['a', size]",
        "size > ",
        "size",
        "1 < 2",
        "size and seen",
        "state + 1 > 'a'",
        "'a' * 5 == state",
        "staet == 'finished'",
        "size > 1 " + "or size > 1 " * 200,
        "(" * 300 + "size > 1" + ")" * 300,
        "",
    ],
)
def test_where_refuses_what_is_no_comparison(expression):
    with pytest.raises(DataError, match="`where`"):
        where(expression)


@settings(deadline=None, max_examples=30)
@given(
    sizes=st.lists(st.floats(1e3, 1e12), min_size=1, max_size=8, unique=True),
    data=st.data(),
)
def test_points_never_lose_or_change_a_valid_row(sizes, data):
    tokens = data.draw(st.lists(st.floats(1e3, 1e13), min_size=len(sizes), max_size=len(sizes)))
    frame = pd.DataFrame({"n": sizes, "d": tokens, "l": np.arange(1.0, len(sizes) + 1)})
    made = Points.from_frame(frame, params="n", tokens="d", loss="l")
    assert made.frame["params"].tolist() == sizes
    np.testing.assert_allclose(made.frame["flops"], 6 * frame["n"] * frame["d"])
