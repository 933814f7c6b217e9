"""A mixture of experts against the dense mixture and the MLP, its load, its FLOPs, its size."""

import pytest
import torch

from trainers.config import DataConfig, ModelConfig, TrialConfig
from trainers.data import load
from trainers.errors import ConfigError
from trainers.flops import count_flops, count_params
from trainers.lanes.memory import lane_bytes
from trainers.models import build_model
from trainers.models.auxiliary import layers_with_auxiliary_loss, take_auxiliary_loss
from trainers.models.mlp import Mlp
from trainers.models.moe import MixtureLayer, MixtureOfExperts, load_balance_loss, num_moe_params

CLOSE = {"rtol": 0, "atol": 1e-12}


def layer_of(top_k: int, num_experts: int = 5) -> MixtureLayer:
    torch.manual_seed(0)
    return MixtureLayer(
        7, 6, num_experts=num_experts, top_k=top_k, balance=0.5, activation="tanh"
    ).double()


@pytest.mark.parametrize("top_k", [1, 2, 5])
def test_gates_sum_to_1_and_fall_on_the_largest_logits(top_k: int) -> None:
    layer = layer_of(top_k)
    logits = layer.gate(torch.randn(9, 7, dtype=torch.float64))
    chosen, gates = layer.route(logits)
    torch.testing.assert_close(gates.sum(1), torch.ones(9, dtype=torch.float64), **CLOSE)
    left_out = logits.scatter(1, chosen, -torch.inf).amax(1)
    assert bool((logits.gather(1, chosen).amin(1) >= left_out).all())


@pytest.mark.parametrize("top_k", [1, 3, 5])
def test_the_layer_is_a_loop_over_rows_and_all_experts_are_the_dense_mixture(top_k: int) -> None:
    layer = layer_of(top_k).eval()
    x = torch.randn(9, 7, dtype=torch.float64)
    expected = []
    for row in x:
        logits = layer.gate(row)
        chosen = sorted(range(5), key=(-logits.detach()).tolist().__getitem__)[:top_k]
        weights = torch.softmax(logits[chosen], 0)
        experts = [torch.tanh(layer.experts[e](row)) for e in chosen]
        expected.append(sum(w * y for w, y in zip(weights, experts, strict=True)))
    torch.testing.assert_close(layer(x), torch.stack(expected), **CLOSE)
    if top_k == 5:
        everyone = torch.stack([torch.tanh(expert(x)) for expert in layer.experts], 1)
        dense = (torch.softmax(layer.gate(x), 1).unsqueeze(-1) * everyone).sum(1)
        torch.testing.assert_close(layer(x), dense, **CLOSE)


def test_one_expert_is_an_ordinary_mlp() -> None:
    mixture = MixtureOfExperts((1, 8), 3, depth=2, width=6, num_experts=1, top_k=1).double().eval()
    mlp = Mlp((1, 8), 3, depth=2, width=6).double().eval()
    for own, other in zip(mixture.layers, mlp.layers, strict=True):
        other.linear.load_state_dict(own[0].experts[0].state_dict())
    mlp.head.load_state_dict(mixture.head.state_dict())
    x = torch.randn(4, 1, 8, dtype=torch.float64)
    torch.testing.assert_close(mixture(x), mlp(x), **CLOSE)


def test_the_load_balance_loss_is_1_where_even_and_the_experts_number_where_one_does_all() -> None:
    even = torch.eye(4, dtype=torch.float64) * 1e3
    assert float(load_balance_loss(even, even.topk(1).indices)) == pytest.approx(1)
    uneven = torch.tensor([[1e3, 0.0, 0.0, 0.0]] * 6, dtype=torch.float64)
    assert float(load_balance_loss(uneven, uneven.topk(1).indices)) == pytest.approx(4)


def test_balance_is_left_behind_in_training_only_and_taken_once() -> None:
    model = MixtureOfExperts((7,), 3, depth=2, width=6, balance=0.5)
    x = torch.randn(9, 7)
    model.eval()(x)
    assert take_auxiliary_loss(layers_with_auxiliary_loss(model)) is None
    model.train()(x)
    left = sum(layer[0].auxiliary_loss.item() for layer in model.layers)
    assert left > 0
    assert take_auxiliary_loss(layers_with_auxiliary_loss(model)).item() == pytest.approx(left)  # type: ignore[union-attr]
    assert take_auxiliary_loss(layers_with_auxiliary_loss(model)) is None


def test_training_on_the_balance_alone_evens_the_load() -> None:
    layer = layer_of(top_k=1, num_experts=4)
    with torch.no_grad():
        layer.gate.bias.copy_(torch.tensor([2.0, 0.0, 0.0, 0.0]))
    x = torch.randn(256, 7, dtype=torch.float64)
    optimizer = torch.optim.Adam(layer.gate.parameters(), lr=0.05)

    def largest_share() -> float:
        chosen, _ = layer.route(layer.gate(x))
        return float(torch.bincount(chosen.flatten(), minlength=4).max()) / 256

    before = largest_share()
    for _ in range(100):
        layer.train()(x)
        optimizer.zero_grad()
        take_auxiliary_loss([layer]).backward()  # type: ignore[union-attr]
        optimizer.step()
    assert before > 0.6
    assert largest_share() < 0.4


def test_the_experts_flops_are_proportional_to_k_and_do_not_grow_with_their_number() -> None:
    def expert_flops(top_k: int, num_experts: int) -> int:
        config = ModelConfig(kind="moe", depth=1, width=16, num_experts=num_experts, top_k=top_k)
        flops = count_flops(build_model(config, (10,), 3), (10,), 4).forward
        return flops - 2 * 4 * (10 * num_experts + 16 * 3)  # without gate and head

    assert expert_flops(1, 8) == 2 * 4 * 10 * 16
    assert [expert_flops(k, 8) for k in (2, 4, 8)] == [k * expert_flops(1, 8) for k in (2, 4, 8)]
    assert expert_flops(2, 16) == expert_flops(2, 4)


@pytest.mark.parametrize(("depth", "num_experts"), [(0, 3), (1, 4), (3, 2)])
def test_sizes_in_closed_form(depth: int, num_experts: int) -> None:
    config = ModelConfig(kind="moe", depth=depth, width=5, num_experts=num_experts)
    size = num_moe_params(12, 4, depth=depth, width=5, num_experts=num_experts)
    assert count_params(build_model(config, (3, 4), 4)) == (size, size)


def test_more_experts_per_row_than_there_are_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"`model.top_k` must be <= .*got 5 and 4"):
        TrialConfig.from_mapping({"model": {"kind": "moe", "top_k": 5}})
    with pytest.raises(ConfigError, match=r"`model.num_experts` belongs to `model.kind: moe`"):
        TrialConfig.from_mapping({"model": {"kind": "mlp", "num_experts": 8}})


def test_the_gathered_weights_count_as_a_packs_memory() -> None:
    dataset = load(DataConfig(name="digits", num_train=100))

    def work_of(top_k: int) -> int:
        values = {"model": {"kind": "moe", "depth": 1, "width": 32, "top_k": top_k}}
        config = TrialConfig.from_mapping(values)
        module = build_model(config.model, dataset.input_shape, dataset.num_outputs)
        return lane_bytes(module, config, dataset)[1]

    gathered_bytes = 4 * 64 * (64 * 32)  # float32, one expert's weights for each of 64 rows
    assert work_of(2) - work_of(1) >= gathered_bytes
