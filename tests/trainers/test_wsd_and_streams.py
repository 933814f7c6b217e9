"""Warm-up, stable, decay in closed form; and epochs that are stretches of a stream of rows."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from trainers.config import ScheduleConfig, TrainConfig, TrialConfig
from trainers.data import load
from trainers.flops import flops_per_epoch
from trainers.lanes.pack import train_pack
from trainers.lanes.state import LaneState
from trainers.noise import row_order, rows_of_epoch
from trainers.schedules import factors
from trainers.trial import Trial


def wsd_by_hand(step: int, total: int, warmup: int, cooldown: int, end: Fraction) -> Fraction:
    """Rise to 1, stay there, then fall on a straight line that reaches `end` at `total`."""
    factor = Fraction(1)
    if step >= total - cooldown:
        factor -= (1 - end) * Fraction(step - (total - cooldown), cooldown)
    if step < warmup:
        factor *= Fraction(step + 1, warmup)
    return factor


@settings(deadline=None, max_examples=40)
@given(
    total=st.integers(2, 400),
    warmup=st.fractions(0, Fraction(1, 2), max_denominator=20),
    cooldown=st.fractions(Fraction(1, 20), Fraction(1, 2), max_denominator=20),
    end=st.fractions(0, 1, max_denominator=10),
)
def test_wsd_is_the_line_it_says(
    total: int, warmup: Fraction, cooldown: Fraction, end: Fraction
) -> None:
    config = ScheduleConfig(
        kind="wsd",
        warmup_fraction=float(warmup),
        cooldown_fraction=float(cooldown),
        end_factor=float(end),
    )
    num_warmup = round(float(warmup) * total)
    num_cooldown = max(round(float(cooldown) * total), 1)
    expected = [wsd_by_hand(s, total, num_warmup, num_cooldown, end) for s in range(total)]
    values = factors(config, 0, total, total)
    np.testing.assert_allclose(values, [float(value) for value in expected], atol=1e-12)
    half = total // 2  # a border changes nothing
    np.testing.assert_array_equal(factors(config, half, total - half, total), values[half:])


def test_wsd_needs_room_for_both_ends() -> None:
    with pytest.raises(ValidationError, match=r"sum must be <= 1, but got 0\.7 and 0\.4"):
        ScheduleConfig(kind="wsd", warmup_fraction=0.7, cooldown_fraction=0.4)


@settings(deadline=None, max_examples=40)
@given(num_rows=st.integers(1, 40), per_epoch=st.integers(1, 100), seed=st.integers(0, 9))
def test_the_stream_does_not_depend_on_how_it_is_cut(
    num_rows: int, per_epoch: int, seed: int
) -> None:
    num_epochs = 4
    cut = np.concatenate(
        [rows_of_epoch(seed, epoch, num_rows, per_epoch) for epoch in range(num_epochs)]
    )
    num_passes = -(-len(cut) // num_rows)
    passes = np.concatenate([row_order(seed, number, num_rows) for number in range(num_passes)])
    np.testing.assert_array_equal(cut, passes[: len(cut)])


def stream_trial(trial_id: int, rows: int | None, epochs: int, lr: float = 0.05) -> Trial:
    config = TrialConfig.from_mapping(
        {
            "data": {"name": "digits", "num_train": 120},
            "model.width": 12,
            "optimizer": {"kind": "momentum", "lr": lr},
            "train": {
                "epochs": epochs, "batch_size": 20, "precision": "float64", "rows_per_epoch": rows,
            },
        }
    )  # fmt: skip
    return Trial(trial_id=trial_id, config=config, seed=7 + trial_id)


def final(trials: list[Trial]) -> list[LaneState]:
    return list(train_pack(trials, None, 10**6).states)


def test_shorter_epochs_train_the_same_model() -> None:
    whole = final([stream_trial(0, None, 3)])[0]
    cut = final([stream_trial(0, 40, 9)])[0]
    assert (whole.step, cut.step) == (18, 18)
    np.testing.assert_allclose(cut.tensors["params"], whole.tensors["params"], rtol=1e-12)
    assert cut.metrics["val_loss"] == pytest.approx(whole.metrics["val_loss"], rel=1e-12)


def test_packing_changes_nothing_where_epochs_are_stretches() -> None:
    trials = [stream_trial(i, 50, 3 + i, lr=0.02 * (i + 1)) for i in range(3)]
    together = final(trials)
    for trial, state in zip(trials, together, strict=True):
        alone = final([trial])[0]
        np.testing.assert_array_equal(alone.tensors["params"], state.tensors["params"])
        assert alone.metrics == state.metrics


def test_flops_of_an_epoch_follow_its_rows() -> None:
    config = stream_trial(0, None, 1).config
    dataset = load(config.data)
    short = config.with_values({"train.rows_per_epoch": 60})
    assert 2 * flops_per_epoch(short, dataset) == flops_per_epoch(config, dataset)


def test_an_epoch_holds_a_batch() -> None:
    with pytest.raises(ValidationError, match=r"rows_per_epoch` must be >= `train.batch_size`"):
        TrainConfig(batch_size=64, rows_per_epoch=63)


@settings(deadline=None, max_examples=8)
@given(
    child_epochs=st.integers(4, 12),
    cooldown=st.sampled_from([0.2, 0.35, 0.5]),
    warmup_steps=st.integers(0, 4),
)
def test_a_cooldown_forked_from_a_longer_run_is_the_short_run(
    child_epochs: int, cooldown: float, warmup_steps: int
) -> None:
    """Both have the same updates up to the fork, so going on from there is exact."""
    steps_per_epoch = 2

    def trial(trial_id: int, epochs: int) -> Trial:
        total = epochs * steps_per_epoch
        wsd = {
            "schedule.kind": "wsd",
            "schedule.cooldown_fraction": cooldown,
            "schedule.warmup_fraction": warmup_steps / total,
            "train.epochs": epochs,
        }
        config = stream_trial(0, 40, epochs).config.with_values(wsd)
        return Trial(trial_id=trial_id, config=config, seed=3)

    trunk, child = trial(0, 14), trial(1, child_epochs)
    total = child_epochs * steps_per_epoch
    fork = (total - round(cooldown * total)) // steps_per_epoch
    [state] = train_pack([trunk], None, fork).states
    [forked] = train_pack([child], [replace(state, trial_id=1)], 10**6).states
    [alone] = final([child])
    assert (forked.status, forked.epoch) == ("finished", child_epochs)
    np.testing.assert_allclose(forked.tensors["params"], alone.tensors["params"], rtol=1e-9)
    assert forked.metrics["val_loss"] == pytest.approx(alone.metrics["val_loss"], rel=1e-9)
