"""Pages run as a user runs them: pictures, numbers, claims, changes, and the book."""

from __future__ import annotations

import json
import time

import pandas as pd
import pytest

from service.lecture import running
from service.lecture.book import BOOK_NAME, run_book
from service.lecture.demos import losses
from service.lecture.figures import landscapes
from service.lecture.figures.rates import regime
from service.lecture.findings import Findings, new_figure
from service.lecture.pages import Claim, page_of, pages
from service.lecture.rendering import write_page
from service.lecture.running import _prepared, comparison, run_page
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


def test_ours_is_in_percent_where_the_claim_is():
    claims = (
        Claim(what="error", lecture="-", published="1.48 %", ours="validation error, he"),
        Claim(what="rate", lecture="a", ours="validation error, xavier"),
        Claim(what="epochs", lecture="50 %", ours="epochs"),
    )
    measures = {"validation error, he": 0.0355, "validation error, xavier": 0.5, "epochs": 7.0}
    findings = Findings(table=pd.DataFrame(), measures=measures, figure=new_figure()[0])
    variant = running.Variant(
        findings=findings, energy_kwh=1e-6, seconds=1.0, search_ids=(), reused=False
    )
    page = page_of("p60").model_copy(update={"claims": claims})
    outcome = running.PageOutcome(
        page=page, default=variant, yours=None, overrides=(), energy_method="-"
    )
    assert [row["default run"] for row in comparison(outcome)] == ["3.55 %", "0.5", "7"]


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
    found = boundaries.default.findings.measures
    assert float(found["spread of predicted chances, zeros"]) < 1e-3
    for kind in ("zeros", "too_small", "too_large", "he"):
        name = f"validation accuracy, {kind}"
        assert found[name] == pytest.approx(measures[name])


def test_a_grid_tests_three_rates_and_random_search_nine(run):
    measures = run("p61").default.findings.measures
    assert measures["distinct rates tested, grid"] == 3
    assert measures["distinct rates tested, random"] == 9
    assert measures["best validation error, random"] < measures["best validation error, grid"]


@pytest.fixture
def once(monkeypatch):
    """Run demos once, whatever the meter sees of them."""
    monkeypatch.setattr(running, "METERED_FOR_S", 1e-9)


def test_of_a_page_with_two_parts_only_what_is_changed_runs_again(out, once):
    page = page_of("p57").model_copy(
        update={
            "demo": "service.lecture.demos.tickets:tickets",
            "settings": {"rounds": 1, "epochs": 2, "seeds": 1},
        }
    )
    outcome = run_page(page, out, ["rounds=2"])
    assert outcome.yours is not None
    both, changed = outcome.default.findings, outcome.yours.findings
    assert {"final cost, he", "validation error, dense"} <= set(both.measures)
    assert "final cost, he" not in changed.measures
    assert (both.also["tickets"].table["round"].max(), changed.table["round"].max()) == (1, 2)
    assert write_page(outcome, out).read_text().count("data:image/png") == 3
    for name in ("p57", "p57-tickets", "p57-yours"):
        assert (out / f"{name}.png").read_bytes().startswith(PNG)
    with pytest.raises(ConfigError, match="did you mean `rounds`"):
        run_page(page, out, ["round=2"])
    with pytest.raises(ConfigError, match="did you mean `kind`"):
        run_page(page, out, ["init.kin=he"])


def test_a_demo_is_repeated_until_the_meter_has_seen_it(tmp_path, monkeypatch):
    times, chain = [], losses.chain

    def counted(settings: losses.Chain) -> Findings:
        times.append(1)
        return chain(settings)

    monkeypatch.setattr(losses, "chain", counted)
    monkeypatch.setattr(running, "METERED_FOR_S", 0.2)
    variant = run_page(page_of("p20"), tmp_path).default
    assert variant.seconds * len(times) >= 0.2  # the time is that of one, the sum of all


def test_surfaces_and_the_line_between_solutions_are_drawn_for_each_net(monkeypatch, out):
    monkeypatch.setattr(landscapes, "SIZE", 5)
    monkeypatch.setattr(landscapes, "NUM_DIRECTIONS", 1)
    changes = ("train.epochs=2", "data.num_train=100", "space.model.depth=[1]")
    findings = _prepared(page_of("p35"), changes, out, None)().findings
    assert dict(findings.table.value_counts("net")) == {
        "4 layers, skip": 25, "4 layers, no skip": 25
    }  # fmt: skip
    for net in ("4 layers, skip", "4 layers, no skip"):
        centre = findings.table.query("net == @net and alpha == 0 and beta == 0")["loss"].item()
        line = findings.also["line"].table.query("net == @net")["loss"]
        assert line.iloc[0] == pytest.approx(centre, rel=1e-5)
        assert findings.measures[f"training loss at the centre, {net}"] == centre
        for name in (*landscapes.NAMES.values(), "loss barrier between two seeds"):
            assert float(findings.measures[f"{name}, {net}"]) >= 0


@pytest.mark.long
def test_without_skips_a_deep_net_stands_on_rougher_ground(run):
    measures = {name: float(value) for name, value in run("p35").default.findings.measures.items()}

    def of(score: str, layers: int, skip: str) -> float:
        return measures[f"{score}, {layers} layers, {skip}"]

    curved, low = "share of negative curvature", "share of low loss"
    assert of(curved, 18, "no skip") > 3 * of(curved, 18, "skip")
    assert of(low, 18, "no skip") < of(low, 18, "skip") / 2
    assert abs(of(curved, 6, "no skip") - of(curved, 6, "skip")) < 0.05
    assert of("validation error", 18, "no skip") > of("validation error", 18, "skip")


@pytest.mark.long
def test_tickets_are_better_and_faster_than_their_controls(run):
    measures = run("p58").default.findings.measures
    for share in ("13.5%", "3.6%"):
        error, epoch = (
            {
                arm: float(measures[f"{what}, {arm}, nearest to {share} left"])
                for arm in ("ticket", "reinitialised", "random_mask")
            }
            for what in ("validation error", "epoch of lowest validation loss")
        )
        assert error["ticket"] < min(error["reinitialised"], error["random_mask"])
        assert epoch["ticket"] < min(epoch["reinitialised"], epoch["random_mask"])


def test_a_book_needs_nothing_beside_it(tmp_path, once):
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
