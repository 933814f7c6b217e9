"""Closed forms against torch's schedulers, where torch has the same."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from trainers.config import ScheduleConfig
from trainers.schedules import factors, update_plateau

TOTAL = 60


def torch_factors(make: Any, num_steps: int) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = make(optimizer)
    values = []
    for _ in range(num_steps):
        values.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return values


@pytest.mark.parametrize(
    ("config", "make"),
    [
        ({"kind": "constant"}, lambda o: lr_scheduler.ConstantLR(o, factor=1.0)),
        (
            {"kind": "linear", "end_factor": 0.2},
            lambda o: lr_scheduler.LinearLR(o, 1.0, 0.2, total_iters=TOTAL),
        ),
        (
            {"kind": "exponential", "gamma": 0.05},
            lambda o: lr_scheduler.ExponentialLR(o, 0.05 ** (1 / TOTAL)),
        ),
        (
            {"kind": "step", "gamma": 0.3, "num_steps": 4},
            lambda o: lr_scheduler.StepLR(o, TOTAL // 4, 0.3),
        ),
        (
            {"kind": "cosine", "end_factor": 0.1},
            lambda o: lr_scheduler.CosineAnnealingLR(o, TOTAL, eta_min=0.1),
        ),
    ],
)
def test_equal_to_torch_at_every_step(config: dict[str, Any], make: Any) -> None:
    values = factors(ScheduleConfig.model_validate(config), 0, TOTAL, TOTAL)
    np.testing.assert_allclose(values, torch_factors(make, TOTAL), rtol=1e-10)


def test_warmup_is_torchs_linear_rise_to_one() -> None:
    config = ScheduleConfig(warmup_fraction=0.25)
    values = factors(config, 0, TOTAL, TOTAL)

    def make(optimizer: torch.optim.Optimizer) -> Any:
        return lr_scheduler.LinearLR(optimizer, 1 / 15, 1.0, total_iters=14)

    np.testing.assert_allclose(values, torch_factors(make, TOTAL), rtol=1e-10)
    assert values[0] == pytest.approx(1 / 15)
    assert values[14:].tolist() == [1.0] * 46


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(["constant", "linear", "exponential", "step", "cosine"]),
    warmup=st.floats(0, 0.9),
    total=st.integers(1, 200),
    data=st.data(),
)
def test_borders_of_segments_never_change_a_factor(
    kind: str, warmup: float, total: int, data: st.DataObject
) -> None:
    config = ScheduleConfig.model_validate({"kind": kind, "warmup_fraction": warmup})
    border = data.draw(st.integers(0, total))
    whole = factors(config, 0, total, total)
    parts = [
        factors(config, 0, border, total),
        factors(config, border, total - border, total),
    ]
    assert np.array_equal(np.concatenate(parts), whole)
    assert ((whole >= 0) & (whole <= 1)).all()


def test_cosine_ends_at_end_factor_and_is_half_way_in_the_middle() -> None:
    config = ScheduleConfig(kind="cosine", end_factor=0.2)
    values = factors(config, 0, 1001, 1000)
    assert values[500] == pytest.approx(0.6)
    assert values[1000] == pytest.approx(0.2)


def test_plateau_drops_as_torchs() -> None:
    config = ScheduleConfig(kind="plateau", gamma=0.5, patience_epochs=2, threshold=0.01)
    losses = [1.0, 0.8, 0.799, 0.798, 0.797, 0.5, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6, 0.4]
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=2, threshold=0.01)
    counters: dict[str, float] = {}
    for loss in losses:
        optimizer.step()
        scheduler.step(loss)
        update_plateau(config, counters, loss)
        drops = int(counters.get("plateau_drops", 0))
        assert factors(config, 0, 1, 100, drops)[0] == optimizer.param_groups[0]["lr"]
    assert math.isclose(counters["plateau_best"], 0.4)
