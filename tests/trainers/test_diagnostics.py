import math

import pytest
import torch

from trainers.diagnostics import layer_signals, update_to_weight_ratio
from trainers.models import Mlp


def _with_bias(activation: str, bias: float) -> Mlp:
    model = Mlp((4,), 2, depth=2, width=8, activation=activation)
    with torch.no_grad():
        model.layers[0].linear.bias.fill_(bias)
    return model


def test_a_bias_of_minus_ten_kills_every_relu_but_no_elu():
    x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    dead = layer_signals(_with_bias("relu", -10.0), x)[0]
    assert (dead.name, dead.dead_share, dead.saturated_share, dead.std) == ("layers.0.act", 1, 1, 0)
    assert layer_signals(_with_bias("elu", -10.0), x)[0].dead_share == 0
    assert layer_signals(_with_bias("relu", 10.0), x)[0].dead_share == 0


@pytest.mark.parametrize(("bias", "share"), [(0.0, 0.0), (20.0, 1.0)])
def test_saturation_of_a_sigmoid(bias, share):
    x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    assert layer_signals(_with_bias("sigmoid", bias), x)[0].saturated_share == share


def test_measuring_leaves_no_hook_and_the_mode_as_it_was():
    model = Mlp((4,), 2, dropout=0.5).train()
    signals = layer_signals(model, torch.randn(8, 4))
    assert [signal.name for signal in signals] == ["layers.0.act", "layers.1.act"]
    assert model.training
    assert not any(module._forward_hooks for module in model.modules())


def test_update_ratio_is_the_quotient_of_norms():
    before = {"w": torch.full((2, 2), 2.0), "b": torch.ones(2), "z": torch.zeros(2, 2)}
    after = {"w": torch.full((2, 2), 2.1), "b": torch.zeros(2), "z": torch.ones(2, 2)}
    ratios = update_to_weight_ratio(before, after)
    assert ratios["w"] == pytest.approx(0.05, rel=1e-5)
    assert math.isinf(ratios["z"])
    assert "b" not in ratios
    assert update_to_weight_ratio(before, before)["z"] == 0
