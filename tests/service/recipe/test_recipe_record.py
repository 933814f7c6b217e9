import json
import math

import numpy as np
import pytest

from service.recipe import Recipe, Verdict
from service.recipe.record import verdict_of


def test_a_recipe_survives_json_and_non_finite_numbers_become_null():
    first = verdict_of(
        1,
        passed=True,
        verdict="good",
        reason="r",
        consequence="c",
        data={"loss": np.float32(2.5), "bad": math.inf, "pair": (1, 2)},
    )
    recipe = Recipe().adding(first)
    again = Recipe.from_json(recipe.to_json())
    assert again == recipe
    assert json.loads(recipe.to_json())[0]["data"] == {"loss": 2.5, "bad": None, "pair": [1, 2]}


def test_only_steps_1_and_2_stop_a_search_and_the_advice_names_the_way_round():
    def failed(step):
        return verdict_of(step, passed=False, verdict="bad", reason="why", consequence="Do this")

    assert Recipe((failed(3), failed(5))).blocking is None
    assert Recipe((failed(3),)).advice() == ""
    recipe = Recipe((failed(3), failed(2)))
    assert recipe.blocking is not None
    assert recipe.blocking.step == 2
    assert "overfit a small sample" in recipe.advice()
    assert "recipe.continue_on_failure" in recipe.advice()


def test_a_step_outside_1_to_7_is_refused():
    with pytest.raises(ValueError, match="from 1 to 7, but got 8"):
        Verdict(step=8, name="x", passed=None, verdict="x", reason="", consequence="")
