import pytest
import torch

from trainers.activations import MODULES, activate, activation_module, derivative


@pytest.mark.parametrize("name", MODULES)
def test_function_and_derivative_agree_with_torchs_module(name):
    z = torch.tensor([-1e3, -2.0, -0.5, 0.0, 0.3, 2.0, 1e3], dtype=torch.float64)
    z.requires_grad_()
    out = activation_module(name)(z)
    (expected,) = torch.autograd.grad(out.sum(), z)
    torch.testing.assert_close(activate(name, z), out)
    torch.testing.assert_close(derivative(name, z.detach()), expected)
    assert torch.isfinite(derivative(name, z.detach())).all()


def test_relu_has_derivative_0_at_0():
    assert derivative("relu", torch.zeros(1)).item() == 0
