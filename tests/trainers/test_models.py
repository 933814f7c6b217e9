import sys
import types

import pytest
import torch
from torch import nn

from trainers.config import ModelConfig
from trainers.errors import ConfigError
from trainers.models import Cnn, LaneDropout, Mlp, build_model


def _copy_weights(source: nn.Module, target: nn.Module) -> None:
    """Copy tensors in order: the two modules are the same but for their names."""
    for ours, theirs in zip(
        source.state_dict().values(), target.state_dict().values(), strict=True
    ):
        theirs.copy_(ours)


@pytest.mark.parametrize("place", ["none", "before", "after"])
def test_mlp_equals_the_same_layers_in_a_torch_sequential(place):
    torch.manual_seed(0)
    ours = Mlp((3, 4), 5, depth=2, width=8, activation="tanh", batch_norm=place, bn_momentum=0.2)
    norm = [[nn.BatchNorm1d(8, momentum=0.2)] if place != "none" else [] for _ in range(2)]
    block = [
        [
            nn.Linear(size, 8),
            *(norm[i] if place == "before" else []),
            nn.Tanh(),
            *(norm[i] if place == "after" else []),
        ]
        for i, size in enumerate((12, 8))
    ]
    theirs = nn.Sequential(nn.Flatten(), *block[0], *block[1], nn.Linear(8, 5))
    _copy_weights(ours, theirs)
    for _ in range(3):  # running statistics move along
        x = torch.randn(16, 3, 4)
        torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=1e-6)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x), rtol=0, atol=1e-6)
    gradients = [
        torch.autograd.grad(model(x).square().sum(), list(model.parameters()))
        for model in (ours, theirs)
    ]
    for ours_grad, theirs_grad in zip(*gradients, strict=True):
        torch.testing.assert_close(ours_grad, theirs_grad)


def test_depth_0_is_a_linear_model():
    model = build_model(ModelConfig(depth=0), (6,), 3)
    x = torch.randn(4, 6)
    torch.testing.assert_close(model(x), x @ model.head.weight.T + model.head.bias)


def test_without_activation_any_depth_is_one_affine_map():
    model = Mlp((6,), 3, depth=4, width=7, activation="identity").double()
    product = torch.eye(6, dtype=torch.float64)
    for layer in model.layers:
        product = layer.linear.weight @ product
    slope = torch.autograd.functional.jacobian(lambda x: model(x[None])[0], torch.randn(6).double())
    torch.testing.assert_close(slope, model.head.weight @ product)


def test_one_hidden_layer_has_hd_plus_2h_plus_1_parameters():
    model = Mlp((3,), 1, depth=1, width=5)
    assert sum(p.numel() for p in model.parameters()) == 5 * 3 + 2 * 5 + 1


@pytest.mark.parametrize(("shape", "conv"), [((1, 40), nn.Conv1d), ((3, 8, 12), nn.Conv2d)])
def test_cnn_equals_torch_layers_for_signals_and_images(shape, conv):
    torch.manual_seed(0)
    ours = Cnn(shape, 4, depth=2, width=3, batch_norm="before")
    pool = nn.MaxPool1d(2) if conv is nn.Conv1d else nn.MaxPool2d(2)
    norm = nn.BatchNorm1d if conv is nn.Conv1d else nn.BatchNorm2d
    theirs = nn.Sequential(
        conv(shape[0], 3, 3, padding=1), norm(3), nn.ReLU(), pool,
        conv(3, 6, 3, padding=1), norm(6), nn.ReLU(), pool,
        nn.Flatten(), nn.Linear(ours.head.in_features, 4),
    )  # fmt: skip
    _copy_weights(ours, theirs)
    x = torch.randn(5, *shape)
    torch.testing.assert_close(ours(x), theirs(x))


def test_cnn_refuses_flat_tables_and_too_many_blocks():
    with pytest.raises(ConfigError, match=r"input shape is \(30,\).*mlp"):
        build_model(ModelConfig(kind="cnn"), (30,), 2)
    with pytest.raises(ConfigError, match="at most 3 blocks, but got 4"):
        build_model(ModelConfig(kind="cnn", depth=4), (1, 8, 8), 2)
    build_model(ModelConfig(kind="cnn", depth=3, width=2), (1, 8, 8), 2)


def test_running_momentum_is_honoured_whichever_way_it_is_given():
    torchs = build_model(ModelConfig(batch_norm="after", bn_momentum=0.01), (4,), 2)
    lectures = build_model(ModelConfig(batch_norm="after", bn_decay=0.99), (4,), 2)
    for model in (torchs, lectures):
        assert model.layers[0].norm.momentum == pytest.approx(0.01)


