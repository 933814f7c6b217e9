"""`isoflop users`: who may use the service, and their tokens."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.options import DEFAULT_LEDGER, JsonOption, LedgerOption, emit

if TYPE_CHECKING:
    from service.jobs.records import TokenRecord, UserRecord
    from service.ledger import Ledger

NameArgument = Annotated[str, typer.Argument(help="The user's name.")]
LabelOption = Annotated[str, typer.Option(help="What the token is for, e.g. `laptop`.")]
DaysOption = Annotated[
    float | None, typer.Option(min=0, help="Days until the token expires. Default: never.")
]
DAY_S = 86_400.0
BY_COMMAND_LINE = "system"
"""Who acts in the audit where somebody with the ledger at hand uses the command line."""


def add(
    name: NameArgument,
    role: Annotated[str, typer.Option(help="viewer, submitter or admin.")] = "submitter",
    projects: Annotated[
        list[str] | None,
        typer.Option("--project", help="Projects that may be read, e.g. 'vision/*' (repeatable)."),
    ] = None,
    max_workers: Annotated[int | None, typer.Option(min=0, help="Workers at a time.")] = None,
    max_jobs: Annotated[int | None, typer.Option(min=0, help="Running jobs at a time.")] = None,
    kwh_per_month: Annotated[float | None, typer.Option(min=0, help="Energy per month.")] = None,
    label: LabelOption = "first",
    days: DaysOption = None,
    ledger: LedgerOption = DEFAULT_LEDGER,
    as_json: JsonOption = False,
) -> None:
    """Add a user and print a token, once: the ledger keeps only its hash.

    Example: isoflop users add ann --role submitter --project 'vision/*'
    """
    from service.jobs.records import Quota
    from service.ledger import Ledger

    quota = Quota(max_workers=max_workers, max_jobs=max_jobs, kwh_per_month=kwh_per_month)
    with Ledger.open(ledger) as opened:
        user = opened.create_user(name, role, projects=projects or [], quota=quota)
        opened.audit(BY_COMMAND_LINE, "users add", name, detail={"role": role})
        _print_token(opened, user.user_id, label, days, as_json)


def token(
    name: NameArgument,
    label: LabelOption = "",
    days: DaysOption = None,
    ledger: LedgerOption = DEFAULT_LEDGER,
    as_json: JsonOption = False,
) -> None:
    """Make a further token for a user, and print it, once."""
    from service.cli.options import open_ledger

    with open_ledger(ledger) as opened:
        _print_token(opened, name, label, days, as_json)


def list_(ledger: LedgerOption = DEFAULT_LEDGER, as_json: JsonOption = False) -> None:
    """List users and their tokens; a token's secret is not known any more."""
    from rich.table import Table

    from service.cli.options import open_ledger

    with open_ledger(ledger) as opened:
        users = opened.users()
        tokens = {user.user_id: opened.tokens(user.user_id) for user in users}
    table = Table("user", "role", "projects", "quota", "token", "label", "state")
    for user in users:
        for place, known in enumerate(tokens[user.user_id] or [None]):
            cells = _user_cells(user) if place == 0 else ("", "", "", "")
            shown = ("", "", "") if known is None else (known.token_id, known.label, _state(known))
            table.add_row(*cells, *shown)
    rows = [_user_row(user, tokens[user.user_id]) for user in users]
    emit(as_json, rows, table if users else "no users yet; add one with: isoflop users add NAME")


def revoke(
    token_id: Annotated[
        str | None, typer.Argument(help="A token's id, as `isoflop users list` shows it.")
    ] = None,
    user: Annotated[
        str | None, typer.Option("--user", help="All tokens of this user, who is locked out.")
    ] = None,
    ledger: LedgerOption = DEFAULT_LEDGER,
    as_json: JsonOption = False,
) -> None:
    """End a token, or lock a user out; browsers that are signed in are signed out."""
    from service.cli.options import open_ledger
    from trainers.errors import ConfigError

    if (token_id is None) == (user is None):
        raise ConfigError("name one token's id, or a user with --user, but not both and not none")
    with open_ledger(ledger) as opened:
        if user is not None:
            opened.update_user(user, disabled=True)
        ids = [token_id] if token_id is not None else [t.token_id for t in opened.tokens(user)]
        revoked = [opened.revoke_token(_id_of(str(known))) for known in ids]
        target = user or revoked[0].token_id
        opened.audit(BY_COMMAND_LINE, "users revoke", target)
    found = {"revoked": [record.token_id for record in revoked], "locked_out": user}
    tokens = ", ".join(record.token_id for record in revoked) or "no token"
    locked = f"; `{user}` is locked out" if user else ""
    emit(as_json, found, f"revoked: {tokens}{locked}")


def _print_token(
    ledger: Ledger, user_id: str, label: str, days: float | None, as_json: bool
) -> None:
    expires = None if days is None else time.time() + days * DAY_S
    record, secret = ledger.add_token(user_id, label, expires)
    ledger.audit(BY_COMMAND_LINE, "token made", record.token_id, detail={"user": user_id})
    found = {"user": user_id, "token_id": record.token_id, "token": secret}
    if as_json:
        emit(True, found)
        return
    typer.echo(f"user {user_id}, token {record.token_id}; it is shown this once:\n{secret}")


def _id_of(text: str) -> str:
    """Take a whole token for its id, so that a leaked one can be revoked as it was found."""
    parts = text.split("_")
    return parts[1] if len(parts) > 2 and parts[0] == "iso" else text


def _user_cells(user: UserRecord) -> tuple[str, str, str, str]:
    quota = ", ".join(f"{name} {value:g}" for name, value in user.quota.to_mapping().items())
    role = f"{user.role}, locked out" if user.disabled else user.role
    return user.user_id, role, ", ".join(user.projects), quota


def _user_row(user: UserRecord, tokens: list[TokenRecord]) -> dict[str, Any]:
    from dataclasses import asdict

    known = [{**asdict(record), "state": _state(record)} for record in tokens]
    return {**asdict(user), "quota": user.quota.to_mapping(), "tokens": known}


def _state(record: TokenRecord) -> str:
    if record.revoked_unix_s is not None:
        return "revoked"
    if record.expires_unix_s is not None and time.time() >= record.expires_unix_s:
        return "expired"
    return "unused" if record.last_used_unix_s is None else "in use"
