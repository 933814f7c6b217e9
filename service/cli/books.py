"""`isoflop energy` and `isoflop factors`: where energy went, and what it emitted."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from service.cli.options import DEFAULT_LEDGER, JsonOption, LedgerOption, emit, open_ledger
from trainers.errors import ConfigError

if TYPE_CHECKING:
    from rich.table import Table

    from service.energy.books import Statement
    from service.ledger import Ledger
    from service.ledger.book_records import Basis

DayOption = Annotated[str | None, typer.Option(help="A day (2026-11-24) or month (2026-11), UTC.")]
BasisArgument = Annotated[str, typer.Argument(help="location, market (gCO2e/kWh) or pue.")]
SiteArgument = Annotated[str, typer.Argument(help="Name of the site, e.g. fra1.")]
SHOWN = {
    "kwh": "kWh",
    "kwh_failed": "failed",
    "kwh_pruned": "pruned",
    "kwh_wasted": "done again",
    "measured_share": "measured",
    "kwh_with_pue": "with PUE",
    "kgco2e_location": "kgCO2e location",
    "kgco2e_market": "kgCO2e market",
    "gap_hours": "gap h",
}


def energy(
    search_id: Annotated[
        str | None, typer.Argument(help="One search; without it, a statement over all.")
    ] = None,
    from_: Annotated[
        str | None, typer.Option("--from", help="First day (2026-11-01) or month (2026-11), UTC.")
    ] = None,
    to: Annotated[
        str | None, typer.Option("--to", help="First day or month that is not included.")
    ] = None,
    by: Annotated[
        str, typer.Option(help="project, owner, month, site, search, kind; with commas.")
    ] = "project,month",
    publish: Annotated[
        str | None, typer.Option(help="Freeze it under this name, with factors and a hash.")
    ] = None,
    reason: Annotated[str, typer.Option(help="Why an edition corrects the one before.")] = "",
    statement: Annotated[
        str | None, typer.Option(help="Show a published statement; NAME or NAME:EDITION.")
    ] = None,
    format: Annotated[
        str | None, typer.Option(help="Write csv, json or boamps (BoAmps report) to --out.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="File to write. Default: the terminal")] = None,
    method: Annotated[bool, typer.Option("--method", help="Print how it is made.")] = False,
    ledger: LedgerOption = DEFAULT_LEDGER,
    as_json: JsonOption = False,
) -> None:
    """Show where energy went: of one search, or of everybody's between two days.

    Example: isoflop energy --from 2026-10 --to 2026-11 --by project,owner --publish 2026-10
    """
    if method:
        from service.energy.books.formats import method_text

        typer.echo(method_text())
        return
    with open_ledger(ledger) as opened:
        if search_id is not None:
            _of_search(opened, search_id, as_json)
        elif statement is not None:
            _published(opened, statement, as_json)
        else:
            made = _made(opened, from_, to, by)
            if publish is not None:
                _publish(opened, made, publish, reason, as_json)
            elif format is not None:
                _write(made, format, out)
            else:
                emit(as_json, made.to_mapping(), _table(made.to_mapping()))


def add_factor(
    site: SiteArgument,
    basis: BasisArgument,
    value: Annotated[float, typer.Argument(help="The factor.")],
    from_: Annotated[str, typer.Option("--from", help="Valid from this day or month on (UTC).")],
    source: Annotated[str, typer.Option(help="Who says so.")],
    to: DayOption = None,
    hosts: Annotated[str, typer.Option(help="Pattern of the site's host names.")] = "*",
    evidence: Annotated[str, typer.Option(help="Where it can be looked up.")] = "",
    ledger: LedgerOption = DEFAULT_LEDGER,
) -> None:
    """Add a dated factor; published statements keep theirs.

    Example: isoflop factors add fra1 location 56 --from 2026-01 --source "RTE 2025" --hosts "gpu-*"
    """
    from service.ledger.book_records import Factor, unix_s_of

    factor = Factor(
        site=site,
        basis=cast("Basis", basis),  # the record itself refuses another
        value=value,
        hosts=hosts,
        valid_from_unix_s=unix_s_of(from_),
        valid_to_unix_s=None if to is None else unix_s_of(to),
        source=source,
        evidence=evidence,
    )
    with open_ledger(ledger) as opened:
        opened.add_factor(factor)
    typer.echo(f"{site}: {basis} {value:g} from {from_}")


def end_factor(
    site: SiteArgument,
    basis: BasisArgument,
    day: Annotated[str, typer.Argument(help="First day on which it is not valid any more.")],
    ledger: LedgerOption = DEFAULT_LEDGER,
) -> None:
    """End the factor that is valid until further notice, so that another can follow."""
    from service.ledger.book_records import unix_s_of

    with open_ledger(ledger) as opened:
        opened.end_factor(site, basis, unix_s_of(day))
    typer.echo(f"{site}: {basis} ends {day}")


def list_factors(ledger: LedgerOption = DEFAULT_LEDGER, as_json: JsonOption = False) -> None:
    """List all factors with their dates and sources."""
    from rich.table import Table

    from service.ledger.book_records import day

    with open_ledger(ledger) as opened:
        found = opened.factors()
    table = Table("site", "hosts", "basis", "value", "from", "to", "source", "evidence")
    for one in found:
        dates = (day(one.valid_from_unix_s), day(one.valid_to_unix_s))
        table.add_row(
            one.site, one.hosts, one.basis, f"{one.value:g}", *dates, one.source, one.evidence
        )
    emit(as_json, [factor.to_mapping() for factor in found], table)


def _of_search(ledger: Ledger, search_id: str, as_json: bool) -> None:
    from service.report.terminal import energy_table

    ledger.search(search_id)
    emit(as_json, *energy_table(ledger, search_id))


def _made(ledger: Ledger, from_: str | None, to: str | None, by: str) -> Statement:
    from service.energy import Site
    from service.energy.books import FactorBook, make_statement
    from service.ledger.book_records import unix_s_of

    book = FactorBook(ledger.factors(), Site.from_environment())
    return make_statement(
        ledger,
        book,
        from_unix_s=0.0 if from_ is None else unix_s_of(from_),
        to_unix_s=time.time() if to is None else unix_s_of(to),
        by=[name.strip() for name in by.split(",") if name.strip()],
    )


def _publish(ledger: Ledger, made: Statement, name: str, reason: str, as_json: bool) -> None:
    import getpass

    from service.energy.books.freezing import next_edition

    known = ledger.editions(name)
    edition = ledger.publish(
        next_edition(
            made.to_mapping(),
            known[-1] if known else None,
            name=name,
            reason=reason,
            published_by=getpass.getuser(),
            unix_s=time.time(),
        )
    )
    text = f"published {name}, edition {edition.edition}, sha256 {edition.sha256}"
    emit(as_json, edition.to_mapping(), text)


def _published(ledger: Ledger, named: str, as_json: bool) -> None:
    name, _, number = named.partition(":")
    if number and not number.isdigit():
        raise ConfigError(f"an edition is a number, but got {number!r}; e.g. {name}:1")
    edition = ledger.edition(name, int(number) if number else None)
    if not edition.verify():
        raise ConfigError(
            f"statement `{name}` edition {edition.edition} does not match its hash: the ledger "
            "was altered after it was published; restore a backup"
        )
    emit(as_json, edition.to_mapping(), _table(edition.content))


def _write(made: Statement, format: str, out: Path | None) -> None:
    from service.energy.books.formats import written

    text = written(made, format)
    if out is None:
        typer.echo(text, nl=False)
        return
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"`--out` must be a file that can be written, but {out} is not ({error.strerror})"
        ) from None
    typer.echo(str(out))


def _table(content: Any) -> Table:
    from rich.table import Table

    from service.report.numbers import short

    by = content["by"]
    title = f"energy from {content['from']} to {content['to']}"
    table = Table(*by, "searches", "trials", *SHOWN.values(), title=title)
    for row in [*content["rows"], {**content["total"], by[0]: "total"}]:
        numbers = [short(row[name]) for name in SHOWN]
        table.add_row(
            *(row.get(key, "") for key in by), str(row["searches"]), str(row["trials"]), *numbers
        )
    return table
