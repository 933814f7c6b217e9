import json
import math
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import qmc

from search_spaces import Space, choice, int_uniform, log_int, log_uniform, uniform
from service.search.objectives import Objective
from service.search.samplers import (
    INLINE,
    MODEL_BASED,
    Told,
    ask,
    batch_seed,
    choose_batch_size,
    choose_sampler,
    deterministic_view,
    params_key,
    resolve_sampler,
    sampler_notes,
)
from trainers.errors import ConfigError, SpaceError

ERROR = (Objective(metric="val_error"),)
BOTH = (*ERROR, Objective(metric="energy_kwh"))

MIXED = Space(
    {
        "optimizer.lr": log_uniform(1e-5, 1.0),
        "optimizer.kind": choice("adam", "momentum"),
        "optimizer.momentum": uniform(0.5, 0.99, when={"optimizer.kind": "momentum"}),
        "model.width": int_uniform(32, 256, step=32),
        "model.depth": choice(1, 2, 3),
        "train.batch_size": log_int(8, 512),
    }
)
SMALL = Space({"model.width": choice(32, 64), "model.depth": int_uniform(1, 3)})


def told_of(asks, first=0, values=None, **fields):
    return [
        Told(number=first + i, params=a.params, attrs=a.attrs,
             values=None if values is None else values(a.params), **fields)
        for i, a in enumerate(asks)
    ]  # fmt: skip


def cost(params):
    return (abs(math.log10(params["optimizer.lr"]) + 2) + params["model.width"] / 256,)


def run(sampler, space, batches, size, seed=0, values=cost, **options):
    told = []
    for batch in range(batches):
        asked = ask(sampler, space, told, size, seed, batch=batch, **options)
        told += told_of(asked, len(told), values, batch=batch)
    return told


# --- what holds for every sampler --------------------------------------------------------------


@pytest.mark.parametrize("sampler", ["random", "sobol", "tpe", "gp", "cmaes", "nsga2"])
def test_asks_lie_in_the_space_are_new_and_are_the_same_after_a_kill(sampler):
    batches = 2 if sampler == "gp" else 4  # a GP takes its time once ten are told
    told = run(sampler, MIXED, batches, 7, num_planned=40)
    assert all(MIXED.contains(row.params) for row in told)
    assert len({params_key(row.params) for row in told}) == len(told)
    # The rows pass through the ledger as JSON, and come back in any order.
    stored = [
        Told(number=r.number, params=json.loads(json.dumps(r.params)), values=r.values,
             attrs=json.loads(json.dumps(r.attrs)), batch=r.batch)
        for r in reversed(told)
    ]  # fmt: skip
    again = [ask(sampler, MIXED, rows, 2, 0, batch=4, num_planned=40) for rows in (told, stored)]
    assert again[0] == again[1]
    assert len(again[0]) == 2
    other = ask(sampler, MIXED, told, 2, 1, batch=4, num_planned=40)
    assert [a.params for a in other] != [a.params for a in again[0]]
    pickle.dumps(other)


@pytest.mark.parametrize("sampler", ["grid", "random", "sobol", "tpe", "gp", "cmaes", "nsga2"])
def test_a_finite_space_is_tried_whole_once_and_then_said_to_be(sampler):
    space = Space({**SMALL, "optimizer.kind": choice("sgd", "adam")})
    first = ask(sampler, space, [], 8, 3, batch=0)
    told = told_of(first, values=lambda p: (p["model.width"] / p["model.depth"],))
    rest = ask(sampler, space, told, 20, 3, batch=1)
    everything = [a.params for a in (*first, *rest)]
    assert sorted(map(params_key, everything)) == sorted(map(params_key, space.grid()))
    assert "have been tried" in rest.exhausted or "has been tried" in rest.exhausted
    nothing = ask(sampler, space, told + told_of(rest, 8, state="failed"), 1, 3, batch=2)
    assert len(nothing) == 0
    assert "been tried" in nothing.exhausted


def no_wide_models(params):
    return "width 64 is too wide" if params["model.width"] == 64 else None


@pytest.mark.parametrize("sampler", ["grid", "random", "sobol", "tpe", "cmaes", "nsga2"])
def test_what_a_known_constraint_refuses_is_never_asked(sampler):
    asked = ask(sampler, SMALL, [], 6, 0, refuse=no_wide_models)
    assert sorted(a.params["model.depth"] for a in asked) == [1, 2, 3]
    assert "width 64 is too wide" in asked.exhausted


def test_a_constraint_that_refuses_everything_ends_in_bounded_time():
    asked = ask("random", MIXED, [], 4, 0, refuse=lambda params: "never")
    assert len(asked) == 0
    assert "random draws gave nothing new" in asked.exhausted
    assert "never" in asked.exhausted


def test_configurations_to_avoid_and_other_lengths():
    grid = SMALL.grid()
    asked = ask("random", SMALL, [], 9, 0, avoid=grid[:4])
    assert sorted(map(params_key, grid[4:])) == sorted(params_key(a.params) for a in asked)
    short = [Told(number=0, params=grid[0], values=(0.1,), horizon_epochs=3)]
    assert len(ask("random", SMALL, short, 9, 0, horizon_epochs=20)) == 6
    assert len(ask("random", SMALL, short, 9, 0, horizon_epochs=3)) == 5


def test_a_key_tells_true_from_one_but_not_one_from_one_point_nought():
    assert params_key({"a": True}) != params_key({"a": 1})
    assert params_key({"b": 2, "a": 1}) == params_key({"a": 1.0, "b": 2.0})


# --- grid, random, Sobol ------------------------------------------------------------------------


