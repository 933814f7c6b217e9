"""A search over learning rules, end to end, and what its report says of each rule."""

import pytest

from service import SearchSpec, run_search
from service.ledger import Ledger
from service.report.charts.rules import learning_rules
from service.report.facts import collect
from service.search.catalog import settings
from service.search.prepare import prepare
from trainers.errors import ConfigError, SpaceError

RULES = ["backprop", "feedback_alignment", "dtp", "oja", "forward_only"]
SMALL = {
    "data": {"name": "digits", "num_train": 200},
    "model": {"depth": 2, "width": 12, "activation": "tanh"},
    "train": {"epochs": 2, "batch_size": 50},
    "space": {
        "learning_rule.kind": RULES,
        "learning_rule.target_step": {
            "log_uniform": [0.05, 0.5], "when": {"learning_rule.kind": "dtp"}
        },
    },
    "optimizer": {"lr": 5e-3},
    "rounds": [{"sampler": "random", "trials": 12, "epochs": 2}],
    "finalists": {"trials": 1, "seeds": 2},
    "recipe": {"checks": False},
}  # fmt: skip


def test_the_report_of_a_search_over_rules_shows_accuracy_energy_and_cosine(tmp_path):
    ledger_path = tmp_path / "ledger.db"
    result = run_search(SearchSpec(**SMALL), workers=1, ledger=ledger_path, out=tmp_path / "out")
    searched = result.trials().query("role == 'search'")
    tried = set(searched["param.learning_rule.kind"])
    assert len(tried) >= 4
    with Ledger.open(ledger_path) as ledger:
        facts = collect(ledger, result.record.search_id)
    chart = learning_rules(facts)
    assert chart is not None
    table = chart.table.set_index("rule")
    assert set(table.index) == tried
    assert table["best val_error"].is_monotonic_increasing
    for rule in tried:
        assert table.loc[rule, "accuracy"] == pytest.approx(1 - table.loc[rule, "best val_error"])
        assert -1 <= table.loc[rule, "cosine"] <= 1
    if "forward_only" in tried:
        assert table.loc["forward_only", "cosine"] == 0
    if facts.trial_kwh:
        assert (table["kWh per trial"] > 0).all()
    assert "Learning rules side by side" in (tmp_path / "out" / "report.html").read_text()


def test_every_setting_of_a_rule_is_in_the_catalogue_with_its_meaning():
    rows = settings("learning_rule")
    assert {row["path"] for row in rows} >= {"learning_rule.kind", "learning_rule.num_sweeps"}
    assert all(row["meaning"] for row in rows)


def test_a_rule_that_the_model_cannot_use_is_refused_before_anything_starts():
    with pytest.raises((ConfigError, SpaceError), match=r"use `model\.kind: local` with"):
        SearchSpec(**{**SMALL, "model": {"kind": "cnn", "width": 4}, "data": "mnist1d"})


def test_cma_es_on_too_many_parameters_is_refused_before_anything_starts(tmp_path):
    spec = SearchSpec(
        data="digits",
        model={"depth": 1},
        optimizer={"kind": "sgd", "lr": 1.0},
        learning_rule={"kind": "cma_es"},
        space={"model.width": [8, 400]},
        recipe={"checks": False},
    )
    with pytest.raises(ConfigError, match=r"fewer than 1000 parameters.*30010"):
        prepare(spec, tmp_path)


def test_the_recipes_rates_are_refused_for_a_rule_without_a_rate(tmp_path):
    spec = SearchSpec(
        data="digits",
        model={"width": 8, "depth": 1},
        optimizer={"kind": "sgd", "lr": 1.0},
        learning_rule={"kind": "cma_es"},
        space={"learning_rule.noise_std": {"log_uniform": [0.01, 0.5]}},
    )
    with pytest.raises(ConfigError, match=r"recipe\.checks: false"):
        prepare(spec, tmp_path)
