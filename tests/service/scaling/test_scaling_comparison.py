import json

import numpy as np
import pandas as pd
import pytest

from service.scaling.comparison import compare_fits, compare_recipes
from service.scaling.fits import fit_joint
from service.scaling.points import Points
from trainers.errors import DataError, ScalingError

ALPHA, BETA = 0.35, 0.37


def rows(recipe, *, floor=1.8, times=1.0, speed=1.0, low=18, high=21, noise=0.002, seed=0):
    """Return runs of a recipe whose frontier is floor + times x (first's reducible at speed x C).

    Scaling N and D by sqrt(speed) scales C by speed, so the frontier moves by exactly that factor.
    """
    flops = np.repeat(np.logspace(low, high, 6), 6)
    params = 0.1 * flops**0.51 * np.tile(np.logspace(-0.6, 0.6, 6), 6)
    tokens = flops / 6 / params
    n, d = params * np.sqrt(speed), tokens * np.sqrt(speed)
    loss = floor + times * (480 * n**-ALPHA + 2100 * d**-BETA)
    loss = loss * np.exp(noise * np.random.default_rng(seed).standard_normal(36))
    return pd.DataFrame({"n": params, "d": tokens, "l": loss, "recipe": recipe})


def points_of(*frames):
    return Points.from_frame(pd.concat(frames), params="n", tokens="d", loss="l", by="recipe")


@pytest.mark.parametrize("speed", [1.3, 1 / 1.3])
def test_a_known_speed_up_is_found_within_its_interval(speed):
    points = points_of(rows("adamw"), rows("muon", speed=speed, seed=1))
    made = compare_recipes(points, "adamw", "muon", bootstrap=100)
    assert made.speedup == pytest.approx(speed, rel=0.05)
    assert made.low <= speed <= made.high
    assert made.verdict == ("faster" if speed > 1 else "slower")
    assert made.low < made.speedup < made.high
    assert (made.min_flops, made.max_flops) == pytest.approx((1e18, 1e21))
    np.testing.assert_allclose(
        made.frame["speedup"], made.frame["flops_first"] / made.frame["flops_second"]
    )


def test_swapping_the_recipes_inverts_the_speed_up():
    one, other = points_of(rows("a")), points_of(rows("b", speed=1.3, seed=1))
    fits = [
        (name, fit_joint(part, bootstrap=50, starts=8), part)
        for name, part in (("a", one), ("b", other))
    ]
    there, back = compare_fits(*fits), compare_fits(*reversed(fits))
    assert there.speedup * back.speedup == pytest.approx(1.0)
    assert there.low * back.high == pytest.approx(1.0)


def test_the_same_recipe_under_two_names_is_no_difference():
    points = points_of(rows("a", noise=0.01), rows("b", noise=0.01, seed=5))
    made = compare_recipes(points, "a", "b", bootstrap=100)
    assert made.verdict == "no difference"
    assert made.low < 1.0 < made.high
    assert "no difference" in made.sentence


def test_where_the_ranking_flips_is_found():
    """Frontiers with one exponent, E_1 + K C^-g and E_2 + 0.8 K C^-g, cross in closed form."""
    points = points_of(
        rows("early", floor=1.9, times=0.8, noise=0.0005),
        rows("late", floor=1.8, noise=0.0005, seed=1),
    )
    gamma = ALPHA * BETA / (ALPHA + BETA)
    ratio = (ALPHA * 480 / (BETA * 2100)) ** (1 / (ALPHA + BETA))
    scale = 480 * ratio**-ALPHA + 2100 * ratio**BETA  # K for C / 6, with N = ratio (C/6)^a
    crossing = 6 * (0.2 * scale / 0.1) ** (1 / gamma)
    assert 1e18 < crossing < 1e21
    made = compare_recipes(points, "early", "late", bootstrap=100)
    assert made.verdict == "flips"
    assert made.flip_flops == pytest.approx(crossing, rel=0.3)
    assert "`early` needs less compute below, `late` above" in made.sentence


def test_the_mapping_is_json():
    points = points_of(rows("a"), rows("b", seed=1))
    text = json.dumps(compare_recipes(points, "a", "b", bootstrap=20).to_mapping(), allow_nan=False)
    assert json.loads(text)["flip_flops"] is None


def test_recipes_that_cannot_be_compared_are_refused():
    points = points_of(
        rows("a"), rows("far", low=22, high=24, seed=1), rows("ahead", floor=0.2, times=0.5, seed=2)
    )
    with pytest.raises(ScalingError, match="two recipes, but got `a` twice"):
        compare_recipes(points, "a", "a")
    with pytest.raises(DataError, match="did you mean `ahead`"):
        compare_recipes(points, "a", "ahaed")
    with pytest.raises(ScalingError, match="do not overlap"):
        compare_recipes(points, "a", "far", bootstrap=5)
    with pytest.raises(ScalingError, match=r"no loss is reached by both .* `ahead` is ahead"):
        compare_recipes(points, "a", "ahead", bootstrap=5)
    alone = points.only("a")
    plain = ("a", fit_joint(alone), alone)
    with pytest.raises(ScalingError, match="bootstrap=400"):
        compare_fits(plain, plain)
