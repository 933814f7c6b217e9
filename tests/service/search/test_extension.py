"""What `extend` accepts, and what it writes down."""

from __future__ import annotations

import pytest
from bare_context import bare_context, put_round

from search_spaces import Space
from service.search.extension import plan_extension
from trainers.errors import ConfigError

SPACE = {"optimizer.lr": {"log_uniform": [1e-3, 1e-2]}}


@pytest.fixture
def extended(tmp_path):
    context = bare_context(tmp_path)
    for number, kind in enumerate(("search", "search", "finalists")):
        put_round(context, number, kind=kind, state="finished")

    def extended(trials=None, epochs=None, space=None):
        return plan_extension(context.ledger, context.record, context.spec, trials, epochs, space)

    return extended


def test_another_round_is_like_the_last_and_gets_the_next_number(extended):
    payload = extended(trials=24)
    assert payload["number"] == 3
    assert payload["round"]["trials"] == 24
    assert payload["round"]["sampler"] == "tpe"
    assert payload["round"]["epochs"] == 4
    assert payload["round"]["refine"] is not None
    assert payload["space"] is None


def test_a_given_space_is_not_refined(extended, tmp_path):
    file = tmp_path / "space.yaml"
    file.write_text("space:\n  optimizer.lr: {log_uniform: [1e-3, 1e-2]}\n")
    for space in (SPACE, Space(SPACE), str(file), file):
        payload = extended(trials=8, space=space)
        assert payload["space"] == Space(SPACE).to_mapping()
        assert "refine" not in payload["round"]


def test_more_epochs_for_the_best(extended):
    assert extended(epochs=9) == {"number": 3, "epochs": 9, "trials": None}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "needs `--trials N`"),
        ({"epochs": 4}, "more than the 4 that were trained, but got 4"),
        ({"epochs": 9, "space": SPACE}, "needs `--trials` as well"),
        ({"trials": 8, "space": {"optimizer.lr": {"log_uniform": [1, 0.1]}}}, "optimizer.lr"),
    ],
)
def test_what_makes_no_sense_is_refused(extended, options, words):
    with pytest.raises(ConfigError, match=words):
        extended(**options)
