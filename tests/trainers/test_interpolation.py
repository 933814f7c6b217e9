"""The loss between two solutions (Goodfellow et al. 2015; the lecture's p. 35)."""

import copy

import numpy as np
import pytest
import torch

from trainers.config import TrialConfig
from trainers.data import load
from trainers.errors import ConfigError
from trainers.interpolation import Line, loss_between
from trainers.lanes.evaluation import to_module
from trainers.lanes.pack import train_pack
from trainers.lanes.plan import fixed_plan
from trainers.trial import Trial


def solutions(**values: object):
    """Two nets from different seeds after two epochs, so that running statistics differ."""
    config = TrialConfig.from_mapping(
        {
            "data.num_train": 200, "model.width": 8, "model.batch_norm": "before",
            "train.epochs": 2, "train.precision": "float64", **values,
        }
    )  # fmt: skip
    dataset = load(config.data)
    trials = [Trial(trial_id=seed, config=config, seed=seed) for seed in (0, 1)]
    plan = fixed_plan(trials, dataset, tier="lane_by_lane", fuse_width=1)
    states = train_pack(trials, None, 2, dataset=dataset, plan=plan).states
    nets = [to_module(state, trial, dataset) for state, trial in zip(states, trials, strict=True)]
    return *nets, config, dataset


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"model.kind": "resmlp", "model.depth": 2},
        {"model.kind": "cnn", "model.depth": 1, "model.width": 4, "data.name": "mnist1d"},
    ],
)
def test_every_point_is_the_loss_of_the_mixed_module(values):
    """Written-out kernels, vmap and one after the other; statistics are mixed with weights."""
    first, second, config, dataset = solutions(**values)
    line = loss_between(first, second, config, dataset, size=21, num_rows=60)
    x, y = dataset.x_train[:60].double(), dataset.y_train[:60]
    mixed = copy.deepcopy(first).eval()
    for place in (0, 7, 18, 20):
        t = float(line.position[place])
        state = {
            name: (1 - t) * value + t * second.state_dict()[name]
            for name, value in first.state_dict().items()
            if value.is_floating_point()
        }
        mixed.load_state_dict(state, strict=False)
        with torch.no_grad():
            expected = torch.nn.functional.cross_entropy(mixed(x), y)
        assert line.loss[place] == pytest.approx(float(expected), rel=1e-9)
    assert (line.position[0], line.position[-1]) == (0.0, 1.0)


def test_the_barrier_is_measured_above_the_chord():
    position = np.linspace(0, 1, 5)
    assert Line(position=position, loss=1 + position).barrier == pytest.approx(0)
    assert Line(position=position, loss=1 + position**2).barrier == pytest.approx(0)
    hill = 1 + position + np.array([0, 0.2, 0.5, 0.1, 0])
    assert Line(position=position, loss=hill).barrier == pytest.approx(0.5)


def test_between_the_two_ends_of_a_convex_loss_there_is_no_barrier():
    first, second, config, dataset = solutions(
        **{"model.depth": 0, "model.batch_norm": "none", "optimizer.lr": 0.1}
    )
    line = loss_between(first, second, config, dataset)
    assert line.barrier == pytest.approx(0, abs=1e-12)


def test_nets_of_different_shapes_and_lines_without_inner_points_are_refused():
    first, second, config, dataset = solutions()
    other = solutions(**{"model.width": 9})[1]
    with pytest.raises(ConfigError, match=r"same shape, but only one .* of shape \(10, 8"):
        loss_between(first, other, config, dataset)
    with pytest.raises(ConfigError, match="at least 3 points, but got 2; try 25"):
        loss_between(first, second, config, dataset, size=2)
