"""The folder a search leaves behind."""

import json
import re
import threading
from html.parser import HTMLParser

import pandas as pd
import pytest
from fake_search import FakeSite, accounts_of

from service.report import load_summary, write_outputs
from service.report.picture import save_picture
from service.search.spec import SearchSpec
from trainers.config import TrialConfig
from trainers.errors import ConfigError, LedgerError


def write(ledger, search_id, out):
    return write_outputs(
        ledger, search_id, out, accounts=accounts_of(ledger, search_id), site=FakeSite()
    )


def test_the_folder_holds_everything_and_the_summary_has_its_keys(done, tmp_path):
    out = write(done, "demo-1", tmp_path / "deep" / "out")
    names = {path.name for path in out.directory.iterdir()}
    assert names == {
        "summary.json", "trials.parquet", "trials.csv", "curves.parquet", "energy.parquet",
        "best.yaml", "report.html",
    }  # fmt: skip
    summary = load_summary(out.directory)
    assert set(summary) >= {
        "best", "trials", "recipe", "rounds", "energy_kwh", "energy_residual", "co2e_kg",
        "seconds", "versions",
    }  # fmt: skip
    assert set(summary["energy_kwh"]) == {
        "node", "own", "trials", "padding", "overhead", "idle", "others", "gap",
    }  # fmt: skip
    kwh = summary["energy_kwh"]
    parts = ("trials", "padding", "overhead", "idle", "others", "gap")
    assert sum(kwh[part] for part in parts) == pytest.approx(kwh["node"], rel=1e-9)
    assert summary["trials"] == {"complete": 67, "pruned": 16, "diverged": 1}
    assert summary["best"]["metrics"]["val_error"] == summary["best"]["interval"]["mean"]
    assert TrialConfig.model_validate(summary["best"]["config"])
    assert [v["step"] for v in summary["recipe"]] == [1, 2, 3, 4, 5, 6, 7]
    assert summary["rounds"][3]["reasons"][0]["path"] == "optimizer.lr"
    assert summary["verdict"] == out.verdict


def test_the_tables_are_the_ledgers(done, tmp_path):
    out = write(done, "demo-1", tmp_path / "out")
    trials, csv = pd.read_parquet(out.trials), pd.read_csv(out.directory / "trials.csv")
    assert len(trials) == len(csv) == len(done.trials("demo-1"))
    assert trials["active_kwh"].sum() == pytest.approx(accounts_of(done, "demo-1").trials_kwh)
    assert len(pd.read_parquet(out.curves)) == len(done.epoch_rows("demo-1"))


def test_best_yaml_runs_again_as_it_is(done, tmp_path):
    out = write(done, "demo-1", tmp_path / "out")
    spec = SearchSpec.from_yaml(out.best_yaml)
    winner = load_summary(out.directory)["best"]["config"]
    assert len(spec.space) == 0
    assert spec.base.full_mapping() == winner
    assert "optimizer" in out.best_yaml.read_text()


def test_the_winners_weights_are_copied_once(done, tmp_path):
    source = tmp_path / "elsewhere.pt"
    source.write_bytes(b"weights")
    event = done.events("demo-1", "winner")[-1].payload
    done.add_event("demo-1", "winner", {**event, "weights": str(source)})
    out = write(done, "demo-1", tmp_path / "out")
    assert out.weights.read_bytes() == b"weights"
    done.add_event("demo-1", "winner", {**event, "weights": str(out.weights)})
    assert write(done, "demo-1", tmp_path / "out").weights.read_bytes() == b"weights"


def test_writing_twice_gives_the_same_files_and_leaves_no_partial_ones(done, tmp_path):
    first = write(done, "demo-1", tmp_path / "out")
    before = {p.name: p.read_bytes() for p in first.directory.iterdir()}
    write(done, "demo-1", tmp_path / "out")
    assert {p.name: p.read_bytes() for p in first.directory.iterdir()} == before


def test_a_search_with_nothing_done_still_gets_a_report(ledger, fake, tmp_path):
    out = write(ledger, fake.id, tmp_path / "out")
    assert out.best_yaml is None
    assert "No trial has finished" in out.report.read_text()
    assert load_summary(out.directory)["best"] is None


