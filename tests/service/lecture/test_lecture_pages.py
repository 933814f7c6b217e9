"""Pages run as a user runs them: pictures, numbers, claims, changes, and the book."""

from __future__ import annotations

import json
import time

import pandas as pd
import pytest

from service.lecture.book import BOOK_NAME, run_book
from service.lecture.figures.rates import regime
from service.lecture.pages import page_of, pages
from service.lecture.rendering import write_page
from service.lecture.running import comparison, run_page
from trainers.errors import ConfigError

PNG = b"\x89PNG"


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("lecture")


@pytest.fixture(scope="module")
def run(out):
    """Run a page and check that each of its claims found its measure."""

    def run(name, *overrides):
        outcome = run_page(page_of(name), out, overrides)
        measures = outcome.default.findings.measures
        for claim in outcome.page.claims:
            assert not claim.ours or claim.ours in measures, (name, claim.ours)
        return outcome

    return run


def test_four_rates_are_told_apart(run):
    measures = run("p60").default.findings.measures
    assert str(measures["regime at lr 20"]).startswith("very high")
    assert measures["regime at lr 2"] == "high: bounces"
    assert measures["regime at lr 0.1"] == "good"
    assert measures["regime at lr 0.001"] == "low: slow"


@pytest.mark.parametrize(
    ("losses", "name"),
    [
        ([2.0, 9.0, float("nan")], "very high: diverges"),
        ([2.0, 3.0, 4.0], "very high: worse than guessing"),
        ([2.0, 1.0, 1.5, 1.0, 1.4], "high: bounces"),
        ([2.0, 1.0, 0.5, 0.2], "good"),
        ([2.2, 2.1, 2.0, 1.9], "low: slow"),
    ],
)
def test_labelled_curves_get_their_regime(losses, name):
    assert regime(losses, best_final=0.1, guessing=2.3) == name


def test_a_change_is_shown_beside_lecture_published_and_default(run, out):
    outcome = run("p60", "optimizer.lr=3")
    html = write_page(outcome, out)
    for row in comparison(outcome):
        assert {"lecture", "published", "default run", "yours"} <= set(row)
    assert outcome.yours is not None
    assert list(outcome.yours.findings.table["lr_searched"].unique()) == [3]
    text = html.read_text()
    assert "--set optimizer.lr=3" in text
    assert text.count("data:image/png") == 2
    facts = json.loads((out / "p60.json").read_text())
    assert facts["energy_kwh"] > 0
    assert facts["zh"] == "超参数对训练的影响"
    for suffix in ("", "-yours"):
        assert (out / f"p60{suffix}.png").read_bytes().startswith(PNG)
        table = pd.read_csv(out / f"p60{suffix}.csv")
        assert len(table) == len(pd.read_parquet(out / f"p60{suffix}.parquet")) > 0


def test_a_search_that_was_run_is_taken_from_the_ledger(run):
    first, second = run("p60"), run("p60")
    assert second.default.reused
    assert second.default.search_ids == first.default.search_ids
    pd.testing.assert_frame_equal(second.default.findings.table, first.default.findings.table)


def test_a_wrong_change_is_refused_before_anything_runs(tmp_path):
    with pytest.raises(ConfigError, match="did you mean `lr`"):
        run_page(page_of("p60"), tmp_path, ["optimizer.lrr=3"])
    with pytest.raises(ConfigError, match="did you mean `steps`"):
        run_page(page_of("p43"), tmp_path, ["step=3"])
    with pytest.raises(ConfigError, match="greater than or equal to 1"):
        run_page(page_of("p43"), tmp_path, ["steps=0"])
    assert not list(tmp_path.iterdir())


def test_l1_makes_zeros_and_l2_makes_none(run):
    measures = run("p44").default.findings.measures
    assert float(measures["share of weights |w| < 1e-6, L1"]) > 0.2
    assert float(measures["share of weights |w| < 1e-6, L2"]) < 0.01
    assert (
        measures["standard deviation of weights, L2"]
        < measures["standard deviation of weights, none"]
    )


def test_early_stopping_ends_where_validation_turned(run):
    measures = run("p49").default.findings.measures
    stopped = float(measures["stopped at epoch, patience 8"])
    assert stopped == float(measures["epoch kept, patience 8"]) + 8
    assert float(measures["last validation loss, to the end"]) > 1.2 * float(
        measures["lowest validation loss, to the end"]
    )


def test_batch_norm_trains_at_higher_rates(run):
    assert float(run("p54").default.findings.measures["highest rate, with over without"]) >= 3


def test_zeros_stay_at_guessing_and_he_learns(run):
    measures = run("p57").default.findings.measures
    assert measures["final cost, zeros"] == pytest.approx(0.693, abs=0.005)
    assert float(measures["validation accuracy, he"]) > 0.9
    assert float(measures["final cost, too_small"]) > float(measures["final cost, he"])
    boundaries = run("p56")
    assert boundaries.default.reused
    assert float(boundaries.default.findings.measures["spread of predicted chances, zeros"]) < 1e-3


def test_a_grid_tests_three_rates_and_random_search_nine(run):
    measures = run("p61").default.findings.measures
    assert measures["distinct rates tested, grid"] == 3
    assert measures["distinct rates tested, random"] == 9
    assert measures["best validation error, random"] < measures["best validation error, grid"]


def test_a_book_needs_nothing_beside_it(tmp_path):
    book = run_book(tmp_path, chosen=[page_of("p12"), page_of("p65")])
    text = book.read_text()
    assert book.name == BOOK_NAME
    for page in pages():
        assert f'id="p{page.page}"' in text
    assert text.count("data:image/png") == 2
    assert "isoflop lecture run p65" in text
    assert 'src="http' not in text
    assert "<script" not in text
    assert 'id="errata"' in text


@pytest.mark.long
def test_every_page_runs_within_its_time_and_finds_what_it_claims(run):
    began_s = time.monotonic()
    for page in pages():
        if page.runs:
            page_began_s = time.monotonic()
            assert run(page.name).default.energy_kwh >= 0  # some are over within a clock tick
            assert time.monotonic() - page_began_s < 120, page.name
    assert time.monotonic() - began_s < 40 * 60
