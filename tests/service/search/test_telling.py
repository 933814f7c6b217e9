"""What samplers are told: the state of each configuration, read once when it has ended."""

from __future__ import annotations

import math

from bare_context import bare_context, put_trial

from service.search.telling import Teller


def states(told):
    return {row.number: row.state for row in told}


def test_each_state_is_told_as_what_it_says_about_the_configuration(tmp_path):
    context = bare_context(tmp_path)
    put_trial(context, 0, 0.01, error=0.2)
    put_trial(context, 1, 0.02, error=0.3, state="pruned", epochs_done=2)
    put_trial(context, 2, 0.03, state="diverged")
    put_trial(context, 3, 0.04, state="failed")
    put_trial(context, 4, 0.05, error=math.inf)
    put_trial(context, 5, 0.06, state="running")
    put_trial(context, 6, 0.07, error=0.1, role="finalist")
    told = Teller(context).told()
    assert states(told) == {
        0: "complete", 1: "pruned", 2: "diverged", 3: "failed", 4: "diverged", 5: "running",
    }  # fmt: skip
    assert told[0].values == (0.2,)
    assert told[1].intermediate == {2: 0.3}
    assert told[5].values is None


def test_seeds_of_a_configuration_are_told_together_once_all_have_ended(tmp_path):
    context = bare_context(tmp_path)
    put_trial(context, 0, 0.01, error=0.2, seed=1)
    put_trial(context, 1, 0.01, state="running", seed=2)
    teller = Teller(context)
    assert states(teller.told()) == {0: "running"}
    context.ledger.update_trials(
        context.search_id, [(1, {"state": "complete", "metrics": {"val_error": 0.4}})]
    )
    (row,) = teller.told()
    assert row.values is not None
    assert math.isclose(row.values[0], 0.3)


def test_what_has_ended_is_read_once(tmp_path, monkeypatch):
    context = bare_context(tmp_path)
    for trial_id in range(6):
        put_trial(context, trial_id, 0.01 + trial_id / 100, error=0.1 * trial_id)
    put_trial(context, 6, 0.2, state="running")
    put_trial(context, 7, 0.3, error=0.5)
    teller = Teller(context)
    first = teller.told()
    asked = []
    whole = context.ledger.trials

    def watched(*args, **options):
        found = whole(*args, **options)
        asked.append([trial.trial_id for trial in found])
        return found

    monkeypatch.setattr(context.ledger, "trials", watched)
    assert teller.told() == first
    assert asked == [[6, 7]]
