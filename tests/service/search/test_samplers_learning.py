"""What samplers learn, and that they lose nothing by being rebuilt for every batch."""

import json
import math

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from search_spaces import Space, choice, int_uniform, log_uniform, uniform
from service.search.objectives import Objective
from service.search.samplers import Told, ask, deterministic_view
from service.search.samplers.evidence import evidence, within_limit
from service.search.samplers.model_based import make_sampler
from service.search.samplers.study import (
    build_study,
    from_internal,
    move_cma_state,
    to_internal,
)

ERROR = (Objective(metric="val_error"),)
BOTH = (*ERROR, Objective(metric="energy_kwh"))
SEEDS = range(4)
CUBE = Space({f"model.x{i}": uniform(-5, 5) for i in range(4)})
PLANE = Space({"model.x": uniform(-5, 10), "model.y": uniform(0, 15)})


def sphere(params):
    return (sum((x - 1.3) ** 2 for x in params.values()),)


def branin(params):
    """Three equal minima of 0.398 in a bent valley (Branin 1972)."""
    x, y = params["model.x"], params["model.y"]
    bend = y - 5.1 / (4 * math.pi**2) * x**2 + 5 / math.pi * x - 6
    return (bend**2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10,)


def two_spheres(params):
    """Error against cost: the front runs from x = 0 to x = 1 in every coordinate."""
    xs = np.array(list(params.values()))
    return (float((xs**2).sum()), float(((xs - 1) ** 2).sum()))


def search(sampler, space, values, *, batches, size, seed, ahead=False, **options):
    """Run a search whose sampler is rebuilt for every batch from rows kept as JSON."""
    told = []
    for batch in range(batches):
        view = deterministic_view(told, 0, batch) if ahead else told
        asked = ask(sampler, space, view, size, seed, batch=batch, **options)
        told += [
            Told(number=len(told) + i, params=a.params, values=values(a.params), batch=batch,
                 attrs=json.loads(json.dumps(a.attrs)))
            for i, a in enumerate(asked)
        ]  # fmt: skip
    return told


def unbroken(make, space, values, *, batches, size, seed, directions=1):
    """Optuna as its documentation shows it: one living study and sampler."""
    study = optuna.create_study(directions=["minimize"] * directions, sampler=make(seed))
    result = []
    for _ in range(batches):
        trials = [study.ask() for _ in range(size)]
        for trial in trials:
            params = {
                p: trial.suggest_float(p, dimension.low, dimension.high)
                for p, dimension in space.items()
            }
            result.append(values(params))
            study.tell(trial, result[-1])
    return result


def last(rows, count=64):
    return float(np.median([row.values[0] for row in rows[-count:]]))


# --- rebuilt as well as unbroken ----------------------------------------------------------------


def test_cma_es_converges_as_well_rebuilt_as_unbroken():
    def make(seed):
        return optuna.samplers.CmaEsSampler(seed=seed, popsize=16)

    shape = {"batches": 20, "size": 16}
    rebuilt = [last(search("cmaes", CUBE, sphere, seed=s, num_planned=96, **shape)) for s in SEEDS]
    alive = [float(np.median(unbroken(make, CUBE, sphere, seed=s, **shape)[-64:])) for s in SEEDS]
    random = [last(search("random", CUBE, sphere, seed=s, **shape)) for s in SEEDS]
    assert np.median(rebuilt) < 1e-2 * np.median(random)
    assert np.median(rebuilt) <= 2 * np.median(alive)


def test_cma_es_converges_when_asked_ahead_and_its_state_s_trial_fails():
    told = []
    for batch in range(30):
        view = deterministic_view(told, 0, batch)
        asked = ask("cmaes", CUBE, view, 16, 0, batch=batch, num_planned=96)
        for i, a in enumerate(asked):
            holds_state = any(key.startswith("cma:optimizer") for key in a.attrs)
            told.append(
                Told(number=len(told), params=a.params, values=None if holds_state else
                     sphere(a.params), state="diverged" if holds_state else "complete",
                     attrs=a.attrs, batch=batch)
            )  # fmt: skip
            assert holds_state <= (i == 0)  # one optimizer a generation, not one a trial
    ended = [row for row in told if row.values]
    assert last(ended) < 0.01 * last(search("random", CUBE, sphere, batches=16, size=16, seed=0))


