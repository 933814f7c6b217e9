"""A study from a table to its folder: answers, files, and the same study read back."""

import json
import re
import xml.etree.ElementTree as ElementTree
from importlib.resources import files

import jsonschema
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from known_law import TRUTH, best_loss, best_size, surface

from service import ScalingStudy
from service.energy.site import Site
from service.scaling.gathering import warnings_of
from service.scaling.report.paper import escaped
from service.scaling.report.reading import read_study
from trainers.errors import ConfigError, DataError, ScalingError, SiteError

COLUMNS = {"params": "params", "tokens": "tokens", "flops": "flops", "loss": "loss"}
FRANCE = Site.from_environment({"ISOFLOP_COUNTRY": "FRA"})
SCHEMA = json.loads((files("service.scaling.report") / "study.schema.json").read_text())


def table():
    """A noisy surface whose energy is known, with two seeds."""
    frame = surface(noise=0.003)
    return frame.assign(joules=frame["flops"] * 1e-11, seed=np.arange(len(frame)) % 2)


@pytest.fixture(scope="module")
def study():
    frame = table().assign(kwh=lambda rows: rows["joules"] / 3.6e6)
    made = ScalingStudy.from_frame(
        frame, **COLUMNS, kwh="kwh", seed="seed", name="known", site=FRANCE
    )
    made.fit(bootstrap=60)
    return made


@pytest.fixture(scope="module")
def folder(study, tmp_path_factory):
    return study.write(tmp_path_factory.mktemp("study"))


def test_the_truth_is_within_the_intervals(study):
    for name, tolerance in (("alpha", 0.05), ("beta", 0.05), ("E", 0.1)):
        assert study.fitted.params[name] == pytest.approx(TRUTH[name], abs=tolerance)
    low, high = study.fitted.ends("a")
    assert low <= TRUTH["beta"] / (TRUTH["alpha"] + TRUTH["beta"]) <= high
    found = study.frontier([1e21, 1e22]).frame
    assert found["params"].to_numpy() == pytest.approx(best_size(np.array([1e21, 1e22])), rel=0.3)
    assert ((found["loss_low"] < best_loss(found["flops"]))
            & (best_loss(found["flops"]) < found["loss_high"])).all()  # fmt: skip
    assert study.fitted.heldout.rmse < study.fitted.heldout.naive_rmse
    assert study.fitted.converged_share > 0


def test_the_first_sentence_says_size_loss_cost_and_knee(study):
    sentence = study.analysis().sentence
    assert re.match(r"10x compute: N 3\.\dx, loss 2\.\d+ -> 2\.\d+ \(90 %: ", sentence)
    assert "kWh" in sentence
    assert "beyond" in sentence


def test_the_country_is_changed_after_the_fact_without_another_fit(study):
    poland = study.with_energy(country="POL", pue=2.0, price_per_kwh=0.5)
    assert poland.fitted is study.fitted
    here, there = (s.marginal(per="kgco2e", budgets=1e21).frame.iloc[0] for s in (study, poland))
    dirtier = poland.axis.site.intensity_g_per_kwh / study.axis.site.intensity_g_per_kwh
    assert here["gain_per_unit"] / there["gain_per_unit"] == pytest.approx(2.0 * dirtier)
    assert there["gain"] == here["gain"]
    with pytest.raises(SiteError, match="three-letter"):
        study.with_energy(country="Poland")
    assert study.with_energy(kwh_per_flop=1e-17).axis.kwh_per_flop == 1e-17


def test_the_folder_holds_page_record_tables_and_pictures(study, folder):
    names = {path.stem for path in folder.tables}
    assert names >= {"points", "frontier", "marginal", "heldout", "residuals", "multiverse"}
    assert len(pd.read_parquet(folder.directory / "points.parquet")) == len(study.points)
    pictures = {path.name for path in folder.pictures}
    for name in ("frontier", "isoflop", "predicted", "multiverse", "returns-per-doubling",
                 "returns-per-kWh", "residuals-over-C", "sizes-N"):  # fmt: skip
        assert {f"{name}.png", f"{name}.svg", f"{name}.pdf"} <= pictures
    assert all(path.stat().st_size > 1000 for path in folder.pictures)