def test_building_leaves_torchs_global_generator_alone():
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    build_model(ModelConfig(), (4,), 2)
    assert torch.rand(1) == expected


def test_dropout_alone_behaves_as_torchs():
    ours, theirs, x = LaneDropout(0.3), nn.Dropout(0.3), torch.randn(50, 40)
    torch.manual_seed(1)
    expected = theirs(x)
    torch.manual_seed(1)
    torch.testing.assert_close(ours(x), expected)
    assert ours.eval()(x) is x


def test_dropout_takes_its_mask_from_a_source_while_training_only():
    dropout, x = LaneDropout(0.0), torch.ones(2, 3)
    dropout.mask_source = lambda like: torch.full_like(like, 2.0)
    assert torch.equal(dropout(x), 2 * x)
    assert torch.equal(dropout.eval()(x), x)


def normalised_block(dropout=0.0):
    return build_model(
        ModelConfig(depth=1, width=6, batch_norm="before", activation="identity", dropout=dropout),
        (4,),
        3,
    ).double()


def test_scale_and_shift_can_undo_the_normalisation():
    """With gamma = sqrt(var + eps) and beta = mean it is the identity (lecture, p. 53)."""
    model, x = normalised_block(), torch.randn(40, 4, dtype=torch.float64)
    linear, norm = model.layers[0].linear, model.layers[0].norm
    assert torch.equal(norm.weight, torch.ones_like(norm.weight))
    assert torch.equal(norm.bias, torch.zeros_like(norm.bias))
    z = linear(x)
    with torch.no_grad():
        norm.weight.copy_((z.var(0, correction=0) + norm.eps).sqrt())
        norm.bias.copy_(z.mean(0))
    torch.testing.assert_close(norm(z), z, rtol=0, atol=1e-12)


def test_a_row_is_judged_alone_in_evaluation_but_by_its_batch_in_training():
    model, x = normalised_block(), torch.randn(40, 4, dtype=torch.float64)
    assert not torch.allclose(model(x)[:2], model(x[:2]))
    model.eval()
    torch.testing.assert_close(model(x)[:1], model(x[:1]), rtol=0, atol=1e-12)


def test_dropout_stands_behind_its_layers_norm_before_which_it_would_shift_the_variance():
    """Kept with chance 1/2 and doubled, numbers of mean 0 have twice the variance (Li, 2019)."""
    torch.manual_seed(0)
    x = torch.randn(20_000, 4, dtype=torch.float64)
    behind = normalised_block(dropout=0.5)
    linear, norm = behind.layers[0].linear, behind.layers[0].norm
    norm.momentum = 1.0
    behind(x)
    torch.testing.assert_close(norm.running_var, linear(x).var(0), rtol=1e-9, atol=0)
    before = nn.Sequential(LaneDropout(0.5), nn.BatchNorm1d(4, momentum=1.0)).double()
    before(x)
    spread = before.eval()(x).std(0)
    torch.testing.assert_close(spread, torch.full_like(spread, 0.5**0.5), rtol=0.03, atol=0)


class TinyNet(nn.Module):
    def __init__(self, input_shape, num_outputs, hidden=4):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(input_shape[0], hidden), nn.Linear(hidden, num_outputs))

    def forward(self, x):
        return self.net(x)


@pytest.fixture
def nets(monkeypatch):
    module = types.ModuleType("nets_of_a_user")
    module.TinyNet = TinyNet
    module.no_module = lambda shape, outputs: "not a module"
    module.number = 3
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module.__name__


def test_factory_gets_shape_outputs_and_the_other_model_keys(nets):
    config = ModelConfig(factory=f"{nets}:TinyNet", hidden=9)
    model = build_model(config, (6,), 2)
    assert model.net[0].out_features == 9
    again = build_model(config, (6,), 2)
    assert torch.equal(model.net[0].weight, again.net[0].weight)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("no_such_package.nets:make", "install the package"),
        ("{nets}:TinyNett", "did you mean `TinyNet`"),
        ("{nets}:number", "must name a function or class, but .* is a int"),
        ("{nets}:no_module", "must return a torch.nn.Module, but .* returned a str"),
        ("{nets}:TinyNet", r"called with \(\(6,\), 2, colour='red'\) and raised TypeError"),
    ],
)
def test_factory_errors_say_what_to_do(nets, path, message):
    extra = {"colour": "red"} if path.endswith(":TinyNet") else {}
    config = ModelConfig(factory=path.format(nets=nets), **extra)
    with pytest.raises(ConfigError, match=message):
        build_model(config, (6,), 2)
