import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from search_spaces import Space, refine
from search_spaces.natural_limits import natural_limits


def bowl(space, centre, num_trials=50, seed=0, path="optimizer.lr"):
    """Evidence whose value is the squared distance from `centre` on the interval's scale."""
    rng = np.random.default_rng(seed)
    interval = space[path]
    rows = []
    for _ in range(num_trials):
        params = space.sample(rng)
        rows.append((params, (interval.scale(params[path]) - interval.scale(centre)) ** 2))
    return rows


def only(reasons, path):
    (reason,) = [reason for reason in reasons if reason.path == path]
    return reason


def test_an_interval_is_narrowed_to_the_span_of_the_best_fifth_with_a_margin():
    space = Space({"optimizer.lr": {"log_uniform": [1e-5, 1e-1]}})
    evidence = bowl(space, centre=1e-3)
    best = sorted(evidence, key=lambda row: row[1])[:10]
    lrs = np.log([params["optimizer.lr"] for params, _ in best])
    margin = 0.1 * (lrs.max() - lrs.min())
    refined, reasons = refine(space, evidence)
    got = refined["optimizer.lr"]
    assert math.log(got.low) == pytest.approx(lrs.min() - margin)
    assert math.log(got.high) == pytest.approx(lrs.max() + margin)
    reason = only(reasons, "optimizer.lr")
    assert reason.kind == "narrowed"
    assert reason.numbers["best_trials"] == 10
    assert "best 10 of 50 trials" in reason.text
    assert reason.after == got.to_mapping()


@pytest.mark.parametrize(("num_trials", "kept"), [(20, 8), (40, 8), (41, 9), (60, 12)])
def test_at_least_eight_trials_count_as_best(num_trials, kept):
    space = Space({"optimizer.lr": {"log_uniform": [1e-5, 1e-1]}})
    _, reasons = refine(space, bowl(space, 1e-3, num_trials))
    assert reasons[0].numbers["best_trials"] == kept


def test_fewer_than_eight_results_change_nothing():
    space = Space({"optimizer.lr": {"log_uniform": [1e-5, 1e-1]}})
    evidence = bowl(space, 1e-3, 7) + [({"optimizer.lr": 1e-2}, None)] * 20
    refined, reasons = refine(space, evidence)
    assert refined == space
    assert reasons[0].kind == "kept"
    assert "8 trials with a result are needed, but it has 7" in reasons[0].text


@pytest.mark.parametrize("centre", [1e-5, 1e-1])
def test_best_trials_at_an_edge_widen_that_side_by_half_on_the_own_scale(centre):
    space = Space({"optimizer.lr": {"log_uniform": [1e-5, 1e-1]}})
    refined, reasons = refine(space, bowl(space, centre, 200))
    got = refined["optimizer.lr"]
    if centre == 1e-5:  # half of four decades is two decades further out
        assert got.low == pytest.approx(1e-7)
        assert got.high < 1e-2
    else:
        assert got.high == pytest.approx(10)
        assert got.low > 1e-4
    assert only(reasons, "optimizer.lr").kind == "widened"
    assert "lies at the" in reasons[0].text


def test_widening_stops_at_the_limits():
    space = Space({"optimizer.lr": {"log_uniform": [1e-5, 1e-1], "limits": [1e-7, 1]}})
    refined, _ = refine(space, bowl(space, 1e-1, 200))
    assert refined["optimizer.lr"].high == 1
    again, reasons = refine(refined, bowl(refined, 1.0, 200))
    assert again["optimizer.lr"].high == 1
    assert "which is its limit" in reasons[0].text


def test_widening_without_limits_keeps_to_what_the_hyperparameter_means():
    space = Space({"model.dropout": {"uniform": [0.3, 0.9]}, "model.width": {"int": [1, 20]}})
    path = "model.dropout"
    refined, _ = refine(space, bowl(space, 0.9, 200, path=path))
    assert 0.9 < refined[path].high < 1
    path = "model.width"
    refined, _ = refine(space, bowl(space, 1, 200, path=path))
    assert refined[path].low == 1
    assert natural_limits("optimizer.alpha", Space({"a": {"uniform": [0.5, 0.9]}})["a"]) == (
        0.25,
        0.95,
    )


@pytest.mark.parametrize("shape", [{"int": [8, 256], "step": 8}, {"log_int": [1, 256]}])
def test_integers_and_steps_stay_on_their_grid(shape):
    space = Space({"model.width": shape})
    refined, _ = refine(space, bowl(space, 64, 60, path="model.width"))
    original, got = space["model.width"], refined["model.width"]
    assert original.contains(got.low)
    assert original.contains(got.high)
    assert got.low < 64 < got.high
    assert got.high - got.low < original.high - original.low


