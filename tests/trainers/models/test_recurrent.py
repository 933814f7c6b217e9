"""Written-out cells against torch's own layers, and closed-form sizes."""

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.utils.flop_counter import FlopCounterMode

from trainers.activations import activate
from trainers.config import Activation, ModelConfig, TrialConfig
from trainers.errors import ConfigError
from trainers.flops import count_flops, count_params
from trainers.models import build_model
from trainers.models.recurrent import RecurrentLayer, num_recurrent_params

LAYERS = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
PAIRS = [("rnn", "tanh"), ("rnn", "relu"), ("lstm", "tanh"), ("gru", "tanh")]
NAMES = {
    "weight_ih_l0": "input.weight",
    "bias_ih_l0": "input.bias",
    "weight_hh_l0": "recurrent.weight",
    "bias_hh_l0": "recurrent.bias",
}


@pytest.mark.parametrize(("cell", "activation"), PAIRS)
@pytest.mark.parametrize("steps", [1, 9])
def test_a_layer_and_its_gradients_equal_torchs(cell: str, activation: str, steps: int) -> None:
    torch.manual_seed(0)
    own = RecurrentLayer(cell, 5, 7, activation).double()  # type: ignore[arg-type]
    extra = {"nonlinearity": activation} if cell == "rnn" else {}
    torchs = LAYERS[cell](5, 7, batch_first=True, **extra).double()
    torchs.load_state_dict({name: own.state_dict()[ours] for name, ours in NAMES.items()})
    x = torch.randn(3, steps, 5, dtype=torch.float64, requires_grad=True)
    x_own = x.detach().clone().requires_grad_()
    weights = torch.randn(3, steps, 7, dtype=torch.float64)
    expected, found = torchs(x)[0], own(x_own)
    (expected * weights).sum().backward()
    (found * weights).sum().backward()
    close = {"rtol": 0, "atol": 1e-12}
    torch.testing.assert_close(found, expected, **close)
    torch.testing.assert_close(x_own.grad, x.grad, **close)
    for name, ours in NAMES.items():
        slope = own.get_parameter(ours).grad
        torch.testing.assert_close(slope, torchs.get_parameter(name).grad, **close)


@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
@pytest.mark.parametrize(("depth", "width"), [(1, 6), (3, 5)])
def test_sizes_in_closed_form(kind: str, depth: int, width: int) -> None:
    config = ModelConfig(kind=kind, depth=depth, width=width)  # type: ignore[arg-type]
    found = count_params(build_model(config, (2, 13), 4))
    size = num_recurrent_params(kind, 2, 4, depth=depth, width=width)  # type: ignore[arg-type]
    assert found == (size, size)
    torchs = LAYERS[kind](2, width, num_layers=depth)
    assert size == sum(p.numel() for p in torchs.parameters()) + (width + 1) * 4
    language = config.model_copy(update={"language_model": True})
    total, outside = count_params(build_model(language, (13,), 20))
    assert total == num_recurrent_params(kind, 2, 20, depth=depth, width=width, tokens=20)  # type: ignore[arg-type]
    assert outside == total - 20 * width


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "relu", "elu", "identity"])
def test_an_rnn_of_any_activation_has_autograds_gradients(activation: Activation) -> None:
    torch.manual_seed(0)
    layer = RecurrentLayer("rnn", 3, 4, activation).double()
    x = torch.randn(2, 6, 3, dtype=torch.float64)
    h, states = torch.zeros(2, 4, dtype=torch.float64), []
    for step in range(6):
        h = activate(activation, layer.input(x[:, step]) + layer.recurrent(h))
        states.append(h)
    expected = torch.stack(states, 1)
    weights = torch.randn_like(expected)
    by_autograd = torch.autograd.grad((expected * weights).sum(), list(layer.parameters()))
    found = layer(x)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    written_out = torch.autograd.grad((found * weights).sum(), list(layer.parameters()))
    for one, other in zip(written_out, by_autograd, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("kind", "gates"), [("rnn", 1), ("gru", 3), ("lstm", 4)])
def test_every_product_over_time_is_counted(kind: str, gates: int) -> None:
    steps, rows, features, width, classes = 5, 4, 2, 8, 3
    model = build_model(ModelConfig(kind=kind, depth=1, width=width), (features, steps), classes)  # type: ignore[arg-type]
    flops = count_flops(model, (features, steps), rows)
    per_step, head = 2 * rows * gates * width, 2 * rows * width * classes
    assert flops.forward == steps * per_step * (features + width) + head
    # Weights of the inputs, states at every step, and the recurrent weights but for the first.
    to_weights = steps * per_step * features + (steps - 1) * per_step * width
    assert flops.backward == to_weights + steps * per_step * width + 2 * head