def test_errors_say_what_to_do(done, tmp_path):
    with pytest.raises(LedgerError):
        write_outputs(done, "nothing-1", tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="--out"):
        write(done, "demo-1", tmp_path / "file" / "out")
    with pytest.raises(ConfigError, match="isoflop report"):
        load_summary(tmp_path)
    (tmp_path / "summary.json").write_text("[1")
    with pytest.raises(ConfigError, match="isoflop report"):
        load_summary(tmp_path)


class Page(HTMLParser):
    """Gathers what a page would fetch, and its text outside of scripts and styles."""

    def __init__(self):
        super().__init__()
        self.fetched, self.text, self.stack, self.json = [], [], [], []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.fetched += [values[k] for k in ("src", "href", "data", "action") if k in values]
        if tag not in ("meta", "br", "img"):
            self.stack.append((tag, values))

    def handle_endtag(self, tag):
        assert self.stack[-1][0] == tag, f"{tag} closes {self.stack[-1]}"
        self.stack.pop()

    def handle_data(self, data):
        tag, values = self.stack[-1] if self.stack else ("", {})
        if values.get("type") == "application/json":
            self.json.append(json.loads(data))
        elif tag not in ("script", "style"):
            self.text.append(data)


@pytest.fixture
def page(done, tmp_path):
    parser = Page()
    parser.feed(write(done, "demo-1", tmp_path / "out").report.read_text())
    assert parser.stack == []
    return parser


def test_the_page_fetches_nothing_and_forbids_to(done, tmp_path, page):
    assert page.fetched == []
    html = write(done, "demo-1", tmp_path / "out").report.read_text()
    assert "default-src 'none'" in html
    assert re.search(r"@import|url\(", html.split("</style>")[0]) is None


def test_the_first_screen_answers_and_keeps_inside_words_out(page):
    text = " ".join(" ".join(page.text).split())
    first = text.split("How the search closed in")[0]
    for part in ("below baseline", "within noise", "the test set was looked at once",
                 "optimizer: kind: adam", "Energy", "nothing measured", "CO₂e", "Best alone",
                 "saved", "Accounts close yes", "initial loss: good", "isoflop extend demo-1",
                 "Expected gain:", "Expected cost:"):  # fmt: skip
        assert part in first, part
    for word in ("lane", "pack", "segment", "rung", "window", "padding"):
        assert re.search(rf"\b{word}", first, re.IGNORECASE) is None, word


def test_charts_come_in_order_each_with_a_table(page):
    text = " ".join(page.text)
    titles = [
        "How the search closed in",
        "Learning curves",
        "What good configurations",
        "How the space was narrowed",
        "What mattered",
        "Error against energy",
        "Where the energy went",
        "Which learning rates",
        "The recipe, step by step",
    ]
    places = [text.index(title) for title in titles]
    assert places == sorted(places)
    assert text.count("The numbers") == 9
    figures = [figure for block in page.json if isinstance(block, list) for figure in block]
    assert all(set(figure) == {"data", "layout"} for figure in figures)


def test_hostile_text_stays_text(ledger, fake, tmp_path):
    evil = "</script><img src=x onerror=alert(1)>"
    fake.build()
    ledger.add_event(fake.id, "warning", {"text": evil})
    ledger.update_search(fake.id, project=evil)
    html = write(ledger, fake.id, tmp_path / "out").report.read_text()
    assert "<img" not in html.replace("&lt;img", "")[: html.index("plotly.js")]


def test_a_picture_is_drawn_without_a_browser(facts, tmp_path):
    png = save_picture(facts, tmp_path / "report.png", scheme="dark")
    assert png.read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in save_picture(facts, tmp_path / "report.svg").read_bytes()


def test_a_reader_never_meets_half_a_file(done, tmp_path):
    out = write(done, "demo-1", tmp_path / "out")
    stop, broken = threading.Event(), []

    def read():
        while not stop.is_set():
            try:
                load_summary(out.directory)
            except ConfigError as error:
                broken.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    write(done, "demo-1", tmp_path / "out")
    stop.set()
    reader.join()
    assert broken == []
