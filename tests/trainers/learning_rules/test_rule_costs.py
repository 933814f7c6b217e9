"""What rules cost: counted FLOPs in closed form, and time beside autograd."""

import time
from statistics import median

import pytest
import torch

from trainers.config import TrialConfig
from trainers.data import load
from trainers.flops import flops_per_epoch
from trainers.learning_rule_config import LearningRuleConfig
from trainers.learning_rules import Lanes, Net
from trainers.learning_rules.credit import Backprop
from trainers.models import Mlp

D, H, C, B = 64, 8, 10, 50
FORWARD = 2 * (D * H + H * H + H * C)
"""FLOPs of one row's forward pass; weight gradients cost the same."""
DOWN = 2 * (H * H + H * C)
"""Of taking the error through every layer but the first."""


@pytest.mark.parametrize(
    ("rule", "per_row"),
    [
        ({"kind": "backprop"}, 2 * FORWARD + DOWN),
        ({"kind": "lecture_backprop"}, 2 * FORWARD + DOWN),
        ({"kind": "feedback_alignment"}, 2 * FORWARD + DOWN),
        ({"kind": "direct_feedback_alignment"}, 2 * FORWARD + 2 * 2 * C * H),
        ({"kind": "forward_only"}, FORWARD + 2 * H * C),
        ({"kind": "weight_perturbation", "num_directions": 3}, 4 * FORWARD),
        ({"kind": "node_perturbation", "num_directions": 3}, 5 * FORWARD),
        ({"kind": "evolution", "num_directions": 3}, 7 * FORWARD),
        (
            {"kind": "predictive_coding", "num_sweeps": 5},
            FORWARD + 6 * FORWARD + 5 * DOWN + FORWARD,
        ),
    ],
)
def test_flops_of_a_rule_are_those_of_its_products(rule, per_row):
    config = TrialConfig.from_mapping(
        {
            "data.num_train": 200,
            "model": {"width": H, "depth": 2},
            "train.batch_size": B,
            "learning_rule": rule,
        }
    )
    assert flops_per_epoch(config, load(config.data)) == 200 * per_row


@pytest.mark.benchmark
def test_backprop_written_out_costs_at_most_1_3_times_autograd():
    torch.manual_seed(0)
    model = Mlp((64,), 10, depth=3, width=128, activation="tanh")
    net = Net.of(model, "tanh", "cross_entropy")
    x, y = torch.randn(64, 64), torch.randint(10, (64,))
    target = torch.nn.functional.one_hot(y, 10).float()[None]
    rule = Backprop(LearningRuleConfig())

    def autograd() -> None:
        model.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(model(x), y).backward()

    def written_out() -> None:
        with torch.no_grad():
            rule.updates(net, x[None], target, Lanes())

    ratios = []
    for _ in range(15):
        seconds = []
        for step in (autograd, written_out):
            began = time.perf_counter()
            for _ in range(40):
                step()
            seconds.append(time.perf_counter() - began)
        ratios.append(seconds[1] / seconds[0])
    print(f"written out / autograd: {median(ratios):.3f}")
    assert median(ratios) < 1.3
