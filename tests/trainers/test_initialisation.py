import math

import pytest
import torch
from torch import nn

from trainers.config import InitConfig, ModelConfig
from trainers.diagnostics import is_well_behaved, layer_signals
from trainers.initialisation import automatic_kind, initialise
from trainers.losses import half_mse
from trainers.models import Mlp, build_model

FAN_IN, FAN_OUT = 400, 300


def _layer(kind: str, seed: int = 0, scale: float = 1.0, activation: str = "relu") -> nn.Linear:
    layer = nn.Linear(FAN_IN, FAN_OUT)
    initialise(layer, InitConfig(kind=kind, scale=scale), activation, seed)
    return layer


@pytest.mark.parametrize(
    ("kind", "variance"),
    [
        ("uniform", 1 / (3 * FAN_IN)),
        ("torch", 1 / (3 * FAN_IN)),
        ("xavier", 2 / (FAN_IN + FAN_OUT)),
        ("he", 2 / FAN_IN),
        ("too_small", 0.01 / FAN_IN),
        ("too_large", 100 / FAN_IN),
    ],
)
def test_weights_have_the_variance_in_closed_form(kind, variance):
    weight = _layer(kind).weight.detach().double()
    # 120,000 draws: the standard error of a variance is under 0.5 %.
    assert weight.var().item() == pytest.approx(variance, rel=0.02)
    assert abs(weight.mean().item()) < 4 * math.sqrt(variance / weight.numel())


@pytest.mark.parametrize(
    ("kind", "bound"),
    [("uniform", 1 / math.sqrt(FAN_IN)), ("xavier", math.sqrt(6 / (FAN_IN + FAN_OUT)))],
)
def test_uniform_draws_fill_their_bounds(kind, bound):
    weight = _layer(kind).weight
    assert 0.999 * bound < weight.abs().max().item() <= bound * (1 + 1e-6)


def test_uniform_has_the_bounds_of_torchs_default_for_weights_and_biases():
    torchs, ours = nn.Linear(FAN_IN, FAN_OUT), _layer("torch")
    for name in ("weight", "bias"):
        reach = [getattr(layer, name).abs().max().item() for layer in (torchs, ours)]
        assert reach[0] == pytest.approx(reach[1], rel=0.02)


def test_he_and_xavier_agree_with_torchs_on_convolutions():
    ours, theirs = nn.Conv2d(16, 64, 3), nn.Conv2d(16, 64, 3)
    for kind, torch_init in (
        ("he", lambda w: nn.init.kaiming_normal_(w, nonlinearity="relu")),
        ("xavier", nn.init.xavier_uniform_),
    ):
        initialise(ours, InitConfig(kind=kind), "relu", 1)
        torch_init(theirs.weight)
        assert ours.weight.std().item() == pytest.approx(theirs.weight.std().item(), rel=0.05)


def test_zeros_constant_and_scale():
    assert not _layer("zeros").weight.any()
    assert (_layer("constant").weight == torch.tensor(0.1)).all()
    torch.testing.assert_close(_layer("he", scale=3.0).weight, 3 * _layer("he").weight)
    assert not _layer("he").bias.any()


@pytest.mark.parametrize(
    ("activation", "kind"),
    [
        ("sigmoid", "xavier"),
        ("tanh", "xavier"),
        ("identity", "xavier"),
        ("relu", "he"),
        ("elu", "he"),
    ],
)
def test_auto_follows_the_activation(activation, kind):
    assert automatic_kind(activation)[0] == kind
    ours = _layer("auto", activation=activation)
    assert torch.equal(ours.weight, _layer(kind).weight)


def test_the_draw_depends_on_the_seed_alone():
    config = ModelConfig(batch_norm="before")
    models = [build_model(config, (12,), 3) for _ in range(3)]
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    for model, seed in zip(models, (5, 5, 6), strict=True):
        initialise(model, InitConfig(), "relu", seed)
    assert torch.rand(1) == expected  # the global generator was not used
    first, same, other = (model.state_dict() for model in models)
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])
    assert not torch.equal(
        first["layers.0.linear.weight"][:, :3], first["layers.1.linear.weight"][:128, :3]
    )


def test_any_seed_is_taken():
    assert torch.equal(_layer("he", seed=2**64 + 5).weight, _layer("he", seed=5).weight)


