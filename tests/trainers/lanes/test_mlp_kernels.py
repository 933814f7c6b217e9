"""The written-out kernels against autograd through the ordinary module."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from trainers.config import ModelConfig
from trainers.lanes.mlp_kernels import MlpKernels
from trainers.losses import LossKind, loss_function
from trainers.models import LaneDropout, build_model

NUM_LANES = 3


def stacked_kernels(
    config: ModelConfig, loss: LossKind, num_outputs: int, smoothing: list[float]
) -> tuple[MlpKernels, list[nn.Module], object, Tensor, dict[str, Tensor]]:
    modules = []
    for lane in range(NUM_LANES):
        module = build_model(config, (5,), num_outputs).double()
        generator = torch.Generator().manual_seed(lane)
        with torch.no_grad():
            for parameter in module.parameters():
                noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                parameter.copy_(0.5 * noise)
        modules.append(module)
    kernels = MlpKernels(modules[0], config, loss, torch.float64)
    rows = torch.zeros(NUM_LANES, kernels.canonical.size, dtype=torch.float64)
    for module, row in zip(modules, rows, strict=True):
        kernels.canonical.read(module, row)
    params = kernels.from_canonical(rows)
    grads = torch.full_like(params, 7.0)
    grads.mul_(0)
    buffers = {n: torch.stack([b] * NUM_LANES) for n, b in modules[0].named_buffers()}
    bound = kernels.bind(params, grads, buffers, [config] * NUM_LANES, smoothing)
    return kernels, modules, bound, grads, buffers


@settings(max_examples=40, deadline=None)
@given(
    depth=st.integers(0, 3),
    width=st.integers(1, 20),
    activation=st.sampled_from(["sigmoid", "tanh", "relu", "elu", "identity"]),
    batch_norm=st.sampled_from(["none", "before", "after"]),
    loss=st.sampled_from(["cross_entropy", "half_mse"]),
    num_rows=st.integers(2, 9),
    num_outputs=st.integers(2, 18),
    drops=st.booleans(),
    numbers=st.booleans(),
)
def test_loss_gradients_and_buffers_equal_autograds(
    depth: int,
    width: int,
    activation: str,
    batch_norm: str,
    loss: LossKind,
    num_rows: int,
    num_outputs: int,
    drops: bool,
    numbers: bool,
) -> None:
    config = ModelConfig.model_validate(
        {"depth": depth, "width": width, "activation": activation, "batch_norm": batch_norm}
    )
    numbers = numbers and loss == "half_mse"
    smoothing = [0.0, 0.0, 0.0] if numbers else [0.0, 0.1, 0.3]
    kernels, modules, bound, grads, buffers = stacked_kernels(config, loss, num_outputs, smoothing)
    generator = torch.Generator().manual_seed(9)
    x = torch.randn(NUM_LANES, num_rows, 5, generator=generator, dtype=torch.float64)
    if numbers:
        y = torch.randn(NUM_LANES, num_rows, num_outputs, generator=generator, dtype=torch.float64)
    else:
        y = torch.randint(num_outputs, (NUM_LANES, num_rows), generator=generator)
    masks = [
        2.0 * (torch.rand(NUM_LANES, num_rows, width, generator=generator) < 0.5).double()
        for _ in range(depth if drops else 0)
    ]
    target = kernels.targets(y.flatten(0, 1)).unflatten(0, (NUM_LANES, num_rows))
    losses = bound.gradients(x, target, masks)
    lane_grads = kernels.to_canonical(grads)
    for lane, module in enumerate(modules):
        dropouts = [part for part in module.modules() if isinstance(part, LaneDropout)]
        for layer, dropout in enumerate(dropouts):
            dropout.mask_source = lambda a, layer=layer, lane=lane: (
                masks[layer][lane] if masks else torch.ones_like(a)
            )
        expected = loss_function(loss)(module(x[lane]), y[lane], smoothing[lane])
        expected.backward()
        torch.testing.assert_close(losses[lane], expected.detach(), rtol=1e-11, atol=1e-12)
        for name, view in kernels.canonical.views(lane_grads).items():
            reference = module.get_parameter(name).grad
            torch.testing.assert_close(view[lane], reference, rtol=1e-9, atol=1e-11)
        for name, buffer in module.named_buffers():
            torch.testing.assert_close(buffers[name][lane], buffer, rtol=1e-11, atol=1e-12)
        module.eval()
        outputs = bound.outputs(x[0])[lane]
        torch.testing.assert_close(outputs, module(x[0]).detach(), rtol=1e-10, atol=1e-11)


def test_padded_outputs_get_no_gradient() -> None:
    config = ModelConfig(depth=1, width=8)
    kernels, _, bound, grads, _ = stacked_kernels(config, "cross_entropy", 10, [0.0] * NUM_LANES)
    x = torch.randn(NUM_LANES, 6, 5, dtype=torch.float64)
    target = kernels.targets(torch.arange(6)).expand(NUM_LANES, 6, -1).clone()
    bound.gradients(x, target, [])
    padded = kernels.layout.views(grads)
    assert padded["head.weight"].shape == (NUM_LANES, 16, 8)
    assert padded["head.weight"][:, :10].abs().sum() > 0
    assert padded["head.weight"][:, 10:].abs().sum() == 0
    assert padded["head.bias"][:, 10:].abs().sum() == 0


@pytest.mark.parametrize("loss", ["cross_entropy", "half_mse"])
def test_logits_as_large_as_1e4_give_finite_losses(loss: LossKind) -> None:
    config = ModelConfig(depth=0)
    kernels, _, bound, grads, _ = stacked_kernels(config, loss, 10, [0.0] * NUM_LANES)
    x = 1e4 * torch.randn(NUM_LANES, 6, 5, dtype=torch.float64)
    target = kernels.targets(torch.arange(6)).expand(NUM_LANES, 6, -1).clone()
    assert bound.gradients(x, target, []).isfinite().all()
    assert grads.isfinite().all()
