"""What rules cost: counted FLOPs in closed form, and time beside autograd."""

import time
from statistics import median

import pytest
import torch

from trainers.config import TrialConfig
from trainers.data import load
from trainers.flops import flops_per_epoch
from trainers.lanes.pack import Pack
from trainers.lanes.plan import fixed_plan
from trainers.learning_rule_config import LearningRuleConfig
from trainers.learning_rules import Lanes, Net, make_rule
from trainers.learning_rules.credit import Backprop
from trainers.learning_rules.making import RULES, start_state_of
from trainers.models import Mlp
from trainers.models.local import LocalNet
from trainers.trial import Trial

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


@pytest.mark.parametrize(
    ("kind", "inverse_sizes"),
    [
        ("dtp", [(256, 256)] * 4),
        ("sdtp", [(256, 256)] * 4 + [(256, 10)]),
        ("ao_sdtp", [(256, 256)] * 4 + [(256, 10 + 128)]),
    ],
)
def test_target_propagation_adds_an_inverse_net_per_layer(kind, inverse_sizes):
    """The paper's net for MNIST, 784 - 5 x 256 - 10: 466,698 parameters of its own."""
    model = Mlp((784,), 10, depth=5, width=256, activation="tanh")
    assert sum(p.numel() for p in model.parameters()) == 466_698
    layers = Net.of(model, "tanh", "cross_entropy").layers
    state = start_state_of(
        make_rule(LearningRuleConfig(kind=kind)), layers, seed=0, dtype=torch.float32
    )
    own = [rows.numel() for name, rows in state.items() if name[0] in "Vc" and "." not in name]
    assert sum(own) == sum(below * above + below for below, above in inverse_sizes)


@pytest.mark.benchmark
@pytest.mark.parametrize("kind", sorted(set(RULES) - {"backprop", "cma_es"}))
def test_lanes_together_are_at_least_as_fast_as_alone(kind):
    config = TrialConfig.from_mapping(
        {
            "data.num_train": 512,
            "model": {"width": 32, "depth": 3, "activation": "tanh"},
            "learning_rule.kind": kind,
        }
    )
    dataset = load(config.data)
    trials = [Trial(trial_id=i, config=config, seed=i) for i in range(8)]
    packs = []
    with torch.no_grad():
        for lanes in ([trials], [[trial] for trial in trials]):
            packs.append(
                [
                    Pack(
                        own,
                        [None] * len(own),
                        dataset,
                        fixed_plan(own, dataset, tier="kernels", fuse_width=8),
                    )
                    for own in lanes
                ]
            )
        ratios = []
        for _ in range(7):
            together, alone = (sum(pack.train_once_more() for pack in own) for own in packs)
            ratios.append(alone / together)
    print(f"{kind}: 8 lanes together {median(ratios):.2f} times as fast as alone")
    assert median(ratios) > 0.95


@pytest.mark.benchmark
@pytest.mark.parametrize(
    "model",
    [
        Mlp((64,), 10, depth=3, width=128, activation="tanh"),
        LocalNet((1, 28, 28), 10, width=8, head_width=128, activation="tanh"),
        LocalNet((1, 28, 28), 10, width=8, head_width=128, activation="tanh", tied=True),
    ],
    ids=["mlp", "local", "conv"],
)
def test_backprop_written_out_costs_at_most_1_3_times_autograd(model):
    torch.manual_seed(0)
    shape = getattr(model, "input_shape", (64,))
    net = Net.of(model, "tanh", "cross_entropy")
    x, y = torch.randn(64, *shape), torch.randint(10, (64,))
    target = torch.nn.functional.one_hot(y, 10).float()[None]
    rule = Backprop(LearningRuleConfig())

    def autograd() -> None:
        model.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(model(x), y).backward()

    def written_out() -> None:
        with torch.no_grad():
            rule.updates(net, x.flatten(1)[None], target, Lanes())

    ratios = []
    for _ in range(15):
        seconds = []
        for step in (autograd, written_out):
            began = time.thread_time()
            for _ in range(20):
                step()
            seconds.append(time.thread_time() - began)
        ratios.append(seconds[1] / seconds[0])
    print(f"written out / autograd: {median(ratios):.3f}")
    assert median(ratios) < 1.3
