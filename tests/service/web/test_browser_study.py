"""The study page in Chromium, while a study with a known law gets its points."""

import json
import time
from urllib.parse import parse_qs, urlparse

import pytest
from browser_visit import PHONE, browsing, chromium, screenshots_folder
from loopback import listening
from study_in_ledger import BUDGETS, add_points, add_study, best, finished_study

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


def view_of(recipe: str) -> dict[str, object]:
    """Return what the API says of a study of two recipes."""
    return {
        "state": "finished", "num_points": 25, "recipes": ["adamw", "muon"], "recipe": recipe,
        "sentence": f"10x compute with {recipe}", "why_no_law": "", "exponents": [], "trust": [],
        "warnings": [f"the answers are of the recipe `{recipe}`"], "energy": "",
        "fitted_unix_s": 1e9, "is_latest": True, "smallest_flops": 1e9, "largest_flops": 1e11,
    }  # fmt: skip


def test_the_recipe_picker_chooses_for_sentence_and_slider(empty, tmp_path_factory):
    """Two recipes chosen one after the other, the first answer slow: the last choice stays."""
    study_id = finished_study(empty.ledger, owner=None)
    asked, slow = [], []

    def answer(route):
        address = urlparse(route.request.url)
        recipe = parse_qs(address.query).get("recipe", ["adamw"])[0]
        kind = address.path.rsplit("/", 1)[-1]
        asked.append((kind, recipe))
        if kind == "charts":
            body = {"charts": [], "num_points": 25}
        elif kind == "predict":
            budget = float(parse_qs(address.query)["flops"][0])
            body = {
                "flops": budget, "loss": 1.5 if recipe == "muon" else 2.5, "metric": "val_loss",
                "params": 1e6, "tokens": 1e7, "kwh": 0.25, "kgco2e": 0.095, "warnings": [],
                "interval": "90 % prediction interval",
                **{f"{name}_{end}": None for name in ("loss", "params", "tokens")
                   for end in ("low", "high")},
            }  # fmt: skip
        elif slow:
            time.sleep(slow.pop())
            body = view_of(recipe)
        else:
            body = view_of(recipe)
        route.fulfill(status=200, content_type="application/json", body=json.dumps(body))

    with (
        listening(empty.app) as address,
        browsing(address, screenshots_folder(tmp_path_factory)) as visitor,
    ):
        visit = visitor()
        page = visit.page
        for path in ("", "/charts", "/predict"):
            page.route(
                lambda url, path=path: urlparse(url).path == f"/api/v1/studies/{study_id}{path}",
                answer,
            )
        page = visit.open(f"/studies/{study_id}")
        says = lambda: page.inner_text("#sentence")  # noqa: E731
        predicted = lambda: page.inner_text("#prediction")  # noqa: E731
        visit.until("the first recipe is shown", lambda: says() == "10x compute with adamw")
        visit.until("the slider asks for it", lambda: "2.5" in predicted())
        assert "0.25 kWh" in predicted()
        assert "95 g" in predicted()
        assert "`" not in page.inner_text("#warnings")

        page.select_option("#recipe", "muon")
        visit.until("the other is shown", lambda: says() == "10x compute with muon")
        visit.until("the slider follows", lambda: "1.5" in predicted())
        assert page.input_value("#recipe") == "muon"

        slow.append(0.3)
        page.evaluate(
            """() => { for (const name of ["adamw", "muon"]) {
                 const picker = document.getElementById("recipe");
                 picker.value = name; picker.dispatchEvent(new Event("change")); } }"""
        )
        visit.until(
            "the last choice is asked for at once",
            lambda: (
                [recipe for kind, recipe in asked if kind == study_id][-2:] == ["adamw", "muon"]
            ),
        )
        visit.until("and shown", lambda: "From 25 points of muon" in page.inner_text("#of-points"))
        assert (says(), page.input_value("#recipe")) == ("10x compute with muon", "muon")
        visit.picture("study-recipes")
        assert visit.errors == visit.elsewhere == []
