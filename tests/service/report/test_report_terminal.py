"""Tables for the terminal say what the report says, on narrow terminals too."""

import io
import json

import pytest
from rich.console import Console

from service.report import terminal
from trainers.errors import LedgerError


def text_of(renderable, width=100):
    console = Console(file=io.StringIO(), width=width)
    console.print(renderable)
    return console.file.getvalue()


def test_the_list_has_a_row_per_search_with_its_answer(done):
    rows = terminal.search_rows(done)
    assert [row["id"] for row in rows] == ["demo-1"]
    assert "below baseline" in rows[0]["verdict"]
    assert "demo-1" in text_of(terminal.list_table(rows), 200)
    assert "isoflop search SPEC" in text_of(terminal.list_table([]))


@pytest.mark.parametrize("width", [40, 80, 160])
def test_show_has_answer_trust_rounds_and_trials(done, width):
    data, picture = terminal.search_detail(done, "demo-1")
    text = text_of(picture, width)
    assert data["search_id"] == "demo-1"
    assert "within noise" in " ".join(text.split())
    assert "more trials" in " ".join(text.split())
    assert max(map(len, text.splitlines())) <= width


def test_a_trial_shows_its_configuration_and_curve(done):
    data, picture = terminal.trial_detail(done, "demo-1", 80)
    json.dumps(data, allow_nan=False)
    assert [row["epoch"] for row in data["curve"]] == [1, 2, 3, 4]
    assert "pruned" in text_of(picture)
    assert "lr:" in text_of(picture)
    with pytest.raises(LedgerError, match="its trials are 0 to"):
        terminal.trial_detail(done, "demo-1", 9999)


def test_searches_are_compared_side_by_side(done):
    rows = terminal.compare_rows(done, ["demo-1", "demo-1"])
    json.dumps(rows, allow_nan=False)
    text = text_of(terminal.compare_table(rows), 120)
    assert text.count("demo-1") == 2
    assert "random 48x3, tpe 24x12" in text


def test_energy_of_an_unmetered_search_says_so(done):
    data, picture = terminal.energy_table(done, "demo-1")
    assert data == {"energy_kwh": None}
    assert "not metered" in text_of(picture)