def test_a_grid_over_a_continuum_is_refused_and_so_is_an_endless_one():
    with pytest.raises(SpaceError, match=r"optimizer.lr.*grid"):
        ask("grid", MIXED, [], 4, 0)
    huge = Space({f"model.x{i}": uniform(0, 1, grid=101) for i in range(4)})
    with pytest.raises(SpaceError, match="104,060,401"):
        ask("grid", huge, [], 4, 0)


def test_a_grid_takes_its_own_points_only_in_an_order_that_is_no_corner():
    space = Space({"optimizer.lr": log_uniform(1e-4, 1.0, grid=5), "model.depth": choice(1, 2)})
    asked = ask("grid", space, [], 99, 0)
    assert sorted(params_key(a.params) for a in asked) == sorted(map(params_key, space.grid()))
    assert [a.params for a in asked] != space.grid()


PLANE = Space({"optimizer.lr": log_uniform(1e-5, 1.0), "model.dropout": uniform(0, 0.6)})
NARROWED = Space({"optimizer.lr": log_uniform(1e-3, 1e-2), "model.dropout": uniform(0.1, 0.3)})


def discrepancy(rows, space):
    return qmc.discrepancy([space.to_unit(row.params) for row in rows])


def test_sobol_goes_on_where_it_ended_whatever_the_batches():
    at_once = ask("sobol", PLANE, [], 128, 5)
    in_parts = run("sobol", PLANE, 8, 16, seed=5, values=None)
    assert [a.params for a in at_once] == [row.params for row in in_parts]
    assert [row.attrs["sobol_index"] for row in in_parts] == list(range(128))


def test_sobol_keeps_its_low_discrepancy_in_a_narrowed_space():
    coarse = run("sobol", PLANE, 2, 64, seed=5, values=None)
    refined = ask("sobol", NARROWED, coarse, 128, 5, round_index=1)
    assert refined[0].attrs == {"sobol_index": 128}
    random = np.mean([discrepancy(ask("random", NARROWED, [], 128, s), NARROWED) for s in range(5)])
    assert discrepancy(refined, NARROWED) < random / 5


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from(INLINE[1:]), st.integers(0, 2**31 - 1), st.lists(st.integers(1, 9), max_size=5)
)
def test_inline_samplers_never_repeat_however_they_are_batched(sampler, seed, sizes):
    told = []
    for batch, size in enumerate(sizes):
        asked = ask(sampler, SMALL, told, size, seed, batch=batch)
        assert bool(asked.exhausted) == (len(told) + size > SMALL.size)
        told += told_of(asked, len(told))
    assert len({params_key(row.params) for row in told}) == len(told)
    assert len(told) == min(sum(sizes), SMALL.size)


# --- asking ahead ---------------------------------------------------------------------------------


def test_the_deterministic_view_hides_what_timing_decides():
    rows = [
        Told(number=i, params={"a": i}, values=(0.5,), round=r, batch=b)
        for i, (r, b) in enumerate([(0, 0), (1, 0), (1, 1), (1, 2), (2, 0)])
    ]
    view = deterministic_view(reversed(rows), 1, 2)
    assert [(row.number, row.state) for row in view] == [
        (0, "complete"), (1, "complete"), (2, "running"),
    ]  # fmt: skip
    assert view[2].values is None


def test_every_batch_has_a_seed_of_its_own():
    seeds = {batch_seed(s, r, b) for s in range(5) for r in range(-1, 5) for b in range(20)}
    assert len(seeds) == 5 * 6 * 20


# --- choices -----------------------------------------------------------------------------------


def test_auto_chooses_with_a_reason():
    numbers = Space({f"model.x{i}": uniform(0, 1) for i in range(3)})
    cases = [
        (SMALL, 6, ERROR, 3, 0, "grid"),
        (MIXED, 64, ERROR, 3, 0, "sobol"),
        (MIXED, 8, ERROR, 20, 1, "sobol"),
        (MIXED, 96, ERROR, 20, 1, "tpe"),
        (MIXED, 96, BOTH, 20, 1, "tpe"),
        (MIXED, 800, BOTH, 20, 1, "nsga2"),
        (numbers, 48, ERROR, 100, 1, "gp"),
        (numbers, 48, ERROR, None, 1, "tpe"),
        (numbers, 400, ERROR, 5, 1, "cmaes"),
    ]
    for space, trials, objectives, epochs, round_index, expected in cases:
        name, reason = choose_sampler(space, trials, objectives, epochs, round_index)
        assert name == expected
        assert len(reason) > 20


def test_a_sampler_that_cannot_is_replaced_with_the_reason():
    choices = Space({"model.width": choice(32, 64, 128), "model.depth": choice(1, 2, 3)})
    assert resolve_sampler("cmaes", choices, ERROR)[0] == "tpe"
    assert "one objective" in resolve_sampler("cmaes", MIXED, BOTH)[1]
    assert ask("cmaes", choices, [], 2, 0).sampler == "tpe"
    assert resolve_sampler("gp", MIXED, ERROR) == ("gp", "")
    assert "optimizer.momentum" in sampler_notes("gp", MIXED)[0]
    assert "optimizer.kind" in sampler_notes("cmaes", MIXED)[0]
    assert sampler_notes("tpe", MIXED) == []
    with pytest.raises(ConfigError, match="did you mean `sobol`"):
        resolve_sampler("sobel", MIXED, ERROR)


@pytest.mark.parametrize("sampler", [*INLINE, *MODEL_BASED])
def test_batches_fill_a_pack_and_leave_something_to_learn_from(sampler):
    for num_trials in (1, 8, 40, 96, 256, 10_000):
        size, reason = choose_batch_size(sampler, num_trials)
        assert 1 <= size <= num_trials
        assert reason
        if sampler in MODEL_BASED and num_trials >= 48:
            assert num_trials / size >= 6 or size == 64
