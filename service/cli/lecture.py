"""`isoflop lecture`: the course's figures and tables, run again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.options import JsonOption, emit

if TYPE_CHECKING:
    from service.lecture.long_run import Recorded
    from service.lecture.pages import Page
    from service.search.display import Display

OutOption = Annotated[Path, typer.Option("--out", help="Folder for pictures, tables and HTML.")]
DEFAULT_OUT = Path("runs/lecture")


def list_(as_json: JsonOption = False) -> None:
    """List every page: titles, what runs it, and about how many minutes it takes."""
    from rich.table import Table

    from service.lecture.pages import pages

    table = Table()
    for name in ("page", "题目", "title", "runs", "min"):
        table.add_column(name, overflow="fold")  # a title or a runner cut short says little
    rows = []
    for page in pages():
        row = {
            "page": page.name, "zh": page.zh, "en": page.en, "runs": page.runner,
            "minutes": page.minutes if page.runs else None,
        }  # fmt: skip
        rows.append(row)
        minutes = f"{page.minutes:g}" if page.runs else ""
        runner = page.runner.removeprefix("service.lecture.") or "text"
        table.add_row(page.name, page.zh, page.en, runner, minutes)
    emit(as_json, rows, table)


def run(
    page: Annotated[str | None, typer.Argument(help="A page, e.g. p60.")] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change a value: --set optimizer.lr=3 (repeatable)."),
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="Every page, bound into one book.")] = False,
    long_: Annotated[
        bool,
        typer.Option(
            "--long", help="The page's table on real data: twenty minutes of a free core (p34)."
        ),
    ] = False,
    out: OutOption = DEFAULT_OUT,
    as_json: JsonOption = False,
) -> None:
    """Make a page's picture and numbers again, or all pages as one HTML book.

    Example: isoflop lecture run p60 --set optimizer.lr=3
    """
    from trainers.errors import ConfigError

    if all_ == (page is not None):
        raise ConfigError("name one page (e.g. `p60`) or give --all, not both and not neither")
    if all_ and overrides:
        raise ConfigError("`--set` changes one page; name it instead of --all")
    if long_ and (all_ or overrides):
        raise ConfigError("`--long` runs one page's table as it stands; leave out --set and --all")
    from service.search.display import Silent

    display: Display = Silent() if as_json else _Lines()
    if page is None:
        from service.lecture.book import run_book

        book = run_book(out, display)
        emit(as_json, {"book": str(book)}, f"book: {book}")
        return
    from service.lecture.pages import page_of

    if long_:
        _run_long(page_of(page), out, display, as_json)
        return
    from service.lecture.long_run import recorded_table
    from service.lecture.rendering import summary, write_page
    from service.lecture.running import DIFFERS, comparison, run_page
    from service.report.numbers import energy

    outcome = run_page(page_of(page), out, overrides or [])
    html = write_page(outcome, out)
    rows = comparison(outcome)
    facts = summary(outcome)
    if as_json:
        emit(True, {**facts, "comparison": rows, "html": str(html)})
        return
    from rich.table import Table

    table = Table(title=f"page {outcome.page.page}: {outcome.page.zh} · {outcome.page.en}")
    shown = [name for name in (rows[0] if rows else {}) if name != DIFFERS]
    for name in shown:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(row[name] for name in shown))
    emit(False, None, table)
    for note in dict.fromkeys(row[DIFFERS] for row in rows if row[DIFFERS]):
        typer.echo(f"the task differs: {note}")
    typer.echo(
        f"{facts['seconds']:.1f} s, {energy(float(str(facts['energy_kwh'])))} "
        f"({outcome.energy_method})\npage: {html}\npicture: {html.with_suffix('.png')}\n"
        f"numbers: {html.with_suffix('.csv')}"
    )
    recorded = recorded_table(outcome.page)
    if recorded is not None:
        _show_recorded(recorded, "recorded long run", html)


def _run_long(page: Page, out: Path, display: Display, as_json: bool) -> None:
    """Run a page's table on real data; arms that `out` has are taken from there."""
    from service.lecture.long_run import LongRun, write_recorded

    recorded = LongRun(page).run(out, display)
    path = out / f"{page.name}-results.yaml"
    write_recorded(recorded, path)
    if as_json:
        emit(True, {**recorded.model_dump(mode="json"), "table": str(path)})
        return
    _show_recorded(recorded, f"page {page.page} on real data", path)


def _show_recorded(recorded: Recorded, title: str, rest: Path) -> None:
    """Print a table on real data as far as a terminal is wide, and where it was made."""
    from rich.table import Table

    from service.lecture.long_run import table_of

    rows = table_of(recorded)
    shown = ("method", "column", "published test error", "ours", "95 % interval over seeds")
    table = Table(*shown, title=title)
    for row in rows:
        table.add_row(*(row[name] for name in shown))
    emit(False, None, table)
    typer.echo(
        f"{recorded.differs}\n{recorded.date}, {recorded.machine}: {recorded.command}\n"
        f"rates, cosines with backprop, energy and minutes of every arm: {rest}"
    )


def errata(as_json: JsonOption = False) -> None:
    """Print where the lecture errs: page, what is printed, what is right, and what shows it."""
    from rich.table import Table

    from service.lecture.errata import errata as listed

    table = Table(show_lines=True)
    for name in ("E", "page", "printed", "right", "shown by"):
        table.add_column(name, overflow="fold")  # a test's name cut short names no test
    for erratum in listed():
        shown_by = "\n".join((*erratum.tests, *([erratum.source] if erratum.source else [])))
        pages = ", ".join(str(page) for page in erratum.pages)
        table.add_row(str(erratum.number), pages, erratum.printed, erratum.right, shown_by)
    emit(as_json, [erratum.model_dump(mode="json") for erratum in listed()], table)


class _Lines:
    """Prints a page's notes as they come."""

    def note(self, text: str) -> None:
        typer.echo(text)

    def epochs(self, rows: object) -> None:
        """Stay quiet: a page takes seconds."""

    def tick(self, context: object) -> None:
        """Stay quiet: a page takes seconds."""
