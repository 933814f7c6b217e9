"""The study page in Chromium, while a study with a known law gets its points."""

import pytest
from browser_visit import PHONE, browsing, chromium, screenshots_folder
from loopback import listening
from study_in_ledger import BUDGETS, add_points, add_study, best

pytestmark = pytest.mark.skipif(chromium() is None, reason="Chromium is not installed")
MOVE = "(input, value) => { input.value = value; input.dispatchEvent(new Event('input')); }"


def test_a_study_grows_is_fitted_and_answers_the_slider(empty, tmp_path_factory, monkeypatch):
    ledger, board = empty.ledger, empty.app.state.services.studies
    monkeypatch.setattr(board, "_refit_every_s", 0.0)
    study_id = add_study(ledger, owner=None)
    with (
        listening(empty.app) as address,
        browsing(address, screenshots_folder(tmp_path_factory)) as visitor,
    ):
        visit = visitor()
        page = visit.open(f"/studies/{study_id}")
        says = lambda: page.inner_text("#sentence")  # noqa: E731
        visit.until("it says that it is empty", lambda: "No point has been trained" in says())
        assert not page.is_visible("#ask")

        add_points(ledger, study_id, BUDGETS[:1], num_sizes=3)
        visit.until("it says what is missing", lambda: "No law yet: " in says())
        visit.until("points are shown", lambda: page.is_visible("section#points-so-far .plot"))
        visit.picture("study-few-points")

        add_points(ledger, study_id, BUDGETS[1:])
        ledger.update_search(study_id, state="finished", finished_unix_s=1e9)
        visit.until("the law is there", lambda: "10x compute" in says())
        visit.until("it has finished", lambda: page.inner_text("#state") == "finished")
        asked = lambda: page.inner_text("#prediction")  # noqa: E731
        page.eval_on_selector("#budget", MOVE, 10)
        loss = f"{best(1e10)[2]:.3f}"
        visit.until("the closed form's loss is shown", lambda: loss in asked())
        assert "prediction interval" in asked()
        assert not page.is_visible("#prediction-warnings")
        page.eval_on_selector("#budget", MOVE, 13)
        visit.until("far is warned about", lambda: page.is_visible("#prediction-warnings"))
        assert page.locator("#first-charts h2").all_inner_texts() == [
            "Loss of the best model over compute", "IsoFLOP curves", "Diminishing returns",
        ]  # fmt: skip
        page.click("section#frontier summary")
        assert page.locator("section#frontier tbody tr").count() > 10
        visit.picture("study-finished")
        with page.expect_download() as download:
            page.click("text=CSV")
        assert download.value.suggested_filename == f"{study_id}-points.csv"

        phone = visitor(viewport=PHONE, color_scheme="dark")
        phone.open(f"/studies/{study_id}")
        phone.until("it answers", lambda: "10x compute" in phone.page.inner_text("#sentence"))
        phone.picture("study-phone")
        assert phone.overflow_px() == 0
        assert visit.errors == visit.elsewhere == phone.errors == phone.elsewhere == []
