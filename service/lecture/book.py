"""All pages that run, as one HTML file that needs nothing beside it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from service.lecture.errata import errata
from service.lecture.pages import Page, pages
from service.lecture.rendering import render, section, write_page
from service.lecture.running import run_page
from service.report.numbers import energy
from service.search.display import Display

BOOK_NAME = "lecture.html"


def run_book(
    out: Path, display: Display | None = None, chosen: Sequence[Page] | None = None
) -> Path:
    """Run every page, write its files, and bind all of them into one book.

    Args:
        out: folder of the book, the pages' files and their ledger.
        display: who watches; None: nobody.
        chosen: pages to run; None: all that run. The others stand in the book as text.

    """
    began_s = time.monotonic()
    running = {page.page: page for page in (chosen if chosen is not None else pages()) if page.runs}
    sections: dict[int, str] = {}
    costs_kwh = 0.0
    for number, page in running.items():
        if display is not None:
            display.note(f"page {number}: {page.en} (about {page.minutes:g} min)")
        outcome = run_page(page, out)
        costs_kwh += outcome.default.energy_kwh
        write_page(outcome, out)
        sections[number] = section(outcome)
    body = render(
        "book.html",
        pages=pages(),
        sections=sections,
        errata=errata(),
        seconds=time.monotonic() - began_s,
        energy=energy(costs_kwh),
    )
    book = out / BOOK_NAME
    book.write_text(
        render("page.html", title="Deep neural networks, run again", body=body), "utf-8"
    )
    return book
