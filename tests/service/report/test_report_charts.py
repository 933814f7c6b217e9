"""Charts: what they show, that plotly takes them, and that colours follow the scheme."""

import json
import math

import pytest
from fake_search import FakeSite, accounts_of

from service.report.charts import MAKERS, all_charts
from service.report.charts.base import COLOURS, resolved
from service.report.charts.costs import energy_breakdown, error_against_energy
from service.report.charts.history import history
from service.report.charts.importance import importances
from service.report.charts.shrinking import describe, shrinking
from service.report.charts.sweep import lr_sweep
from service.report.facts import collect


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_plotly_takes_every_figure_in_both_schemes(facts, scheme):
    charts = all_charts(facts)
    assert len(charts) == len(MAKERS) - 1 == 9  # no learning rules were searched
    for chart in charts:
        for number, (_, figure) in enumerate(chart.views):
            json.dumps(figure, allow_nan=False)
            assert "@" not in json.dumps(resolved(figure, scheme)).replace("@container", "")
            assert chart.figure(scheme, number).data
        assert len(chart.table) > 0
        assert chart.note


def test_both_schemes_name_the_same_colours():
    assert set(COLOURS["light"]) == set(COLOURS["dark"])


def test_best_so_far_never_joins_rounds_of_different_length(facts):
    traces = [t for t in history(facts).views[0][1]["data"] if t["mode"] == "lines"]
    assert [t["name"] for t in traces] == [
        "round 0 (random, 3 epochs)",
        "round 1 (tpe, 12 epochs)",
    ]
    for trace in traces:
        values = [y for y in trace["y"] if y is not None]
        assert values == sorted(values, reverse=True)


def test_the_learning_rate_that_decides_the_fake_matters_most(facts):
    found, number, count = importances(facts)
    assert (number, count) == (0, 47)
    assert found[0].path == "optimizer.lr"
    assert math.fsum(i.share for i in found) == pytest.approx(1.0)


def test_energy_parts_sum_to_the_machine(facts):
    table = energy_breakdown(facts).table
    parts = table.loc[table["part"] != "machine", "kWh"].sum()
    assert parts == pytest.approx(facts.accounts.node_kwh, rel=1e-12)


def test_on_the_front_nothing_is_both_better_and_cheaper(facts):
    table = error_against_energy(facts).table
    cost = next(name for name in table.columns if name.startswith("active energy"))
    for _, row in table[table["on the front"]].iterrows():
        better = (table["val_error"] < row["val_error"]) & (table[cost] <= row[cost])
        assert not better.any()


def test_without_energy_the_front_is_drawn_over_compute(done):
    unmetered = collect(done, "demo-1", with_energy=False)
    assert error_against_energy(unmetered).title == "Error against compute"
    assert energy_breakdown(unmetered) is None


def test_own_energy_and_active_energy_are_never_in_one_table(facts):
    for chart in all_charts(facts):
        columns = " ".join(chart.table.columns)
        assert not ("active" in columns and "own" in columns)


def test_the_space_says_what_changed_and_why(facts):
    table = shrinking(facts).table.set_index("dimension")
    assert table.loc["optimizer.lr", "round 0"] == "2.2e-5 to 0.09 (log)"
    assert table.loc["optimizer.kind", "round 1"] == "adam"
    assert "Mann-Whitney" in table.loc["model.width", "why"]
    assert describe({"choice": ["relu", None]}) == "relu, none"


def test_the_sweep_shades_the_range_of_the_verdict(facts):
    shape = lr_sweep(facts).views[0][1]["layout"]["shapes"][0]
    data = facts.recipe.of_step(3)[0].data
    assert (shape["x0"], shape["x1"]) == (data["lo"], data["hi"])


def test_an_empty_search_has_no_charts(ledger, fake):
    empty = collect(ledger, fake.id, accounts=accounts_of(ledger, fake.id), site=FakeSite())
    assert [chart.name for chart in all_charts(empty)] == ["energy"]


def test_slices_hold_every_finished_trial_and_never_mix_rounds(facts):
    chart = next(chart for chart in all_charts(facts) if chart.name == "slices")
    finished = [t for t in facts.candidates if t.state == "complete"]
    assert {label for label, _ in chart.views} == {p for t in finished for p in t.params}
    assert chart.views[0][0] == "optimizer.lr"  # what decides the fake comes first
    for path, figure in chart.views:
        drawn = {i for trace in figure["data"] for i in trace["customdata"]}
        assert drawn == {t.trial_id for t in finished if path in t.params}
        for trace in figure["data"]:
            assert len({t.round for t in finished if t.trial_id in trace["customdata"]}) <= 1
