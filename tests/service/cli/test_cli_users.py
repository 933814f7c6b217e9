"""`isoflop users`: tokens are printed once, listed without their secret, and revoked."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from service.cli import app
from service.ledger import Ledger
from trainers.errors import ConfigError, IsoflopError


@pytest.fixture
def users(tmp_path: Path):
    def run(*arguments: str) -> str:
        command = ["users", *arguments, "--ledger", str(tmp_path / "a.db")]
        result = CliRunner().invoke(app, command, catch_exceptions=True)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.stdout

    run.ledger = lambda: Ledger.open(tmp_path / "a.db")  # type: ignore[attr-defined]
    return run


def test_a_new_user_signs_in_with_the_token_that_was_printed(users) -> None:
    printed = users(
        "add", "ann", "--role", "viewer", "--project", "vision/*", "--max-jobs", "2"
    ).splitlines()
    with users.ledger() as ledger:
        user = ledger.user_of_token(printed[-1])
        assert user is not None
        assert (user.user_id, user.role, user.projects) == ("ann", "viewer", ("vision/*",))
        assert user.quota.to_mapping() == {"max_jobs": 2}
        assert [event.action for event in ledger.audit_events()] == ["token made", "users add"]
        assert printed[-1] not in str(ledger.audit_events())


def test_lists_show_tokens_without_their_secrets(users) -> None:
    token = json.loads(users("add", "ann", "--json"))["token"]
    users("token", "ann", "--label", "ci", "--days", "0")
    (row,) = json.loads(users("list", "--json"))
    assert [(t["label"], t["state"]) for t in row["tokens"]] == [
        ("first", "unused"), ("ci", "expired"),
    ]  # fmt: skip
    shown = users("list") + users("list", "--json")
    assert token.split("_")[1] in shown
    assert token.split("_", 2)[2] not in shown


def test_revoking_ends_a_token_or_all_of_a_users(users) -> None:
    first = json.loads(users("add", "ann", "--json"))
    second = json.loads(users("token", "ann", "--json"))
    third = json.loads(users("token", "ann", "--json"))
    users("revoke", first["token_id"])
    users("revoke", second["token"])  # as it was found somewhere
    with users.ledger() as ledger:
        works = [ledger.user_of_token(made["token"]) for made in (first, second, third)]
        assert [user is not None for user in works] == [False, False, True]
    assert json.loads(users("revoke", "--user", "ann", "--json"))["locked_out"] == "ann"
    with users.ledger() as ledger:
        assert ledger.user_of_token(third["token"]) is None
        assert ledger.user("ann").disabled
    assert "locked out" in users("list")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("add", "ann", "--role", "boss"), "one of viewer, submitter, admin"),
        (("add", "taken"), "'taken' exists"),
        (("token", "nobody"), "no user 'nobody'; it has taken"),
        (("revoke",), "not both and not none"),
        (("revoke", "x", "--user", "taken"), "not both and not none"),
        (("revoke", "xyz"), "no token 'xyz'"),
    ],
)
def test_bad_input_is_explained(users, arguments: tuple[str, ...], says: str) -> None:
    users("add", "taken")
    with pytest.raises(IsoflopError, match=says):
        users(*arguments)


def test_an_empty_ledger_says_what_to_do(users) -> None:
    users.ledger().close()
    assert "isoflop users add NAME" in users("list")
    with pytest.raises(ConfigError, match="letters, digits"):
        users("add", "a b")