def test_best_trials_on_one_point_leave_an_interval():
    space = Space({"model.width": {"int": [1, 100]}})
    evidence = [({"model.width": 50}, 0.1)] * 10 + [({"model.width": 90}, 0.9)] * 40
    got = refine(space, evidence)[0]["model.width"]
    assert got.low < got.high
    assert got.contains(50)


def test_diverged_trials_are_never_among_the_best():
    space = Space({"optimizer.lr": {"log_uniform": [1e-5, 1e-1]}})
    evidence = [
        (params, math.nan if params["optimizer.lr"] > 1e-3 else -params["optimizer.lr"])
        for params, _ in bowl(space, 1e-3, 100)
    ]
    assert refine(space, evidence)[0]["optimizer.lr"].high < 2e-3


def test_maximising_mirrors_minimising():
    space = Space({"optimizer.lr": {"log_uniform": [1e-5, 1e-1]}, "model.width": [32, 64]})
    evidence = bowl(space, 1e-3)
    mirrored = [(params, -value) for params, value in evidence]
    small, small_reasons = refine(space, evidence, metric="val_error")
    large, large_reasons = refine(space, mirrored, metric="val_r2", direction="maximize")
    assert small == large
    assert small_reasons[0].numbers["best_value"] == -large_reasons[0].numbers["best_value"]


def choices(values, num_each=10, gap=1.0, seed=0):
    rng = np.random.default_rng(seed)
    return [
        ({"model.activation": value}, index * gap + rng.normal())
        for _ in range(num_each)
        for index, value in enumerate(values)
    ]


def test_a_choice_drops_what_scipys_mann_whitney_rejects():
    values = ["relu", "tanh", "elu", "sigmoid"]
    space = Space({"model.activation": values})
    evidence = choices(values, gap=0.7, seed=3)
    groups = {v: [y for p, y in evidence if p["model.activation"] == v] for v in values}
    best = min(values, key=lambda v: np.median(groups[v]))
    expected = [
        v
        for v in values
        if v == best
        or stats.mannwhitneyu(groups[v], groups[best], alternative="greater").pvalue >= 0.05
    ]
    assert 0 < len(expected) < 4
    refined, reasons = refine(space, evidence)
    assert list(refined["model.activation"].values) == expected
    assert "one-sided Mann-Whitney p < 0.05" in reasons[0].text
    assert reasons[0].kind == "dropped"


def test_values_with_fewer_than_five_trials_are_not_judged():
    space = Space({"model.activation": ["relu", "tanh"]})
    refined, reasons = refine(space, choices(["relu", "tanh"], num_each=4, gap=100))
    assert refined == space
    assert "5 trials each are needed" in reasons[0].text


def test_the_last_value_is_never_dropped():
    space = Space({"model.activation": ["relu"]})
    assert refine(space, choices(["relu"]))[0] == space
    equal = [({"model.activation": v}, 1.0) for v in ["relu", "tanh"] for _ in range(9)]
    space = Space({"model.activation": ["relu", "tanh"]})
    assert refine(space, equal)[0] == space


def test_a_choice_whose_trials_all_diverge_is_dropped():
    space = Space({"model.activation": ["relu", "tanh"]})
    evidence = [({"model.activation": "relu"}, None)] * 8
    evidence += [({"model.activation": "tanh"}, 0.1 * i) for i in range(8)]
    refined, reasons = refine(space, evidence)
    assert refined["model.activation"].values == ("tanh",)
    assert "most failed" in reasons[0].text


def test_a_conditional_hyperparameter_is_judged_where_it_was_active():
    space = Space(
        {
            "optimizer.kind": ["adam", "momentum"],
            "optimizer.momentum": {"uniform": [0.0, 0.98], "when": {"optimizer.kind": "momentum"}},
        }
    )
    rng = np.random.default_rng(0)
    evidence = []
    for _ in range(80):
        params = space.sample(rng)
        # Adam is better on the whole, so no momentum trial is among the best fifth of all.
        value = (params.get("optimizer.momentum", 0.0) - 0.5) ** 2 + 0.2 * rng.random()
        evidence.append((params, value))
    refined, reasons = refine(space, evidence)
    num_active = sum("optimizer.momentum" in params for params, _ in evidence)
    assert only(reasons, "optimizer.momentum").numbers["trials"] == num_active
    assert refined["optimizer.momentum"].when == {"optimizer.kind": ("momentum",)}