@pytest.mark.parametrize("num_inputs", [1, 6])
def test_an_lstm_computes_the_same_with_torchs_kernel_and_written_out(num_inputs: int) -> None:
    torch.manual_seed(0)
    layer = RecurrentLayer("lstm", num_inputs, 7, "tanh")
    x, weights = torch.randn(5, 9, num_inputs), torch.randn(5, 9, 7)

    def states_and_slopes() -> list[torch.Tensor]:
        leaves = [x.clone().requires_grad_(), *layer.parameters()]
        layer.zero_grad()
        states = layer(leaves[0])
        (states * weights).sum().backward()
        return [states.detach(), *(leaf.grad for leaf in leaves)]  # type: ignore[misc]

    by_kernel = states_and_slopes()
    with FlopCounterMode(display=False) as counter:  # watched, so written out
        written_out = states_and_slopes()
    assert counter.get_total_flops() > 0
    for found, expected in zip(written_out, by_kernel, strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    own = {name: value.detach()[None] for name, value in layer.named_parameters()}
    (in_a_pack,) = vmap(lambda one: functional_call(layer, one, (x,)))(own)
    torch.testing.assert_close(in_a_pack, by_kernel[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["rnn", "gru", "lstm"])
def test_bfloat16_products_keep_gradients_in_float32(kind: str) -> None:
    torch.manual_seed(0)
    model = build_model(ModelConfig(kind=kind, depth=1, width=8), (2, 5), 3)  # type: ignore[arg-type]
    x = torch.randn(4, 2, 5)
    expected = torch.autograd.grad(model(x).square().sum(), list(model.parameters()))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = model(x)
    found = torch.autograd.grad(outputs.float().square().sum(), list(model.parameters()))
    for slope, exact in zip(found, expected, strict=True):
        assert slope.dtype == torch.float32
        assert float((slope - exact).norm()) <= 0.05 * float(exact.norm()) + 1e-3


def test_images_are_read_row_by_row() -> None:
    model = build_model(ModelConfig(kind="gru", width=4), (3, 6, 5), 2)
    assert model.layers[0][0].input.in_features == 15
    images = torch.randn(2, 3, 6, 5)
    rows = images.permute(0, 2, 1, 3).reshape(2, 6, 15)
    states = model.layers[1](model.layers[0](rows))
    torch.testing.assert_close(model.eval()(images), model.head(states[:, -1]))


def test_a_language_model_answers_before_it_sees() -> None:
    model = build_model(ModelConfig(kind="lstm", width=8, language_model=True), (10,), 30)
    tokens = torch.randint(0, 30, (3, 10)).float()
    changed = tokens.clone()
    changed[:, 6:] = 0
    before, after = model(tokens), model(changed)
    assert before.shape == (3, 10, 30)
    torch.testing.assert_close(before[:, :6], after[:, :6])
    assert not torch.allclose(before[:, 6:], after[:, 6:])


def test_bad_input_is_refused_with_what_would_work() -> None:
    with pytest.raises(ConfigError, match=r"`model.kind: gru` needs inputs with an order.*\(30,\)"):
        build_model(ModelConfig(kind="gru"), (30,), 2)
    with pytest.raises(ConfigError, match=r"`model.depth` of a rnn must be >= 1, but got 0"):
        build_model(ModelConfig(kind="rnn", depth=0), (1, 8), 2)
    with pytest.raises(ConfigError, match=r"`model.activation` belongs .*'elu' for gru; leave it"):
        TrialConfig.from_mapping({"model": {"kind": "gru", "activation": "elu"}})
    with pytest.raises(ConfigError, match=r"rows of tokens.*\(1, 8\)"):
        build_model(ModelConfig(kind="rnn", language_model=True), (1, 8), 2)


@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
def test_vmap_within_vmap_gives_each_net_alone(kind: str) -> None:
    torch.manual_seed(0)
    layers = [RecurrentLayer(kind, 2, 3, "tanh").double() for _ in range(4)]  # type: ignore[arg-type]
    params, _ = stack_module_state(layers)
    grid = {name: rows.detach().unflatten(0, (2, 2)) for name, rows in params.items()}
    x = torch.randn(5, 6, 2, dtype=torch.float64)

    def loss(own: dict[str, torch.Tensor]) -> torch.Tensor:
        return functional_call(layers[0], own, (x,)).square().sum()

    slopes = vmap(vmap(grad(loss)))(grid)
    for index, layer in enumerate(layers):
        alone = torch.autograd.grad(layer(x).square().sum(), list(layer.parameters()))
        for (name, _), slope in zip(layer.named_parameters(), alone, strict=True):
            found = slopes[name].flatten(0, 1)[index]
            torch.testing.assert_close(found, slope, rtol=0, atol=1e-12)