def test_the_record_follows_its_schema(study, folder):
    written = json.loads(folder.record.read_text())
    jsonschema.validate(written, SCHEMA)
    assert written["sentence"] == study.analysis().sentence
    assert written["fits"][0]["params"]["alpha"] == study.fitted.params["alpha"]
    assert {fit["method"] for fit in written["fits"]} >= {"log_huber_lbfgsb", "isoflop"}
    assert {row["unit"] for row in written["marginal"]} == {"FLOP", "kWh", "kgCO2e"}
    assert written["extrapolation"]["coverage"] == study.fitted.conformal.coverage
    assert written["data"]["sha256"] == study.points.data_sha256


def test_the_page_is_one_file_that_asks_for_nothing(folder):
    html = folder.report.read_text()
    assert "default-src 'none'" in html
    page = re.sub(r"<script>.*?</script>", "", html, flags=re.DOTALL)
    assert not re.search(r"""(src|href)=|@import|url\(|https?://""", page)
    # A narrow page must not end a line between the two signs of an arrow.
    assert "\u00a0→\u00a0" in page
    for word in ("10x compute", "prediction interval", "carrying the last value forward",
                 "held out", "choices of method"):  # fmt: skip
        assert word in page


def test_a_study_is_read_back_with_the_same_answers(study, folder):
    again = read_study(folder.directory)
    asked = [1e20, 1e22]
    pd.testing.assert_frame_equal(
        again.frontier(asked).frame.drop(columns=["kgco2e"]),
        study.frontier(asked).frame.drop(columns=["kgco2e"]),
        rtol=1e-9,
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: "no json", "no JSON"),
        (lambda text: "[]", "no study's record"),
        (lambda text: text.replace('"schema": 1', '"schema": 99'), "schema 99"),
        (lambda text: text, "points beside it"),
    ],
)
def test_a_folder_that_cannot_be_read_is_refused(folder, tmp_path, change, message):
    (tmp_path / "study.json").write_text(change(folder.record.read_text()))
    with pytest.raises(ConfigError, match=message):
        read_study(tmp_path)


def test_a_paper_gets_vector_figures_at_column_width_a_table_and_its_methods(study, tmp_path):
    written = study.paper(tmp_path / "paper")
    pdfs = [path for path in written if path.suffix == ".pdf"]
    assert all(path.read_bytes().startswith(b"%PDF") for path in pdfs)
    methods = (tmp_path / "paper" / "methods.tex").read_text()
    for part in ("49 points", "32 starts", "60 bootstrap", "params", "seeds: 0, 1", "correlate"):
        assert part in methods
    rows = (tmp_path / "paper" / "table.tex").read_text()
    assert rows.count(r"\toprule") == 2
    assert r"$\alpha$ & 0.3" in rows


@settings(deadline=None, max_examples=30)
@given(text=st.text(alphabet="ab&%$#_{}~^\\ ", max_size=20))
def test_no_text_breaks_latex(text):
    bare = escaped(text).replace(r"\textasciitilde{}", "").replace(r"\textasciicircum{}", "")
    bare = re.sub(r"\\[&%$#_{}]", "", bare.replace(r"\textbackslash{}", ""))
    assert not set(bare) & set("&%$#_{}~^\\")


def test_a_picture_has_the_width_that_was_asked_for(study, tmp_path):
    path = study.plot.isoflop().save(tmp_path / "fig.svg", width_cm=8.5)
    width = ElementTree.parse(path).getroot().attrib["width"]
    assert float(width.removesuffix("pt")) == pytest.approx(8.5 / 2.54 * 72, rel=1e-3)
    dark = study.plot.returns().save(tmp_path / "dark.png", view="per kWh", scheme="dark")
    assert dark.read_bytes().startswith(b"\x89PNG")
    figure = study.plot.frontier().figure()
    assert len(figure.data) >= 4