def test_dropping_a_choice_removes_its_conditional_hyperparameters():
    space = Space(
        {
            "optimizer.kind": ["adam", "momentum"],
            "optimizer.momentum": {"uniform": [0.8, 0.98], "when": {"optimizer.kind": "momentum"}},
        }
    )
    rng = np.random.default_rng(0)
    evidence = [
        (params, float(params["optimizer.kind"] == "momentum") + 0.1 * rng.random())
        for params in (space.sample(rng) for _ in range(40))
    ]
    refined, reasons = refine(space, evidence)
    assert list(refined) == ["optimizer.kind"]
    removed = only(reasons, "optimizer.momentum")
    assert (removed.kind, removed.after) == ("removed", None)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000), st.floats(1e-5, 1e-1), st.integers(8, 80))
def test_refined_spaces_are_specs_of_their_own_inside_the_limits(seed, centre, num_trials):
    space = Space(
        {
            "optimizer.lr": {"log_uniform": [1e-4, 1e-2], "limits": [1e-5, 1e-1]},
            "model.width": {"int": [16, 128], "step": 16, "limits": [16, 256]},
            "model.activation": ["relu", "tanh"],
        }
    )
    refined, reasons = refine(space, bowl(space, centre, num_trials, seed))
    assert Space.from_mapping(refined.to_mapping()) == refined
    assert [reason.path for reason in reasons] == list(space)
    assert 1e-5 <= refined["optimizer.lr"].low < refined["optimizer.lr"].high <= 1e-1
    assert refined["model.width"].low % 16 == 0
    assert 16 <= refined["model.width"].low < refined["model.width"].high <= 256


def test_the_result_does_not_depend_on_the_order_of_trials():
    space = Space({"optimizer.lr": {"log_uniform": [1e-5, 1e-1]}, "model.activation": ["relu"]})
    evidence = bowl(space, 1e-3)
    assert refine(space, evidence) == refine(space, evidence[::-1])


def test_rounds_of_refinement_find_an_optimum_outside_the_first_interval():
    space = Space({"optimizer.lr": {"log_uniform": [1e-5, 1e-3], "limits": [1e-7, 10]}})
    for round_ in range(5):
        space, _ = refine(space, bowl(space, 0.1, 60, seed=round_))
    interval = space["optimizer.lr"]
    assert interval.low < 0.1 < interval.high
    assert interval.high / interval.low < 10


def test_reasons_are_plain_values_for_the_ledger():
    import json

    space = Space({"optimizer.lr": {"log_uniform": [1e-5, 1e-1]}, "model.activation": ["relu"]})
    rows = [
        ({**params, "model.activation": "relu"}, v)
        for params, v in bowl(Space({"optimizer.lr": space["optimizer.lr"]}), 1e-3)
    ]
    _, reasons = refine(space, rows)
    plain = [reason.to_mapping() for reason in reasons]
    assert json.loads(json.dumps(plain)) == plain
    assert [p["kind"] for p in plain] == ["narrowed", "kept"]


@pytest.mark.parametrize("num_trials", [32, 48, 100])
def test_a_value_that_improves_up_to_the_edge_widens_it_almost_always(num_trials):
    space = Space({"optimizer.lr": {"log_uniform": [1e-5, 1e-3]}})
    kinds = [
        refine(space, bowl(space, 1e-1, num_trials, seed=seed))[1][0].kind for seed in range(40)
    ]
    assert kinds.count("widened") >= 38


def test_the_reason_says_by_which_rule_an_edge_was_widened():
    space = Space({"optimizer.lr": {"log_uniform": [1e-5, 1e-3]}})
    middle = math.sqrt(1e-5 * 1e-3)
    seen = set()
    for seed in range(40):
        reason = refine(space, bowl(space, 1e-1, 32, seed=seed))[1][0]
        if reason.kind != "widened":
            continue
        share = math.log(reason.numbers["best_median"] / middle) / math.log(1e-3 / middle) / 2 + 0.5
        says_median = "their median" in reason.text
        assert says_median == (share >= 0.9), reason.text
        assert says_median != ("outermost" in reason.text)
        seen.add(says_median)
    assert seen == {True, False}


def test_an_edge_beyond_which_training_diverged_is_not_widened():
    space = Space({"optimizer.lr": {"log_uniform": [1e-5, 1e-1]}})
    for seed in range(20):
        rows = [
            (params, None if params["optimizer.lr"] > 2e-2 else -params["optimizer.lr"])
            for params, _ in bowl(space, 1e-1, 60, seed=seed)
        ]
        assert refine(space, rows)[1][0].kind == "narrowed"
