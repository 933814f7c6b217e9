"""The lecture as data: every page, erratum and row is there, and what they name exists."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

from search_spaces.lecture import FOLDER
from service.lecture.errata import errata
from service.lecture.pages import page_of, pages, resolve
from service.lecture.rows import rows
from service.search.spec import SearchSpec
from trainers.config import valid_paths
from trainers.errors import ConfigError

ROOT = Path(__file__).parents[3]


@cache
def functions_of(path: str) -> frozenset[str]:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def missing(names: tuple[str, ...]) -> list[str]:
    found = []
    for name in names:
        path, _, test = name.partition("::")
        if not (ROOT / path).exists() or test not in functions_of(path):
            found.append(name)
    return found


def test_every_page_is_there_with_two_titles():
    assert [page.page for page in pages()] == list(range(1, 69))
    for page in pages():
        assert page.en
        assert page.about
        assert any("\u4e00" <= letter <= "\u9fff" for letter in page.zh) or page.page == 4


def test_what_a_page_runs_exists_and_its_specs_are_valid():
    running = [page for page in pages() if page.runs]
    assert len(running) >= 35
    for page in running:
        assert callable(resolve(page.draw or page.demo or ""))
        assert 0 < page.minutes < 2
        for column in ("lecture", "published", "ours"):
            assert any(getattr(claim, column) for claim in page.claims), (page.name, column)
        for name in page.specs:
            assert SearchSpec.from_yaml(FOLDER / name).plan()
    assert sum(page.minutes for page in running) < 40


def test_pages_that_do_not_run_are_refused_with_the_nearest_that_does():
    with pytest.raises(ConfigError, match="nearest page that runs is p4"):
        page_of("p3")
    for name in ("p0", "p69", "sixty", ""):
        with pytest.raises(ConfigError, match="a page is p1 to p68"):
            page_of(name)
    assert page_of("60") == page_of("P60") == page_of("p60")


def test_page_39_is_read_both_ways():
    fixed, drops = (SearchSpec.from_yaml(FOLDER / name) for name in page_of("p39").specs)
    assert {0.01, 0.001, 0.0001} <= set(fixed.to_mapping()["space"]["optimizer.lr"])
    assert fixed.base.schedule.kind == "constant"
    assert (drops.base.schedule.kind, drops.base.schedule.gamma) == ("step", 0.1)


def test_all_42_errata_are_there_and_the_tests_that_show_them_exist():
    assert [erratum.number for erratum in errata()] == list(range(1, 43))
    for erratum in errata():
        assert erratum.pages
        assert all(1 <= page <= 68 for page in erratum.pages)
        assert erratum.tests
        assert not missing(erratum.tests), erratum.number


def test_every_row_names_tests_that_exist():
    assert [row.number for row in rows()] == list(range(1, 100))
    for row in rows():
        assert row.pages
        assert all(1 <= page <= 68 for page in row.pages)
        assert (row.state == "implemented") == bool(row.tests), row.number
        assert not missing(row.tests), row.number
        for place in row.where:
            assert (ROOT / place).exists() or place in valid_paths(), (row.number, place)
