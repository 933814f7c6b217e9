"""Pruning a trained net by degrees, and 8-bit weights (lecture, p. 66)."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.utils import prune

from trainers.compression import quantise, quantise_tensor, sparsity_curve
from trainers.config import TrialConfig
from trainers.data import load
from trainers.errors import ConfigError
from trainers.lanes.evaluation import to_module
from trainers.lanes.pack import train_pack
from trainers.lanes.plan import fixed_plan
from trainers.trial import Trial


@pytest.fixture(scope="module")
def trained():
    config = TrialConfig.from_mapping(
        {"model.width": 32, "train.epochs": 12, "optimizer.lr": 5e-3, "model.batch_norm": "before"}
    )
    dataset = load(config.data)
    trial = Trial(trial_id=0, config=config, seed=0)
    plan = fixed_plan([trial], dataset, tier="kernels", fuse_width=1)
    (state,) = train_pack([trial], None, 12, dataset=dataset, plan=plan).states
    return to_module(state, trial, dataset), config, dataset


def error_of(module, dataset) -> float:
    with torch.no_grad():
        return float((module(dataset.x_val).argmax(-1) != dataset.y_val).double().mean())


def test_the_curve_is_that_of_modules_pruned_one_by_one(trained):
    module, config, dataset = trained
    shares = [0.0, 0.5, 0.9, 1.0]
    points = sparsity_curve(module, config, dataset, shares)
    assert points[0].metrics["error"] == pytest.approx(error_of(module, dataset))
    for share, point in zip(shares, points, strict=True):
        assert point.sparsity == pytest.approx(share, abs=2e-3)
    twin = quantise(module).module()
    twin.load_state_dict(module.state_dict())
    prune.l1_unstructured(twin.head, "weight", 0.5)
    for layer in twin.layers:
        prune.l1_unstructured(layer.linear, "weight", 0.5)
    assert points[1].metrics["error"] == pytest.approx(error_of(twin, dataset))
    errors = [point.metrics["error"] for point in points]
    assert errors[1] < errors[0] + 0.05
    assert errors[-1] > 0.5


@settings(deadline=None, max_examples=40)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50))
def test_no_weight_moves_further_than_half_a_step(values):
    weights = torch.tensor(values, dtype=torch.float64)
    quantised = quantise_tensor(weights)
    assert quantised.values.dtype == torch.int8
    gap = (quantised.restored() - weights).abs().max()
    assert float(gap) <= quantised.scale / 2 * (1 + 1e-9)
    assert (quantised.restored()[weights == 0] == 0).all()


def test_eight_bits_are_a_quarter_and_answer_nearly_the_same(trained):
    module, _, dataset = trained
    before = {name: value.clone() for name, value in module.state_dict().items()}
    small = quantise(module)
    numbers = sum(q.values.numel() for q in small.weights.values())
    assert small.original_weight_bytes == 4 * numbers
    assert small.weight_bytes == numbers + 4 * len(small.weights)
    with torch.no_grad():
        exact, near = module(dataset.x_val), small.module()(dataset.x_val)
    assert float((exact - near).abs().mean()) < 0.02 * float(exact.abs().mean())
    assert error_of(small.module(), dataset) == pytest.approx(error_of(module, dataset), abs=0.01)
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name])


def test_bad_input_is_refused(trained):
    with pytest.raises(ConfigError, match=r"from 0 to 1, but got 1\.5"):
        sparsity_curve(*trained, [0.5, 1.5])
    with pytest.raises(ConfigError, match="must be finite"):
        quantise_tensor(torch.tensor([1.0, np.inf]))
