import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from trainers.activations import activate, derivative
from trainers.errors import ConfigError
from trainers.losses import (
    cross_entropy,
    cross_entropy_rows,
    half_mse,
    half_mse_rows,
    loss_function,
    loss_rows_function,
    resolve_loss,
)


def _logits(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


@given(
    num_lanes=st.integers(1, 5),
    rows=st.integers(1, 9),
    classes=st.integers(2, 12),
    smoothing=st.floats(0, 0.9),
    seed=st.integers(0, 1000),
)
@settings(deadline=None, max_examples=40)
def test_cross_entropy_equals_torch_for_each_lane(num_lanes, rows, classes, smoothing, seed):
    logits = 3 * _logits(num_lanes, rows, classes, seed=seed)
    y = torch.randint(classes, (num_lanes, rows), generator=torch.Generator().manual_seed(seed))
    per_lane = smoothing * torch.rand(num_lanes, dtype=torch.float64)
    losses = cross_entropy(logits, y, per_lane)
    for lane in range(num_lanes):
        expected = F.cross_entropy(logits[lane], y[lane], label_smoothing=float(per_lane[lane]))
        assert losses[lane].item() == pytest.approx(expected.item(), rel=1e-12)


def test_cross_entropy_has_torchs_gradient():
    logits = _logits(6, 4).requires_grad_()
    y = torch.tensor([0, 1, 2, 3, 0, 1])
    (ours,) = torch.autograd.grad(cross_entropy(logits, y, 0.1), logits)
    (theirs,) = torch.autograd.grad(F.cross_entropy(logits, y, label_smoothing=0.1), logits)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-15)


def test_targets_may_be_shared_by_all_lanes():
    logits, y = _logits(3, 5, 4), torch.tensor([0, 1, 2, 3, 0])
    torch.testing.assert_close(cross_entropy(logits, y), cross_entropy(logits, y.expand(3, 5)))
    torch.testing.assert_close(half_mse(logits, y), half_mse(logits, y.expand(3, 5)))


def test_cross_entropy_is_finite_at_extreme_logits_and_ln_c_at_zero():
    extreme = torch.tensor([[1e4, -1e4, 0.0]])
    assert torch.isfinite(cross_entropy(extreme, torch.tensor([1])))
    assert cross_entropy(torch.zeros(2, 10), torch.tensor([3, 7])).item() == pytest.approx(
        math.log(10)
    )


def test_half_mse_is_the_lectures_half_of_the_squared_norm():
    outputs, y = _logits(7, 3, seed=1), _logits(7, 3, seed=2)
    expected = 0.5 * F.mse_loss(outputs, y, reduction="sum") / 7
    assert half_mse(outputs, y).item() == pytest.approx(expected.item(), rel=1e-14)


def test_gradient_of_half_mse_is_output_minus_target():
    outputs, y = _logits(1, 3, seed=1).requires_grad_(), _logits(1, 3, seed=2)
    (gradient,) = torch.autograd.grad(half_mse(outputs, y), outputs)
    torch.testing.assert_close(gradient, (outputs - y).detach())


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_half_mse_of_classes_uses_one_hot_targets(smoothing):
    outputs, y = _logits(2, 5, 4), torch.tensor([[0, 1, 2, 3, 0], [3, 3, 1, 0, 2]])
    target = (1 - smoothing) * F.one_hot(y, 4).double() + smoothing / 4
    expected = 0.5 * (outputs - target).square().sum(-1).mean(-1)
    torch.testing.assert_close(half_mse(outputs, y, torch.full((2,), smoothing)), expected)


def test_rows_average_to_the_mean():
    logits, y = _logits(3, 5, 4), torch.tensor([0, 1, 2, 3, 0])
    torch.testing.assert_close(
        cross_entropy_rows(logits, y, 0.1).mean(-1), cross_entropy(logits, y, 0.1)
    )
    assert half_mse_rows(logits, y).shape == (3, 5)


def test_auto_picks_the_loss_by_task():
    assert resolve_loss("auto", "classification") == "cross_entropy"
    assert resolve_loss("auto", "regression") == "half_mse"
    assert loss_function("cross_entropy") is cross_entropy
    assert loss_rows_function("half_mse") is half_mse_rows
    with pytest.raises(ConfigError, match="targets are numbers"):
        resolve_loss("cross_entropy", "regression")


def test_error_terms_of_the_lectures_three_outputs():
    """Page 30: a - y for softmax and for linear outputs, (a - y) a (1 - a) for sigmoid ones."""
    z = _logits(1, 4, seed=1).requires_grad_()
    y = F.one_hot(torch.tensor([2]), 4).double()
    outputs = {
        "softmax": (F.cross_entropy(z, y), F.softmax(z, 1) - y),
        "linear": (half_mse(z[None], y[None]).sum(), z - y),
    }
    a = activate("sigmoid", z)
    outputs["sigmoid"] = half_mse(a[None], y[None]).sum(), (a - y) * derivative("sigmoid", z)
    torch.testing.assert_close(derivative("sigmoid", z), a * (1 - a))
    for loss, expected in outputs.values():
        (delta,) = torch.autograd.grad(loss, z, retain_graph=True)
        torch.testing.assert_close(delta, expected, rtol=0, atol=1e-12)
