"""Every page, for every eye and hand: both schemes, a phone, a keyboard, a screen reader."""

from itertools import pairwise

import pytest
from browser_visit import DESK, PHONE, browsing, chromium, screenshots_folder
from odd_searches import MARKUP

pytestmark = pytest.mark.skipif(chromium() is None, reason="Chromium is not installed")
PAGES = {
    "overview": "/",
    "studies": "/studies",
    "submit": "/submit",
    "jobs": "/jobs",
    "cluster": "/cluster",
    "energy": "/energy",
    "search": "/searches/small-1",
    "study": "/studies/law-1",
    "trial": "/searches/small-1/trials/3",
    "compare": "/compare?id=small-1&id=hostile-1",
    "compare-nothing": "/compare",
    "reference": "/api/v1/docs",
}
NAMELESS = """() => [...document.querySelectorAll(
  'a[href], button, input:not([type=hidden]), select, textarea, summary')].filter((e) =>
    !(e.getAttribute('aria-label') || e.innerText?.trim() || e.labels?.[0]?.innerText.trim()
      || e.textContent.trim())).map((e) => e.outerHTML)"""
HEADINGS = "() => [...document.querySelectorAll('h1,h2,h3,h4')].map((h) => Number(h.tagName[1]))"
CONTROLS = """() => [...document.querySelectorAll(
  'main a[href], main button, main input, main select, main textarea, main summary, header a')]
  .filter((e) => e.type !== 'hidden' && !e.disabled && e.checkVisibility()).length"""
FOCUSED = """() => { const e = document.activeElement;
  if (e === document.body || e.dataset.reached) return false;
  e.dataset.reached = 'yes'; return e.matches('main *, header *'); }"""
BRIGHTNESS = """() => getComputedStyle(document.body).backgroundColor.match(/\\d+/g)
  .slice(0, 3).map(Number).reduce((sum, part) => sum + part)"""


@pytest.fixture(scope="module")
def visitor(real_service, tmp_path_factory):
    with browsing(real_service[0], screenshots_folder(tmp_path_factory)) as visitor:
        yield visitor


@pytest.mark.parametrize(
    ("scheme", "size"), [("light", PHONE), pytest.param("dark", DESK, marks=pytest.mark.long)]
)
def test_every_page_fits_its_window_and_scheme(visitor, real_service, scheme, size):
    """With a name for each control, headings in order, no error, and nothing from elsewhere."""
    visit = visitor(viewport=size, color_scheme=scheme)
    assert (visit.open("/sign-in").evaluate(BRIGHTNESS) < 200) == (scheme == "dark")
    pages = {"sign-in": "/sign-in", **PAGES}
    overflow = {}
    for name, path in pages.items():
        if name == "overview":
            visit.sign_in(real_service[1]["ada"])
        page = visit.open(path)
        visit.until_drawn()
        visit.picture(f"{name}-{scheme}-{size['width']}")
        overflow[name] = visit.overflow_px()
        assert page.evaluate(NAMELESS) == [], name
        levels = page.evaluate(HEADINGS)
        assert levels[0] == 1, name
        assert levels.count(1) == 1, name
        assert all(b - a <= 1 for a, b in pairwise(levels)), name
    assert overflow == dict.fromkeys(pages, 0)
    assert visit.errors == []
    assert visit.elsewhere == []


def test_the_keyboard_reaches_every_control(visitor, real_service):
    visit = visitor()
    visit.sign_in(real_service[1]["ada"])
    for name in ("overview", "submit", "search"):
        page = visit.open(PAGES[name])
        visit.until_drawn()
        wanted = page.evaluate(CONTROLS)
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        reached = 0
        for _ in range(wanted + 20):
            page.keyboard.press("Tab")
            reached += page.evaluate(FOCUSED)
        assert reached >= wanted, name
    assert visit.errors == []


def test_hostile_and_odd_searches_are_shown_as_text(visitor, real_service):
    _, tokens, odd = real_service
    visit = visitor(viewport=PHONE)
    visit.sign_in(tokens["ada"])
    paths = ["/", "/jobs", "/jobs/j-hostile", "/energy", f"/compare?id={odd[0]}&id={odd[1]}"]
    paths += [f"/searches/{search}" for search in odd]
    paths += [f"/searches/{odd[0]}/trials/{trial}" for trial in (0, 1)]
    overflow = {}
    for path in paths:
        page = visit.open(path)
        visit.until_drawn()
        assert page.evaluate("typeof window.hacked") == "undefined", path
        assert page.locator("img[src='/hacked']").count() == 0, path
        overflow[path] = visit.overflow_px()
        visit.picture(f"odd-{paths.index(path)}")
    assert overflow == dict.fromkeys(paths, 0)
    assert MARKUP in visit.open(f"/searches/{odd[0]}").inner_text("main")
    assert visit.errors == []
    assert visit.elsewhere == []


def test_a_page_that_is_not_there_says_so(visitor, real_service):
    visit = visitor()
    visit.sign_in(real_service[1]["ada"])
    for path in ("/searches/nothing-1", "/searches/small-1/trials/999", "/nowhere", "/jobs/j-%00"):
        text = visit.open(path).inner_text("main")
        assert "There is no such thing" in text or "breaks a rule" in text, path
