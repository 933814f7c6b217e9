"""The next round's space: its evidence is of one length, and step 6 has its say."""

from __future__ import annotations

from bare_context import bare_context, put_round, put_trial
from test_bar import train

from service.search.narrowing import refined_space
from service.search.spec import RefineSpec, RoundSpec

REFINED = RoundSpec(trials=8, epochs=4, refine=RefineSpec())


def searched(context, num=20, *, best=0.003, **fields):
    """Record trials over the whole interval; the value is best at lr `best`."""
    put_round(context, 0)
    errors = {}
    for i in range(num):
        lr = 10 ** (-4 + 3 * (i + 0.5) / num)
        put_trial(context, i, lr, state="waiting", **fields)
        errors[i] = [min(1.0, abs(lr / best - 1) / 10)] * 4
    train(context, errors)
    context.ledger.update_trials(
        context.search_id, [(i, {"state": "complete"}) for i in range(num)]
    )


def lr_of(space):
    return space["optimizer.lr"]


def test_the_interval_is_narrowed_around_the_best_and_says_why(tmp_path):
    context = bare_context(tmp_path)
    searched(context)
    space, reasons = refined_space(context, 1, REFINED)
    assert 1e-4 < lr_of(space).low < 0.003 < lr_of(space).high < 1e-1
    assert any("optimizer.lr narrowed" in reason["text"] for reason in reasons)


def test_a_round_without_refine_keeps_the_space(tmp_path):
    context = bare_context(tmp_path)
    searched(context)
    space, reasons = refined_space(context, 1, RoundSpec(trials=8, epochs=4))
    assert space.to_mapping() == context.spec.space.to_mapping()
    assert "unchanged" in reasons[0]["text"]


def test_trials_of_too_few_of_one_length_change_nothing(tmp_path):
    context = bare_context(tmp_path)
    searched(context, num=7)
    space, reasons = refined_space(context, 1, REFINED)
    assert lr_of(space).to_mapping() == lr_of(context.spec.space).to_mapping()
    assert "8 trials" in reasons[0]["text"]


def test_after_halving_the_length_is_the_longest_that_enough_trials_reached(tmp_path):
    context = bare_context(tmp_path)
    put_round(context, 0)
    errors = {}
    for i in range(20):
        put_trial(context, i, 10 ** (-4 + 3 * (i + 0.5) / 20), state="waiting")
        # Good at the first epoch where the rate is high; the three that go on are all low.
        errors[i] = [1 - i / 20, *([0.01] * 3 if i < 3 else [])]
    train(context, errors)
    context.ledger.update_trials(
        context.search_id,
        [(i, {"state": "complete" if i < 3 else "pruned"}) for i in range(20)],
    )
    space, _ = refined_space(context, 1, REFINED)
    assert lr_of(space).low > 1e-3  # the three survivors alone would say: below 3e-4


def test_the_consequence_of_the_curves_is_drawn(tmp_path):
    context = bare_context(tmp_path)
    searched(context)
    before, _ = refined_space(context, 1, REFINED)
    context.event(
        "verdict",
        {
            "step": 6, "name": "curves", "round": 0, "passed": None, "verdict": "overfit",
            "reason": "", "consequence": "raise the dropout interval",
            "data": {"path": "model.dropout", "direction": "raise"},
        },
    )  # fmt: skip
    after, reasons = refined_space(context, 1, REFINED)
    low, high = (space["model.dropout"] for space in (before, after))
    assert high.high > low.high or high.low > low.low
    assert any("raise the dropout interval" in reason["text"] for reason in reasons)


def test_with_several_objectives_the_best_front_shapes_the_space(tmp_path):
    context = bare_context(tmp_path, objectives={"val_error": "minimize", "params": "minimize"})
    searched(context, num_params=100)
    space, reasons = refined_space(context, 1, REFINED)
    assert lr_of(space).low < 0.003 < lr_of(space).high
    assert lr_of(space).to_mapping() != lr_of(context.spec.space).to_mapping()
    assert any("rank among the objectives" in reason["text"] for reason in reasons)