@pytest.mark.parametrize(
    ("ask", "error", "message"),
    [
        (lambda s, d: s.plot.frontier().save(d / "a.jpg"), ConfigError, ".png"),
        (lambda s, d: s.plot.frontier().save(d / "a.pdf", width_cm=1), ConfigError, "3 to 100"),
        (lambda s, d: s.plot.frontier().save(d / "no" / "a.pdf"), ConfigError, "folder"),
        (lambda s, d: s.plot.returns().save(d / "a.pdf", view="per kWk"), ConfigError, "per kWh"),
        (lambda s, d: s.plot.fronteer, AttributeError, "did you mean `frontier`"),
        (lambda s, d: s.plot.hyperparameters(), ScalingError, "nothing to draw"),
        (lambda s, d: s.frontier([]), ConfigError, "none"),
        (lambda s, d: s.frontier([1e20, -1]), ConfigError, "-1"),
        (lambda s, d: s.frontier(["a"]), ConfigError, "'a'"),
        (lambda s, d: s.marginal(per="joule"), ConfigError, "flops, kwh"),
        (lambda s, d: s.marginal(per="currency"), SiteError, "PRICE"),
        (lambda s, d: s.fit("chinchila"), ScalingError, "did you mean `chinchilla`"),
        (lambda s, d: s.of("adam"), DataError, "adam"),
        (lambda s, d: s.verify(1e23), ConfigError, "read from a table"),
        (lambda s, d: s.hyperparameters(), ScalingError, "name it"),
        (lambda s, d: ScalingStudy(s.points, confidence=1.5), ConfigError, "1.5"),
        (lambda s, d: ScalingStudy.from_csv(d / "no.csv", loss="l", params="n", tokens="d"),
         DataError, "no.csv"),
    ],
)  # fmt: skip
def test_bad_questions_are_refused_with_the_next_step(study, tmp_path, ask, error, message):
    with pytest.raises(error, match=re.escape(message)):
        ask(study, tmp_path)


def test_few_budgets_give_an_answer_without_an_interval_that_says_so():
    frame = surface(budgets=2, sizes=4, noise=0.002)
    small = ScalingStudy.from_frame(frame, **COLUMNS)
    small.fit(bootstrap=0)
    found = small.frontier()
    assert found.frame["loss_low"].isna().all()
    assert any("no prediction interval" in text for text in found.warnings)
    assert any("nothing could be held out" in text for text in small.analysis().warnings)


def test_a_wrong_form_is_warned_about():
    """A parabola over log C that no sum of powers follows."""
    frame = surface(noise=0.001)
    bent = frame["loss"] * np.exp(-0.05 * (np.log10(frame["flops"]) - 19.5) ** 2)
    wrong = ScalingStudy.from_frame(frame.assign(loss=bent), **COLUMNS)
    wrong.fit(bootstrap=0)
    assert any("its form does not fit" in text for text in warnings_of(wrong, None))


def test_several_recipes_are_studied_one_at_a_time():
    better = {**TRUTH, "B": 1600.0}
    frame = pd.concat(
        [surface(noise=0.002).assign(recipe="plain"),
         surface(better, noise=0.002, budgets=8).assign(recipe="better")]
    )  # fmt: skip
    study = ScalingStudy.from_frame(frame, **COLUMNS, by="recipe")
    assert study.recipes == ("plain", "better")
    assert study.recipe == "better"
    found = study.compare("plain", "better", bootstrap=40)
    assert found.low > 1.0
    assert found.speedup == pytest.approx(_speedup(better), rel=0.15)


def _speedup(better):
    """Return C_1 / C_2 at equal loss, from closed forms, at the middle of the range."""
    budgets = np.logspace(16, 23, 4001)
    loss = best_loss(3e19)
    reach = [np.interp(-loss, -best_loss(budgets, truth), budgets) for truth in (TRUTH, better)]
    return reach[0] / reach[1]
