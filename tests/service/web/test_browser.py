"""The dashboard as people use it: a real service, a real Ray head, a real search, Chromium."""

import os
from pathlib import Path

import pytest
from browser_visit import browsing, chromium, serving
from conftest import finished_search

from service.ledger import Ledger

pytestmark = pytest.mark.skipif(chromium() is None, reason="Chromium is not installed")
SCREENSHOTS = os.environ.get("ISOFLOP_SCREENSHOTS")
SPEC = """\
kind: search
name: story
project: vision/plates
data: {name: digits, num_train: 200}
model: {kind: mlp, depth: 1, width: 16}
train: {epochs: 4000, batch_size: 100}
space:
  optimizer.lr: {log_uniform: [1e-3, 1e-1]}
rounds: [{sampler: sobol, trials: 4}]
finalists: {trials: 0}
recipe: {checks: false}
resources: {max_workers: 1, save_every_epochs: 20}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("service")


@pytest.fixture(scope="module")
def tokens(folder):
    """Two people, and a search that finished before they came."""
    with Ledger.open(folder / "isoflop.db") as ledger:
        ledger.create_user("ada", "submitter")
        ledger.create_user("bob", "viewer", projects=["vision/*"])
        finished_search(ledger, folder, num_trials=60)
        return {user: ledger.add_token(user)[1] for user in ("ada", "bob")}


@pytest.fixture(scope="module")
def visitor(folder, tokens):
    screenshots = Path(SCREENSHOTS) if SCREENSHOTS else folder / "screenshots"
    screenshots.mkdir(parents=True, exist_ok=True)
    with serving(folder) as address, browsing(address, screenshots) as visitor:
        yield visitor


@pytest.fixture(scope="module")
def ada(visitor, tokens):
    """Ada's window, through the whole story."""
    visit = visitor()
    visit.sign_in(tokens["ada"])
    return visit


def assert_clean(visit):
    assert visit.elsewhere == []
    assert visit.errors == []


def test_submit_a_spec_and_see_its_fault_first(ada):
    page = ada.open("/submit")
    page.fill("#spec", SPEC.replace("epochs: 4000", "epoch: 4000"))
    ada.until("the fault is shown", lambda: "epoch" in page.inner_text("#faults"))
    assert "line 6" in page.inner_text("#faults")
    assert page.is_disabled("#start")
    ada.picture("submit-fault")
    page.fill("#spec", SPEC)
    ada.until("the spec is valid", lambda: not page.is_disabled("#start"))
    assert page.inner_text("#faults") == ""
    page.click("#start")
    page.wait_for_url("**/searches/story-1")
    assert_clean(ada)


def test_watch_the_curves_grow_and_stop_a_trial(ada):
    page = ada.page
    first = ada.until("curves appear", lambda: ada.number("#curves", "data-points"))
    ada.until("curves grow", lambda: ada.number("#curves", "data-points") > first)
    page.click("[aria-label='Stop trial 2']")
    ada.until("the answer is shown", lambda: "trial 2 stops" in page.inner_text("#status"))
    ada.until(
        "it has stopped", lambda: "stopped" in page.inner_text("tr:has(a[href$='/trials/2'])")
    )
    assert page.is_visible("[aria-label='Stop trial 1']")
    ada.picture("search-running")
    assert_clean(ada)


def test_stop_the_job_and_resume_it(ada):
    page = ada.page
    before = ada.number("#curves", "data-points")
    page.click("[data-act=stop]")
    ada.until("it can be resumed", lambda: page.is_visible("[data-act=resume]"))
    ada.until("it is interrupted", lambda: page.inner_text("#state") in ("stopped", "interrupted"))
    ada.picture("search-stopped")
    page.click("[data-act=resume]")
    ada.until("it runs again", lambda: page.inner_text("#state") == "running")
    ada.until("it goes on", lambda: ada.number("#curves", "data-points") > before)
    page.click("[data-act=stop]")
    ada.until("it can be resumed", lambda: page.is_visible("[data-act=resume]"))
    assert_clean(ada)
