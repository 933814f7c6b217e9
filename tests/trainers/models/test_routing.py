"""Routing's written-out slopes against central differences, alone and under vmap."""

import pytest
import torch
from torch.func import vmap

from trainers.models.routing import routed


@pytest.mark.parametrize("iterations", [1, 2, 4])
def test_slopes_are_the_quotients_of_differences(iterations):
    u_hat = torch.randn(2, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda u: routed(u, iterations)[0], u_hat)


def test_lanes_under_vmap_are_as_one_by_one():
    u_hat = torch.randn(3, 2, 4, 3, 5, dtype=torch.float64, requires_grad=True)
    together = vmap(lambda u: routed(u, 3)[0])(u_hat)
    alone = torch.stack([routed(u, 3)[0] for u in u_hat])
    torch.testing.assert_close(together, alone, rtol=1e-12, atol=1e-14)
    weights = torch.randn_like(alone)
    (of_together,) = torch.autograd.grad((weights * together).sum(), u_hat)
    (of_alone,) = torch.autograd.grad((weights * alone).sum(), u_hat)
    torch.testing.assert_close(of_together, of_alone, rtol=1e-12, atol=1e-14)
    assert of_alone.abs().min() > 0
