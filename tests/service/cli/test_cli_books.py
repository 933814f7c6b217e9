"""`isoflop energy` and `isoflop factors` as they are typed."""

import json

import pytest
from typer.testing import CliRunner

from service.cli import app
from service.ledger import Ledger
from trainers.errors import ConfigError, MissingError

runner = CliRunner()


@pytest.fixture
def isoflop(tmp_path):
    path = tmp_path / "isoflop.db"
    Ledger.open(path).close()

    def run(*arguments):
        result = runner.invoke(app, [*arguments, "--ledger", str(path)])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


def test_factors_are_added_listed_and_ended(isoflop):
    isoflop("factors", "add", "fra1", "location", "56", "--from", "2026-01", "--source", "RTE")
    isoflop("factors", "end", "fra1", "location", "2026-06")
    isoflop("factors", "add", "fra1", "location", "50", "--from", "2026-06", "--source", "RTE")
    found = json.loads(isoflop("factors", "list", "--json").stdout)
    assert [factor["value"] for factor in found] == [56, 50]
    assert found[0]["valid_to_unix_s"] == found[1]["valid_from_unix_s"]


def test_a_statement_is_published_shown_and_corrected(isoflop):
    first = json.loads(
        isoflop(
            "energy", "--from", "2026-01", "--to", "2026-02", "--publish", "jan", "--json"
        ).stdout
    )
    assert first["edition"] == 1
    assert first["total"]["kwh"] == 0
    shown = json.loads(isoflop("energy", "--statement", "jan:1", "--json").stdout)
    assert shown == first
    isoflop("factors", "add", "fra1", "location", "56", "--from", "2026-01", "--source", "RTE")
    again = ("energy", "--from", "2026-01", "--to", "2026-02", "--publish", "jan", "--json")
    with pytest.raises(ConfigError, match="needs a reason"):
        isoflop(*again)
    second = json.loads(isoflop(*again, "--reason", "a factor came").stdout)
    assert second["edition"] == 2
    assert second["reason"] == "a factor came"


@pytest.mark.parametrize("format", ["csv", "json", "boamps"])
def test_formats_are_written(isoflop, tmp_path, format):
    out = tmp_path / "statement"
    isoflop("energy", "--from", "2026-01", "--to", "2026-02", "--format", format, "--out", str(out))
    text = out.read_text()
    assert len(text) > 100
    if format != "csv":
        json.loads(text)


def test_the_method_is_one_page_with_its_boundary():
    text = runner.invoke(app, ["energy", "--method"]).stdout
    assert "What is not counted" in text
    assert len(text.splitlines()) < 50


@pytest.mark.parametrize(
    ("arguments", "kind", "says"),
    [
        (["energy", "--from", "soon"], ConfigError, "2026-11-24"),
        (["energy", "--from", "2026-02", "--to", "2026-01"], ConfigError, "later"),
        (["energy", "--by", "projct"], ConfigError, "did you mean `project`"),
        (["energy", "--format", "pdf"], ConfigError, "json, csv, boamps"),
        (["energy", "--statement", "jan"], MissingError, "no statement"),
        (["energy", "--statement", "jan:x"], ConfigError, "number"),
        (["energy", "nothing-1"], MissingError, "nothing-1"),
        (["factors", "end", "fra1", "location", "2026-01"], ConfigError, "fra1"),
        (
            ["factors", "add", "a", "cloud", "5", "--from", "2026-01", "--source", "x"],
            ConfigError,
            "basis",
        ),
    ],
)
def test_bad_input_is_refused(isoflop, arguments, kind, says):
    with pytest.raises(kind, match=says):
        isoflop(*arguments)
