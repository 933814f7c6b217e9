"""Locally connected nets against convolutions with tied weights (lecture, p. 34)."""

import pytest
import torch
from torch import nn

from trainers.config import InitConfig, ModelConfig, TrialConfig
from trainers.data import load
from trainers.errors import ConfigError
from trainers.flops import count_params
from trainers.initialisation import initialise
from trainers.lanes.memory import lane_bytes
from trainers.models import build_model
from trainers.models.local import LocallyConnected, LocalNet

PAGE_34 = {"kind": "local", "depth": 2, "width": 32, "head_width": 1024, "activation": "tanh"}


def tie(local: LocallyConnected, conv: nn.Module) -> None:
    """Give every position the convolution's kernel and bias."""
    channels = local.out_channels
    with torch.no_grad():
        kernel = conv.weight.flatten(1)[:, None]  # [O, 1, K]
        local.weight.view(channels, -1, kernel.shape[-1]).copy_(
            kernel.expand(-1, local.weight.shape[0] // channels, -1)
        )
        local.bias.view(channels, -1).copy_(conv.bias[:, None])


@pytest.mark.parametrize(
    ("channels", "sizes", "kernel_size", "stride"),
    [(1, (40,), 3, 2), (3, (11,), 5, 2), (2, (8, 8), 3, 2), (3, (7, 10), 5, 1), (2, (5, 9), 3, 3)],
)
def test_with_tied_weights_it_is_a_convolution(channels, sizes, kernel_size, stride):
    local = LocallyConnected(channels, 4, sizes, kernel_size=kernel_size, stride=stride).double()
    make = nn.Conv1d if len(sizes) == 1 else nn.Conv2d
    conv = make(channels, 4, kernel_size, stride=stride, padding=kernel_size // 2).double()
    tie(local, conv)
    x = torch.randn(3, channels, *sizes, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(local(x), conv(x), rtol=0, atol=1e-12)
    slopes = [torch.autograd.grad(layer(x).sin().sum(), x)[0] for layer in (local, conv)]
    torch.testing.assert_close(*slopes, rtol=0, atol=1e-12)


def test_the_untied_gradient_summed_over_positions_is_the_convolutions():
    local, conv = LocallyConnected(2, 3, (8, 6)).double(), nn.Conv2d(2, 3, 3, 2, 1).double()
    tie(local, conv)
    x = torch.randn(5, 2, 8, 6, dtype=torch.float64)
    for layer in (local, conv):
        layer(x).sin().sum().backward()
    summed = local.weight.grad.view(3, -1, 18).sum(1)
    torch.testing.assert_close(summed.view_as(conv.weight), conv.weight.grad, rtol=0, atol=1e-11)
    torch.testing.assert_close(local.bias.grad.view(3, -1).sum(1), conv.bias.grad)


def test_after_one_step_positions_no_longer_share_weights():
    local, conv = LocallyConnected(1, 2, (8,)), nn.Conv1d(1, 2, 3, 2, 1)
    tie(local, conv)
    optimizer = torch.optim.SGD(local.parameters(), lr=0.1)
    local(torch.randn(4, 1, 8)).square().sum().backward()
    optimizer.step()
    kernels = local.weight.view(2, 4, 3)
    assert (kernels - kernels[:, :1]).abs().amax() > 1e-3


def test_a_whole_net_equals_its_conv_twin_when_weights_are_tied():
    config = {"kind": "local", "depth": 2, "width": 3, "head_width": 7, "batch_norm": "before"}
    local = build_model(ModelConfig(**config), (2, 9, 8), 5).double()
    twin = build_model(ModelConfig(**config, tied=True), (2, 9, 8), 5).double()
    for ours, theirs in zip(local.layers, twin.layers, strict=True):
        tie(ours.local, theirs.conv)
    shared = {name: value for name, value in twin.state_dict().items() if ".conv." not in name}
    assert not local.load_state_dict(shared, strict=False).unexpected_keys
    x = torch.randn(6, 2, 9, 8, dtype=torch.float64)
    torch.testing.assert_close(local(x), twin(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("tied", "count"), [(False, 4_191_562), (True, 3_241_354)])
def test_the_nets_of_page_34_have_the_published_number_of_parameters(tied, count):
    model = build_model(ModelConfig(**PAGE_34, tied=tied), (1, 28, 28), 10)
    assert count_params(model)[0] == count


def test_the_fully_connected_nets_of_page_34_too():
    model = build_model(ModelConfig(kind="mlp", depth=5, width=256), (1, 28, 28), 10)
    assert count_params(model)[0] == 466_698
    model = build_model(ModelConfig(kind="mlp", depth=3, width=1024), (3, 32, 32), 10)
    assert count_params(model)[0] == 5_256_202


@pytest.mark.parametrize(("tied", "count"), [(False, 50_039_818), (True, 17_293_450)])
def test_the_papers_cifar_nets_have_the_published_number_of_parameters(tied, count):
    """Bartunov et al. (2018): 5 x 5 and 5 x 5 with stride 2, 3 x 3 with 1, 1024, 10."""
    layers: list[torch.nn.Module] = []
    channels, sizes = 3, (32, 32)
    with torch.device("meta"):
        for out, kernel, stride in ((64, 5, 2), (128, 5, 2), (256, 3, 1)):
            if tied:
                layers.append(torch.nn.Conv2d(channels, out, kernel, stride, kernel // 2))
            else:
                layers.append(
                    LocallyConnected(channels, out, sizes, kernel_size=kernel, stride=stride)
                )
            channels, sizes = out, tuple(-(-size // stride) for size in sizes)
        features = channels * sizes[0] * sizes[1]
        layers += [torch.nn.Linear(features, 1024), torch.nn.Linear(1024, 10)]
        model = torch.nn.Sequential(*layers)
    assert count_params(model)[0] == count


@pytest.mark.parametrize(("shape", "depth", "hidden"), [((1, 40), 3, 0), ((3, 9, 7), 2, 11)])
def test_parameters_in_closed_form(shape, depth, hidden):
    model = LocalNet(shape, 10, depth=depth, width=4, kernel_size=5, head_width=hidden)
    channels, sizes, total = shape[0], shape[1:], 0
    for index in range(depth):
        sizes = [-(-size // 2) for size in sizes]
        positions = torch.Size(sizes).numel()
        total += positions * 4 * 2**index * (channels * 5 ** len(sizes) + 1)
        channels = 4 * 2**index
    features = channels * torch.Size(sizes).numel()
    if hidden:
        total, features = total + (features + 1) * hidden, hidden
    assert count_params(model)[0] == total + (features + 1) * 10


@pytest.mark.parametrize("kind", ["he", "xavier", "torch"])
def test_both_twins_start_from_the_same_distribution(kind):
    config = {"kind": "local", "depth": 1, "width": 64, "kernel_size": 5}
    nets = [build_model(ModelConfig(**config, tied=tied), (8, 16, 16), 2) for tied in (False, True)]
    for net in nets:
        initialise(net, InitConfig(kind=kind), "relu", 3)
    local, conv = nets[0].layers[0].local, nets[1].layers[0].conv
    assert local.weight.std().item() == pytest.approx(conv.weight.std().item(), rel=0.03)
    assert local.bias.abs().max().item() == pytest.approx(conv.bias.abs().max().item(), rel=0.05)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "local", "kernel_size": 4}, "kernel_size` must be odd.*got 4; try 5"),
        ({"kind": "mlp", "tied": True}, "`model.tied` belongs to `model.kind: local`"),
        ({"kind": "cnn", "head_width": 8}, "`model.head_width` belongs to `model.kind: local`"),
    ],
)
def test_values_that_cannot_work_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        TrialConfig.from_mapping({"model": values})


def test_inputs_that_cannot_work_are_refused():
    with pytest.raises(ConfigError, match=r"`model.kind: local` needs.*\(30,\)"):
        build_model(ModelConfig(kind="local"), (30,), 2)
    for kind in ("local", "capsule"):
        with pytest.raises(ConfigError, match=r"kernel_size` must be <= .* 8 of .*got 9; try 7"):
            build_model(ModelConfig(kind=kind, kernel_size=9), (1, 8, 8), 2)
    with pytest.raises(ConfigError, match=r"can be halved 3 times.*lower `model.depth`"):
        build_model(ModelConfig(kind="local", depth=4, width=2), (1, 8, 8), 2)
    build_model(ModelConfig(kind="local", depth=3, width=2), (1, 8, 8), 2)


def test_receptive_fields_count_as_memory():
    """Patches are K times as large as what a layer puts out per channel."""
    work = {}
    for tied in (False, True):
        values = {"data.name": "digits", "model": {"kind": "local", "width": 2, "tied": tied}}
        config = TrialConfig.from_mapping(values)
        dataset = load(config.data)
        model = build_model(config.model, dataset.input_shape, dataset.num_outputs)
        itemsize, num_params = 4, count_params(model)[0]
        work[tied] = lane_bytes(model, config, dataset)[1] - itemsize * num_params
    patches = 9 * 16 + 18 * 4  # K * P of both layers
    assert work[False] - work[True] >= 4 * patches * 64
