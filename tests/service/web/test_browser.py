"""The dashboard as people use it: a real service, a real Ray head, a real search, Chromium."""

import pandas as pd
import pytest
from browser_visit import browsing, chromium, screenshots_folder
from study_in_ledger import best

pytestmark = pytest.mark.skipif(chromium() is None, reason="Chromium is not installed")
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
def visitor(real_service, tmp_path_factory):
    with browsing(real_service[0], screenshots_folder(tmp_path_factory)) as visitor:
        yield visitor


@pytest.fixture(scope="module")
def ada(visitor, real_service):
    """Ada's window, through the whole story."""
    visit = visitor()
    visit.sign_in(real_service[1]["ada"])
    return visit


def assert_clean(visit):
    assert visit.elsewhere == []
    assert visit.errors == []


def test_a_wrong_token_opens_nothing(visitor):
    visit = visitor()
    page = visit.open("/submit")
    page.fill("#token", "iso_wrong_token")
    page.keyboard.press("Enter")
    visit.until("it is refused", lambda: "unknown, expired or revoked" in page.inner_text("main"))
    assert not page.is_visible("nav")
    assert visit.elsewhere == []


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
    page.click("[aria-label='Stop trial 1']")
    ada.until("the answer is shown", lambda: "trial 1 stops" in page.inner_text("#status"))
    row = "#trials-table tr:has(a[href$='/trials/1'])"
    ada.until("it has stopped", lambda: "stopped by ada" in page.inner_text(row))
    assert page.is_visible("[aria-label='Stop trial 0']")
    ada.picture("search-running")
    assert_clean(ada)


def test_stop_the_job_and_resume_it(ada):
    page = ada.page
    page.click("[data-act=stop]")
    ada.until("it can be resumed", lambda: page.is_visible("[data-act=resume]"))
    ada.until("it has stopped", lambda: page.inner_text("#state") in ("stopped", "interrupted"))
    before = ada.number("#curves", "data-points")
    assert not page.is_visible("[aria-label='Stop trial 0']")
    ada.picture("search-stopped")
    page.click("[data-act=resume]")
    ada.until("it runs again", lambda: page.inner_text("#state") == "running")
    ada.until("it goes on", lambda: ada.number("#curves", "data-points") > before)
    page.click("[data-act=stop]")
    ada.until("it can be resumed", lambda: page.is_visible("[data-act=resume]"))
    assert_clean(ada)


def test_one_filter_acts_on_everything_and_lives_in_the_address(ada):
    page = ada.open("/searches/small-1")
    num_curves = "document.getElementById('curves').data?.length"
    ada.until("all are shown", lambda: page.inner_text("#matched") == "60 trials")
    ada.until("all are drawn", lambda: page.evaluate(num_curves) == 60)
    page.fill("[name=where]", "state=complete ; metrics.val_error<=0.1")
    page.keyboard.press("Enter")
    for again in (False, True):
        if again:
            page.reload()
        ada.until("some are shown", lambda: page.inner_text("#matched") == "33 trials")
        ada.until("some are drawn", lambda: page.evaluate(num_curves) == 33)
        badges = page.locator("#trials-table .state").all_inner_texts()
        assert badges == ["complete"] * 33
        rows = page.locator("#history table tbody tr, #slices table tbody tr").count()
        assert 0 < rows <= 2 * 33
        assert page.url.endswith("?where=state%3Dcomplete&where=metrics.val_error%3C%3D0.1")
    ada.picture("search-filtered")
    page.click("#clear")
    ada.until("all are shown again", lambda: page.inner_text("#matched") == "60 trials")
    assert "?" not in page.url
    assert_clean(ada)


def test_trials_are_sorted_and_paged_by_the_server(ada):
    page = ada.open("/searches/small-1")
    first = "#trials-table tbody tr:first-child td:first-child"
    ada.until("the last trial is first", lambda: page.inner_text(first) == "59")
    page.click("#trials-table th button:text-is('val_error')")
    ada.until("the worst is last", lambda: page.get_attribute("th[aria-sort]", "aria-sort"))
    page.click("#trials-table th button:text-is('trial')")
    ada.until("the first is first", lambda: page.inner_text(first) == "0")
    page.click("#next-page")
    ada.until("the next page", lambda: page.inner_text(first) == "50")
    page.click("#first-page")
    ada.until("the first page", lambda: page.inner_text(first) == "0")
    assert_clean(ada)


@pytest.mark.parametrize(("kind", "read"), [("CSV", pd.read_csv), ("Parquet", pd.read_parquet)])
def test_tables_are_downloaded(ada, tmp_path, kind, read):
    page = ada.open("/searches/small-1")
    with page.expect_download() as started:
        page.click(f"#links a:text-is('{kind}')")
    path = tmp_path / started.value.suggested_filename
    started.value.save_as(path)
    frame = read(path)
    assert path.name == f"small-1-trials.{kind.lower()}"
    assert list(frame["trial_id"]) == list(range(60))
    assert frame["val_error"].min() == pytest.approx(0.5 - 59 / 40)
    assert_clean(ada)


def test_compare_two_searches(ada):
    page = ada.open("/")
    for name in ("small-1", "story-1"):
        page.check(f"[aria-label='Compare {name}']")
    page.click("text=Compare the chosen")
    ada.until("the picture is drawn", lambda: page.get_attribute("#history", "data-drawn"))
    assert page.locator("main table").first.locator("tbody tr").count() == 2
    assert "train.epochs" in page.inner_text("main")
    ada.picture("compare")
    assert_clean(ada)


def test_a_study_predicts_for_the_budget_on_its_slider(ada):
    page = ada.open("/studies/law-1")
    shown = "#prediction [data-key=loss]"
    ada.until("a loss is predicted", lambda: page.inner_text(shown) not in ("", "–"))
    for exponent in (11.0, 12.0):
        page.fill("#budget", str(exponent))
        expected = pytest.approx(best(10**exponent)[2], rel=0.02)
        ada.until("it follows the law", lambda e=expected: float(page.inner_text(shown)) == e)
    ada.picture("study")
    assert_clean(ada)


def test_a_viewer_looks_and_changes_nothing(visitor, real_service):
    visit = visitor()
    visit.sign_in(real_service[1]["bob"], "/searches/small-1")
    visit.until_drawn()
    assert visit.page.locator("[data-act], [aria-label^='Stop trial']").count() == 0
    assert "you may look, not submit" in visit.open("/submit").inner_text("main")
    assert_clean(visit)


def test_sign_out(ada):
    page = ada.open("/")
    page.click("text=Sign out")
    page.wait_for_url("**/sign-in")
    page.go_back()
    assert "story-1" not in ada.open("/jobs").inner_text("body")
    assert page.url.endswith("/sign-in?next=/jobs")
    assert_clean(ada)
