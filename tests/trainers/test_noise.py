"""Stateless noise: a function of seed, purpose, epoch and step alone."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainers.noise import DropoutNoise, model_seed, row_order

CPU = torch.device("cpu")


def noise(seeds: list[int], epochs: list[int], rate: float = 0.3, size: int = 40) -> DropoutNoise:
    rates = [[rate] * len(seeds), [rate] * len(seeds)]
    return DropoutNoise(seeds, epochs, rates, [(size,), (3, 5)], 16, torch.float64, CPU)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**64 - 1), epoch=st.integers(0, 10**6), num_rows=st.integers(1, 500))
def test_an_order_is_a_permutation_that_repeats(seed: int, epoch: int, num_rows: int) -> None:
    order = row_order(seed, epoch, num_rows)
    assert sorted(order.tolist()) == list(range(num_rows))
    assert np.array_equal(order, row_order(seed, epoch, num_rows))


def test_orders_differ_between_seeds_and_epochs() -> None:
    orders = [tuple(row_order(seed, epoch, 50)) for seed in range(5) for epoch in range(5)]
    assert len(set(orders)) == 25


def test_masks_do_not_depend_on_the_other_lanes_or_on_the_rows_asked_before() -> None:
    together, alone = noise([1, 2, 3], [0, 4, 7]), noise([2], [4])
    for num_rows in (16, 16, 9):
        several, single = together.masks(num_rows), alone.masks(num_rows)
        for many, one in zip(several, single, strict=True):
            assert torch.equal(many[1], one[0])
    after_short = noise([2], [4])
    after_short.masks(3)
    fresh = noise([2], [4])
    fresh.masks(16)
    assert torch.equal(after_short.masks(16)[0], fresh.masks(16)[0])


def test_masks_differ_between_steps_lanes_epochs_and_layers() -> None:
    source = noise([1, 2], [0, 0])
    first = [mask.clone() for mask in source.masks(16)]
    second = source.masks(16)
    assert not torch.equal(first[0], second[0])
    assert not torch.equal(first[0][0], first[0][1])
    assert not torch.equal(first[0], noise([1, 2], [1, 1]).masks(16)[0])
    assert not torch.equal(first[0][0, :, :15].reshape(-1), first[1][0].reshape(-1))


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.9])
def test_units_are_dropped_at_the_rate_and_the_mean_is_kept(rate: float) -> None:
    mask = noise([5], [0], rate, size=5000).masks(16)[0]
    dropped = (mask == 0).double().mean().item()
    assert dropped == pytest.approx(rate, abs=4 * (rate * (1 - rate) / mask.numel()) ** 0.5 + 1e-12)
    kept = mask[mask != 0]
    assert torch.all(kept == 1 / (1 - rate))
    if rate == 0:
        assert torch.all(mask == 1)


def test_model_seeds_differ_by_step() -> None:
    seeds = {model_seed(3, epoch, step) for epoch in range(4) for step in range(10)}
    assert len(seeds) == 40
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_importing_trainers_is_light() -> None:
    code = "import sys, trainers; assert 'torch' not in sys.modules; trainers.train_pack"
    subprocess.run([sys.executable, "-c", code], check=True)
