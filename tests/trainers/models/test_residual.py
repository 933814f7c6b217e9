"""Residual nets against their layers written out, and published parameter counts."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from trainers.config import ModelConfig, TrialConfig
from trainers.errors import ConfigError
from trainers.flops import count_params
from trainers.models import build_model
from trainers.models.residual import ResCnn, ResMlp


@pytest.mark.parametrize("skip", [True, False])
@pytest.mark.parametrize("batch_norm", ["none", "before"])
def test_a_residual_mlp_is_its_formula(skip, batch_norm):
    model = ResMlp((3, 2), 4, depth=2, width=5, batch_norm=batch_norm, skip=skip, activation="elu")
    state = {name: value.clone() for name, value in model.double().state_dict().items()}
    x = torch.randn(7, 3, 2, dtype=torch.float64)

    def layer(h, name, norm):
        h = F.linear(h, state[f"{name}.weight"], state.get(f"{name}.bias"))
        if batch_norm == "none":
            return h
        return F.batch_norm(h, None, None, state[f"{norm}.weight"], state[f"{norm}.bias"], True)

    h = F.elu(layer(x.flatten(1), "stem.0", "stem.1"))
    for block in ("blocks.0", "blocks.1"):
        branch = F.elu(layer(h, f"{block}.first", f"{block}.norm_first"))
        branch = layer(branch, f"{block}.second", f"{block}.norm_second")
        h = F.elu(branch + h if skip else branch)
    expected = F.linear(h, state["head.weight"], state["head.bias"])
    torch.testing.assert_close(model(x), expected, rtol=0, atol=1e-12)


def test_a_shortcut_subsamples_and_adds_empty_channels():
    model = ResCnn((1, 8, 8), 2, depth=1, width=4)
    x = torch.randn(3, 4, 8, 8)
    out = model.blocks[1].shortcut(x)
    assert out.shape == (3, 8, 4, 4)
    torch.testing.assert_close(out[:, :4], F.avg_pool2d(x, 1, stride=2))
    assert not out[:, 4:].any()
    assert isinstance(model.blocks[0].shortcut, nn.Identity)


@pytest.mark.parametrize(
    ("depth", "count"),
    [(3, 269_722), (5, 464_154), (7, 658_586), (9, 853_018), (18, 1_727_962)],
)
def test_resnets_for_cifar_have_the_published_number_of_parameters(depth, count):
    """He et al. (2015), table 6: 0.27, 0.46, 0.66, 0.85 and 1.7 million."""
    with torch.device("meta"):
        model = ResCnn((3, 32, 32), 10, depth=depth, width=16, batch_norm="before")
    assert count_params(model)[0] == count
    assert sum(isinstance(part, nn.Conv2d | nn.Linear) for part in model.modules()) == 6 * depth + 2


@pytest.mark.parametrize(
    ("values", "per_layer", "extra"),
    [({}, 1, 0), ({"batch_norm": "before"}, 2, 0), ({"scalars": True}, 0, 5)],
)
@pytest.mark.parametrize("skip", [True, False])
def test_parameters_in_closed_form(values, per_layer, extra, skip):
    """A skip connection costs none; a bias is 1 number a unit, a normalisation 2."""
    d, w, classes, depth = 6, 8, 3, 4
    model = build_model(
        ModelConfig(kind="resmlp", depth=depth, width=w, skip=skip, **values), (d,), classes
    )
    weights = d * w + 2 * depth * w * w + (w + 1) * classes
    scalars = extra * depth + (2 if extra else 0)
    assert count_params(model)[0] == weights + per_layer * w * (2 * depth + 1) + scalars
    with torch.device("meta"):
        conv = ResCnn((d, 12), classes, depth=depth, width=w, skip=skip, **values)
    convs = 3 * (d * w + 2 * depth * w * w + (w + (2 * depth - 1) * 2 * w) * 2 * w
                 + (2 * w + (2 * depth - 1) * 4 * w) * 4 * w)  # fmt: skip
    units = w + 2 * depth * (w + 2 * w + 4 * w)
    scalars = 3 * extra * depth + (2 if extra else 0)
    assert count_params(conv)[0] == convs + (4 * w + 1) * classes + per_layer * units + scalars


def test_54_blocks_are_110_layers():
    model = build_model(ModelConfig(kind="resmlp", depth=54, width=4), (3,), 2)
    assert sum(isinstance(part, nn.Linear) for part in model.modules()) == 110


def test_with_empty_branches_a_block_is_the_activation_of_its_input():
    model = ResMlp((6,), 3, depth=3, width=6)
    for block in model.blocks:
        nn.init.zeros_(block.second.weight)
        nn.init.zeros_(block.second.bias)
    x = torch.randn(4, 6)
    torch.testing.assert_close(model(x), model.head(model.stem(x)))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model.kind": "mlp", "model.skip": False}, "skip` belongs to .*resmlp or rescnn"),
        ({"model.kind": "resmlp", "model.batch_norm": "after"}, "stands before the activation"),
        (
            {"model.kind": "rescnn", "model.batch_norm": "before", "model.scalars": True},
            "keep one of them",
        ),
        ({"init.kind": "fixup"}, "got `model.kind` 'mlp'.*use resmlp or rescnn"),
        ({"init.kind": "fixup", "model.kind": "resmlp"}, "`model.scalars` False"),
        (
            {"init.kind": "fixup", "model": {"kind": "resmlp", "scalars": True, "skip": False}},
            "`model.skip` False",
        ),
    ],
)
def test_combinations_that_cannot_work_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        TrialConfig.from_mapping(values)


def test_inputs_that_cannot_work_are_refused():
    with pytest.raises(ConfigError, match=r"`model.kind: rescnn` needs.*\(30,\)"):
        build_model(ModelConfig(kind="rescnn"), (30,), 2)
    with pytest.raises(ConfigError, match=r"can be halved 1 times.*`model.kind: cnn`"):
        build_model(ModelConfig(kind="rescnn", width=2), (1, 2, 2), 2)