def test_nsga2_converges_as_well_rebuilt_as_unbroken():
    def make(seed):
        return optuna.samplers.NSGAIISampler(seed=seed, population_size=20)

    shape = {"batches": 20, "size": 20}
    options = {"objectives": BOTH, "num_planned": 200}

    # The front is x0 = x1 = ... = t: between the two centres, all coordinates alike.
    t = np.linspace(0, 1, 21)
    front = np.stack([t, 1 - t], axis=1) * math.sqrt(len(CUBE))  # [21, 2] roots of the values

    def gap_to_front(values):
        # Inverted generational distance. A repeated configuration does not improve it, which
        # is fair: Optuna's own run repeats a fifth of its configurations, ours none.
        gaps = front[:, None] - np.sqrt(np.array(values))[None]
        return float(np.linalg.norm(gaps, axis=2).min(axis=1).mean())

    rebuilt, alive, random = [], [], []
    for s in SEEDS:
        rows = search("nsga2", CUBE, two_spheres, seed=s, **shape, **options)
        rebuilt.append(gap_to_front([row.values for row in rows]))
        native = unbroken(make, CUBE, two_spheres, seed=s, directions=2, **shape)
        alive.append(gap_to_front(native))
        rows = search("random", CUBE, two_spheres, seed=s, **shape)
        random.append(gap_to_front([row.values for row in rows]))
    assert np.median(rebuilt) < 0.5 * np.median(random)
    assert np.median(rebuilt) <= 1.3 * np.median(alive)


def test_without_its_state_cma_es_is_hundreds_of_times_worse():
    """The trap that the state in `Ask.attrs` is there for (EVIDENCE: 4.2 against .02)."""
    told = []
    for batch in range(24):
        asked = ask("cmaes", CUBE, told, 16, 0, batch=batch, num_planned=96)
        told += [
            Told(number=len(told) + i, params=a.params, values=sphere(a.params))
            for i, a in enumerate(asked)
        ]
    kept = search("cmaes", CUBE, sphere, batches=24, size=16, seed=0, num_planned=96)
    assert last(kept) < last(told) / 100


# --- better than random ---------------------------------------------------------------------------


@pytest.mark.parametrize("ahead", [False, True])
def test_tpe_beats_random_on_branin_at_equal_budget(ahead):
    def best(sampler, seed):
        rows = search(sampler, PLANE, branin, batches=8, size=10, seed=seed, ahead=ahead)
        return min(row.values[0] for row in rows)

    tpe, random = ([best(name, s) for s in range(8)] for name in ("tpe", "random"))
    assert np.mean(tpe) < np.mean(random)


def test_gp_beats_random_on_branin_at_equal_budget():
    def best(sampler, seed):
        rows = search(sampler, PLANE, branin, batches=3, size=6, seed=seed)
        return min(row.values[0] for row in rows)

    gp, random = ([best(name, s) for s in range(2)] for name in ("gp", "random"))
    assert np.mean(gp) < np.mean(random)


def test_tpe_learns_conditions_choices_and_the_direction():
    space = Space(
        {
            "optimizer.kind": choice("adam", "momentum", "sgd"),
            "optimizer.momentum": uniform(0.0, 0.99, when={"optimizer.kind": "momentum"}),
            "optimizer.lr": log_uniform(1e-5, 1.0),
        }
    )
    good = {"momentum": 0.9, "adam": 0.5, "sgd": 0.3}

    def accuracy(params):
        off = abs(params.get("optimizer.momentum", 0.9) - 0.9)
        return (good[params["optimizer.kind"]] - off - abs(math.log10(params["optimizer.lr"]) + 2),)

    rows = search("tpe", space, accuracy, batches=8, size=12, seed=0,
                  objectives=(Objective(metric="val_accuracy", direction="maximize"),))  # fmt: skip
    late = rows[-24:]
    assert np.mean([row.params["optimizer.kind"] == "momentum" for row in late]) > 0.6
    assert last(rows, 24) > last(rows[:24], 24) + 0.5


def test_a_batch_keeps_its_points_apart():
    told = search("tpe", PLANE, branin, batches=4, size=16, seed=0)
    batch = ask("tpe", PLANE, told, 16, 0, batch=4)
    points = np.array([PLANE.to_unit(a.params) for a in batch])
    assert points.std(axis=0).max() > 0.1


# --- what is told ---------------------------------------------------------------------------------

LINE = Space({"model.x": uniform(0, 1)})


def row(number, x=0.5, values=(1.0,), **fields):
    return Told(number=number, params={"model.x": x}, values=values, **fields)


def told_to_optuna(rows, name="tpe", objectives=ERROR, space=LINE):
    sampler = make_sampler(name, space, seed=0, population=8, multi_objective=len(objectives) > 1)
    study = build_study(rows, space, objectives, name, sampler, 0)
    return study.get_trials(deepcopy=False)


def test_pruned_is_told_as_pruned_and_nan_never():
    rows = [
        row(0, values=(0.2,)),
        row(1, values=None, state="pruned", intermediate={1: 0.9, 3: 0.7, 4: math.nan}),
        row(2, values=None, state="running"),
        row(3, values=(math.nan,)),
        row(4, values=None, state="diverged", intermediate={1: 0.1}),
    ]
    trials = told_to_optuna(rows)
    states = [TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING, *[TrialState.PRUNED] * 2]
    assert [t.state for t in trials] == states
    assert trials[1].intermediate_values == {1: 0.9, 3: 0.7}
    assert trials[3].intermediate_values == trials[4].intermediate_values == {}


