import numpy as np
import pandas as pd
import pytest

from service.scaling.multiverse import multiverse, row_filters
from service.scaling.points import Points
from trainers.errors import ScalingError

ALPHA, BETA = 0.35, 0.37


def surface(budgets=5, sizes=6, recipe="only"):
    """Return noise-free isoFLOP points of a known law."""
    flops = np.repeat(np.logspace(18, 21, budgets), sizes)
    params = 0.1 * flops**0.51 * np.tile(np.logspace(-0.6, 0.6, sizes), budgets)
    tokens = flops / 6 / params
    loss = 1.8 + 480 * params**-ALPHA + 2100 * tokens**-BETA
    frame = pd.DataFrame({"n": params, "d": tokens, "l": loss, "recipe": recipe})
    return Points.from_frame(frame, params="n", tokens="d", loss="l", by="recipe")


@pytest.fixture(scope="module")
def table():
    return multiverse(surface())


def test_without_noise_no_choice_moves_the_law(table):
    joint = table[table["method"].isin(["log_huber", "variable_projection"])]
    found = joint[joint["converged"]]
    assert len(found) >= 12
    np.testing.assert_allclose(found["a"], BETA / (ALPHA + BETA), atol=2e-3)
    np.testing.assert_allclose(found["E"], 1.8, rtol=5e-3)
    isoflop = table[table["method"].str.startswith("isoflop")]["a"].dropna()
    np.testing.assert_allclose(isoflop, BETA / (ALPHA + BETA), atol=0.05)


def test_every_choice_has_a_row_and_what_has_no_value_says_why(table):
    assert not table.duplicated(["method", "filter", "loss"]).any()
    assert set(table["loss"]) >= {"huber 1e-3", "huber 1e-2", "squares of log", "squares"}
    assert (table["method"] != "envelope").all(), "no curves, so no envelope"
    lost = table[table["a"].isna()]
    assert not lost["converged"].any()
    assert (lost["note"].str.len() > 20).all()


def test_filters_cut_by_compute_and_size():
    frame = surface().frame
    masks = dict(row_filters(frame))
    assert masks["all rows"].all()
    assert masks["C > 1e+19"].sum() == (frame["flops"] > 1.001e19).sum()
    assert masks["C < 1e+20"].sum() == (frame["flops"] < 0.999e20).sum()
    assert (masks["D > N"] == (frame["tokens"] > frame["params"])).all()


def test_several_recipes_are_refused():
    both = pd.concat([surface().frame, surface(recipe="other").frame])
    with pytest.raises(ScalingError, match="of one recipe, but the points have 2"):
        multiverse(Points.from_frame(both, params="params", tokens="tokens", loss="loss", by="by"))
