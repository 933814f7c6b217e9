"""Dense connections and capsules against their formulas."""

import pytest
import torch

from trainers.config import InitConfig, ModelConfig, TrialConfig
from trainers.errors import ConfigError
from trainers.flops import count_params
from trainers.initialisation import initialise
from trainers.models import build_model
from trainers.models.capsule import CapsuleNet, DynamicRouting, squash
from trainers.models.dense import DenseNet


def test_each_layer_reads_the_input_and_all_layers_before_it():
    model = DenseNet((2, 3), 4, depth=3, width=5, activation="tanh").double()
    x = torch.randn(7, 2, 3, dtype=torch.float64)
    seen = [x.flatten(1)]
    for layer in model.layers:
        seen.append(torch.tanh(layer.linear(torch.cat(seen, 1))))
    torch.testing.assert_close(model(x), model.head(torch.cat(seen, 1)))


@pytest.mark.parametrize("depth", [0, 1, 4])
def test_parameters_of_a_dense_net_in_closed_form(depth):
    d, k, classes = 6, 5, 3
    model = build_model(ModelConfig(kind="dense", depth=depth, width=k), (d,), classes)
    layers = sum((d + i * k + 1) * k for i in range(depth))
    assert count_params(model)[0] == layers + (d + depth * k + 1) * classes


def test_every_layer_gets_a_gradient_straight_from_the_head():
    """With the paths between hidden layers cut, only the direct ones are left."""
    model = DenseNet((6,), 3, depth=4, width=5)
    with torch.no_grad():
        for index, layer in enumerate(model.layers):
            layer.linear.weight[:, 6 : 6 + 5 * index] = 0
    model(torch.randn(8, 6)).square().sum().backward()
    assert all(layer.linear.weight.grad[:, :6].any() for layer in model.layers)


def test_squash_keeps_directions_and_lengths_below_1():
    s = torch.randn(50, 8, dtype=torch.float64) * torch.logspace(-3, 3, 50)[:, None]
    v, length = squash(s), s.norm(dim=-1)
    torch.testing.assert_close(v.norm(dim=-1), length**2 / (1 + length**2), rtol=1e-2, atol=1e-6)
    assert (v.norm(dim=-1) < 1).all()
    torch.testing.assert_close(torch.cosine_similarity(s, v), torch.ones(50, dtype=torch.float64))


@pytest.mark.parametrize("iterations", [1, 3, 5])
def test_routing_coefficients_sum_to_1_for_each_primary_capsule(iterations):
    _, c = DynamicRouting(iterations).route(torch.randn(4, 6, 3, 5, dtype=torch.float64))
    assert c.shape == (4, 6, 3)
    torch.testing.assert_close(c.sum(-1), torch.ones(4, 6, dtype=torch.float64))
    if iterations == 1:
        torch.testing.assert_close(c, torch.full_like(c, 1 / 3))


def test_routing_is_procedure_1_of_the_paper_written_with_loops():
    u_hat = torch.randn(2, 4, 3, 5, dtype=torch.float64)
    s, _ = DynamicRouting(3).route(u_hat)
    for row in range(2):
        b = [[0.0] * 3 for _ in range(4)]
        for _ in range(3):
            c = [torch.tensor(logits, dtype=torch.float64).softmax(0) for logits in b]
            total = [sum(c[i][j] * u_hat[row, i, j] for i in range(4)) for j in range(3)]
            v = [t * t.norm() / (1 + t.norm() ** 2) for t in total]
            b = [[b[i][j] + float(u_hat[row, i, j] @ v[j]) for j in range(3)] for i in range(4)]
        for j in range(3):
            torch.testing.assert_close(s[row, j], total[j], rtol=1e-6, atol=1e-8)


def test_agreement_attracts_a_capsule():
    """Three capsules agree on class 0 and contradict each other on class 1."""
    u_hat = torch.zeros(1, 3, 2, 2)
    u_hat[0, :, 0] = torch.tensor([1.0, 0.0])
    u_hat[0, :, 1] = torch.tensor([[1.0, 0.0], [-1.0, 0.1], [0.0, -1.0]])
    c = [DynamicRouting(n).route(u_hat)[1][0, :, 0].min().item() for n in (1, 2, 3, 5)]
    assert c == sorted(c)
    assert c[-1] > c[0] + 0.1


def test_outputs_are_the_log_odds_of_the_class_capsules_lengths():
    model = CapsuleNet((1, 16), 3, depth=1, width=8, capsule_size=4).double()
    x = torch.randn(5, 1, 16, dtype=torch.float64)
    length = squash(model.routing(model.predictions(model.primary_capsules(x)))).norm(dim=-1)
    torch.testing.assert_close(model(x), torch.logit(length), rtol=1e-3, atol=1e-3)


def test_a_capsule_net_without_signal_has_finite_outputs_and_slopes():
    model = build_model(ModelConfig(kind="capsule", width=8, depth=1), (1, 16), 3)
    initialise(model, InitConfig(kind="zeros"), "relu", 0)
    outputs = model(torch.zeros(4, 1, 16))
    outputs.sum().backward()
    assert torch.isfinite(outputs).all()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize("shape", [(1, 40), (2, 9, 12)])
def test_parameters_of_a_capsule_net_in_closed_form(shape):
    width, size, class_size, classes, depth, kernel = 8, 4, 6, 3, 1, 5
    model = CapsuleNet(
        shape, classes, depth=depth, width=width, kernel_size=kernel,
        capsule_size=size, class_capsule_size=class_size,
    )  # fmt: skip
    field = kernel ** (len(shape) - 1)
    convs = (shape[0] * field + 1) * width + depth * (width * field + 1) * width
    positions = torch.Size([-(-size // 2 ** (depth + 1)) for size in shape[1:]]).numel()
    capsules = positions * width // size
    assert count_params(model)[0] == convs + capsules * classes * class_size * size


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "capsule", "width": 12}, "capsule_size` must divide .*8 and 12; try width 8"),
        ({"kind": "cnn", "routing_iterations": 2}, "belongs to `model.kind: capsule`"),
        ({"kind": "capsule", "routing_iterations": 0}, "greater than or equal to 1"),
    ],
)
def test_values_that_cannot_work_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        TrialConfig.from_mapping({"model": values})


def test_inputs_that_cannot_work_are_refused():
    with pytest.raises(ConfigError, match=r"`model.kind: capsule` needs.*\(30,\)"):
        build_model(ModelConfig(kind="capsule"), (30,), 2)
    with pytest.raises(ConfigError, match=r"halves each side 4 times.*lower `model.depth`"):
        build_model(ModelConfig(kind="capsule", depth=3), (1, 8, 8), 2)