@pytest.mark.parametrize("name", ["gp", "cmaes", "nsga2"])
def test_the_others_are_told_the_worst_value_of_what_diverged(name):
    rows = [row(0, values=(0.2,)), row(1, values=(0.7,)), row(2, values=None, state="diverged")]
    assert [t.values for t in told_to_optuna(rows, name)] == [[0.2], [0.7], [0.7]]
    assert told_to_optuna(rows[2:], name) == []
    upwards = (Objective(metric="val_accuracy", direction="maximize"),)
    assert [t.values for t in told_to_optuna(rows, name, upwards)][2] == [0.2]


def test_tpe_keeps_away_from_where_trials_diverge():
    rows = [row(i, x=x, values=(0.5,)) for i, x in enumerate(np.linspace(0.05, 0.5, 12))]
    rows += [
        row(12 + i, x=x, values=None, state="diverged")
        for i, x in enumerate(np.linspace(0.55, 0.99, 30))
    ]
    asked = ask("tpe", LINE, rows, 20, 0)
    assert np.mean([a.params["model.x"] < 0.55 for a in asked]) > 0.7


def test_infeasible_is_told_by_constraint_not_by_value():
    rows = [
        row(0, values=(0.9,), constraints={"energy_kwh <= 1": -0.5}),
        row(1, values=(0.1,), state="infeasible", constraints={"energy_kwh <= 1": 3.0}),
        row(2, values=(0.4,)),
        row(3, values=(0.4,), constraints={"energy_kwh <= 1": math.inf}),
    ]
    told = [t.constraints for t in told_to_optuna(rows, "gp")]
    name = "energy_kwh <= 1"
    assert told == [{name: -0.5}, {name: 3.0}, {name: 3.0}, {name: 3.0}]
    cma = told_to_optuna(rows, "cmaes")
    assert cma[1].values == [0.9]
    assert cma[0].constraints == {}


@pytest.mark.parametrize("name", ["tpe", "gp", "nsga2"])
def test_constrained_and_multi_objective_asks_work(name):
    rows = [
        row(i, x=x, values=(x, 1 - x), constraints={"c": x - 0.5},
            state="infeasible" if x > 0.5 else "complete")
        for i, x in enumerate(np.linspace(0, 1, 14))
    ]  # fmt: skip
    rows.append(row(14, x=0.33, values=None, state="pruned", intermediate={2: 0.4}))
    assert len(ask(name, LINE, rows, 1, 0, BOTH)) == 1
    single = [Told(number=r.number, params=r.params, values=r.values and r.values[:1],
                   state=r.state, constraints=r.constraints) for r in rows]  # fmt: skip
    assert len(ask(name, LINE, single, 1, 0)) == 1


def test_evidence_is_of_one_length_inside_the_space_and_in_order():
    rows = [
        row(3, horizon_epochs=20),
        row(2, horizon_epochs=3),
        row(1, x=1.5, horizon_epochs=20),
        row(0, state="failed", values=None, horizon_epochs=20),
        row(-4, horizon_epochs=20),  # from elsewhere
    ]
    assert [r.number for r in evidence(rows, LINE, 20)] == [-4, 3]


def test_the_limit_keeps_what_runs_the_best_and_the_latest():
    rows = [row(i, values=(abs(i - 20),)) for i in range(100)]
    rows += [row(100 + i, values=None, state="running") for i in range(5)]
    kept = [r.number for r in within_limit(rows, ERROR, 25)]
    assert kept == sorted(kept)
    assert len(kept) == 25
    assert set(range(18, 23)) <= set(kept)
    assert set(range(90, 105)) <= set(kept)


def test_state_of_another_round_is_not_restored():
    rows = [row(0, attrs={"cma:generation": 4}), row(1, attrs={"cma:generation": 7}, round=1)]
    assert [t.system_attrs for t in told_to_optuna(rows, "cmaes")] == [{"cma:generation": 4}, {}]


def test_cma_state_moves_to_the_last_complete_row():
    state = {"cma:generation": 2, "cma:optimizer:0": "ab"}
    old = {"cma:generation": 1, "cma:optimizer:0": "cd", "cma:optimizer:1": "ef"}
    rows = [row(0, attrs=old), row(1), row(2, state="running", values=None, attrs=state)]
    moved = move_cma_state(rows, 0)
    assert [dict(r.attrs) for r in moved] == [
        {"cma:generation": 1}, {"cma:optimizer:0": "ab"}, {"cma:generation": 2},
    ]  # fmt: skip


@pytest.mark.parametrize(
    "dimension",
    [choice("a", None, True, 3), int_uniform(32, 256, step=32), int_uniform(-3, 3),
     uniform(0.8, 0.95, step=0.05)],
)  # fmt: skip
def test_values_survive_the_way_to_optuna_and_back(dimension):
    for value in dimension.grid_points():
        internal = to_internal(dimension, value)
        assert from_internal(dimension, internal) == value