def test_initialising_again_undoes_training():
    model = build_model(ModelConfig(batch_norm="after"), (4,), 2)
    initialise(model, InitConfig(), "relu", 3)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model(torch.randn(8, 4))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    initialise(model, InitConfig(), "relu", 3)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_dtype_changes_only_the_rounding(dtype):
    reference, other = Mlp((6,), 3).double(), Mlp((6,), 3).to(dtype)
    for model in (reference, other):
        initialise(model, InitConfig(), "tanh", 11)
    for name, value in reference.state_dict().items():
        assert torch.equal(value.to(dtype), other.state_dict()[name])


def test_other_modules_start_by_their_own_rule_and_repeat():
    model = nn.Sequential(nn.Embedding(7, 5), nn.LayerNorm(5), nn.Flatten(), nn.Linear(10, 2))
    states = []
    for seed in (1, 1, 2):
        initialise(model, InitConfig(), "relu", seed)
        states.append(model[0].weight.detach().clone())
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])
    assert (model[1].weight == 1).all()


def test_attention_starts_anew_for_each_seed():
    model = nn.TransformerEncoderLayer(8, 2, dim_feedforward=16)
    starts = []
    for seed in (1, 1, 2):
        initialise(model, InitConfig(), "relu", seed)
        starts.append({name: value.clone() for name, value in model.named_parameters()})
    assert all(torch.equal(starts[0][name], starts[1][name]) for name in starts[0])
    for name in ("self_attn.in_proj_weight", "self_attn.out_proj.weight", "linear1.weight"):
        assert not torch.equal(starts[0][name], starts[2][name])


@pytest.mark.parametrize("kind", ["zeros", "constant"])
def test_equal_weights_keep_hidden_units_equal_through_training(kind):
    """Lecture, p. 55: the symmetry is never broken."""
    model = Mlp((5,), 2, depth=1, width=6, activation="sigmoid").double()
    initialise(model, InitConfig(kind=kind), "sigmoid", 0)
    x, y = torch.randn(20, 5).double(), torch.randn(20, 2).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for _ in range(5):
        optimizer.zero_grad()
        half_mse(model(x), y).backward()
        optimizer.step()
    hidden = model.layers[0].linear.weight
    assert hidden.abs().max() > 0
    torch.testing.assert_close(hidden, hidden[:1].expand_as(hidden))


def test_zero_init_with_relu_moves_only_the_output_bias():
    model = Mlp((5,), 2, depth=2, width=6)
    initialise(model, InitConfig(kind="zeros"), "relu", 0)
    half_mse(model(torch.randn(20, 5)), torch.randn(20, 2)).backward()
    moved = {name for name, p in model.named_parameters() if p.grad.any()}
    assert moved == {"head.bias"}


@pytest.mark.parametrize(
    ("activation", "kind", "first_std", "last_std", "well_behaved"),
    [
        ("tanh", "xavier", 0.63, 0.23, True),
        ("tanh", "too_small", 0.10, 1e-10, False),
        ("tanh", "too_large", 0.96, 0.96, True),
        ("relu", "he", 0.82, 0.67, True),
        ("relu", "too_large", 5.8, 2.5e8, False),
        ("sigmoid", "xavier", 0.21, 0.12, True),
    ],
)
def test_signal_through_ten_layers(activation, kind, first_std, last_std, well_behaved):
    """Depth 10, width 256, unit Gaussian input: independent numpy figures (lecture, p. 55-57)."""
    model = Mlp((256,), 1, depth=10, width=256, activation=activation)
    initialise(model, InitConfig(kind=kind), activation, 0)
    x = torch.randn(512, 256, generator=torch.Generator().manual_seed(0))
    signals = layer_signals(model, x)
    assert signals[0].std == pytest.approx(first_std, rel=0.1)
    assert math.log(signals[-1].std) == pytest.approx(math.log(last_std), abs=0.7)
    assert is_well_behaved(signals) == well_behaved


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is visible")
def test_the_device_does_not_change_the_draw():
    on_cpu, on_gpu = Mlp((6,), 3), Mlp((6,), 3).cuda()
    for model in (on_cpu, on_gpu):
        initialise(model, InitConfig(), "relu", 4)
    assert torch.equal(on_cpu.head.weight, on_gpu.head.weight.cpu())
