"""What a running search knows of itself, and shows."""

from __future__ import annotations

import math

from bare_context import bare_context, put_trial

from service.cli.live import status


def test_a_search_that_goes_on_shows_the_best_of_its_earlier_sessions(tmp_path):
    context = bare_context(tmp_path)
    put_trial(context, 0, 0.01, error=0.3)
    put_trial(context, 1, 0.02, error=0.2)
    put_trial(context, 2, 0.03, error=0.1, state="pruned")
    put_trial(context, 3, 0.04, error=math.nan)
    put_trial(context, 4, 0.05, error=0.25)
    assert ("best val_error", "0.2 (trial 1)") in status(context)
    context.note_best(0.15, 5)
    context.note_best(0.18, 6)
    assert context.best_so_far() == (0.15, 5)


def test_a_value_that_is_no_number_is_never_the_best(tmp_path):
    context = bare_context(tmp_path)
    context.note_best(math.nan, 0)
    context.note_best(math.inf, 1)
    assert ("best val_error", "none yet") in status(context)
