"""Gradient checking: right gradients pass, and every planted mistake is found and named."""

from pathlib import Path

import pytest

from trainers.config import TrialConfig
from trainers.data import load
from trainers.errors import ConfigError
from trainers.gradient_check import check_gradients

MISTAKEN = """
import torch
from torch import nn


class HalfGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return grad / 2


class Net(nn.Module):
    def __init__(self, num_inputs, num_outputs):
        super().__init__()
        self.first = nn.Linear(num_inputs, 6)
        self.last = nn.Linear(6, num_outputs)

    def forward(self, x):
        return self.last(HalfGradient.apply(torch.tanh(self.first(x.flatten(1)))))


def build(input_shape, num_outputs):
    return Net(64, num_outputs)
"""


def checks_of(**values: object):
    config = TrialConfig.from_mapping({"data.num_train": 100, "model.width": 6, **values})
    return check_gradients(config, load(config.data), num_rows=8, per_tensor=6)


@pytest.mark.parametrize(
    "values",
    [
        {"regularisation.l1": 0.01, "regularisation.l2": 0.02, "model.dropout": 0.4},
        {"model.batch_norm": "before", "model.activation": "tanh"},
        {"model.batch_norm": "after", "model.activation": "elu", "train.loss": "half_mse"},
        {"regularisation.label_smoothing": 0.1, "model.activation": "sigmoid"},
        {"model.kind": "cnn", "model.depth": 1, "model.width": 2},
        {"model.kind": "resmlp", "model.depth": 2},
        {"model.kind": "gru", "model.depth": 1, "data.name": "mnist1d"},
        {"model.kind": "moe", "model.depth": 1},
    ],
)
def test_the_trainers_gradients_are_right(values):
    checks = checks_of(**values)
    assert checks
    for check in checks:
        assert check.passed, check.verdict
        assert check.verdict.startswith("right:")
        assert check.worst.largest_error < 1e-5


def test_perceptrons_are_checked_by_kernels_vmap_and_alone():
    assert [check.tier for check in checks_of()] == ["kernels", "vmap", "lane_by_lane"]


def test_a_wrong_backward_is_found_and_named(tmp_path: Path, monkeypatch):
    (tmp_path / "mistaken_net.py").write_text(MISTAKEN)
    monkeypatch.syspath_prepend(tmp_path)
    config = TrialConfig.from_mapping({"model.factory": "mistaken_net:build"})
    checks = check_gradients(config, load(config.data), num_rows=8, per_tensor=6)
    for check in checks:
        assert not check.passed
        assert "first.weight" in check.verdict
        assert "last.weight" not in check.verdict
        assert check.worst.numeric == pytest.approx(2 * check.worst.analytic, rel=1e-3)


def test_a_rule_whose_updates_are_no_gradient_is_refused():
    with pytest.raises(ConfigError, match="cos_backprop"):
        checks_of(**{"learning_rule.kind": "feedback_alignment"})
