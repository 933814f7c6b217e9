"""What each architecture is for, on mnist1d: better than an MLP of at least as many parameters."""

from statistics import mean
from typing import Any

import pytest

from trainers.config import TrialConfig
from trainers.data import load
from trainers.flops import count_params
from trainers.lanes.pack import train_pack
from trainers.lanes.plan import fixed_plan
from trainers.models import build_model
from trainers.trial import Trial

RATES = (3e-3, 1e-2)
SEEDS = (0, 1)


def trained(model: dict[str, Any], init: str = "auto") -> tuple[int, float]:
    """Return (parameters, validation error at the better rate, mean over seeds)."""
    configs = [
        TrialConfig.from_mapping(
            {
                "data": {"name": "mnist1d"},
                "model": model,
                "init": {"kind": init},
                "optimizer": {"kind": "adam", "lr": lr},
                "schedule": {"kind": "cosine"},
                "train": {"epochs": 15, "batch_size": 64},
            }
        )
        for lr in RATES
    ]
    dataset = load(configs[0].data)
    trials = [
        Trial(trial_id=len(SEEDS) * i + j, config=config, seed=seed)
        for i, config in enumerate(configs)
        for j, seed in enumerate(SEEDS)
    ]
    plan = fixed_plan(trials, dataset, tier="lane_by_lane", fuse_width=1)
    rows = train_pack(trials, None, 15, dataset=dataset, plan=plan).rows
    errors = [row.metrics["val_error"] for row in rows]
    means = [mean(errors[i : i + len(SEEDS)]) for i in range(0, len(errors), len(SEEDS))]
    net = build_model(configs[0].model, dataset.input_shape, dataset.num_outputs)
    return count_params(net)[0], min(means)


@pytest.mark.long
@pytest.mark.parametrize(
    ("model", "mlp", "margin"),
    [
        ({"kind": "local", "depth": 2, "width": 8}, {"depth": 2, "width": 64}, 0.03),
        ({"kind": "local", "tied": True, "depth": 3, "width": 8}, {"depth": 2, "width": 64}, 0.1),
        ({"kind": "dense", "depth": 5, "width": 16}, {"depth": 2, "width": 64}, 0.0),
        (
            {"kind": "rescnn", "depth": 1, "width": 8, "batch_norm": "before"},
            {"depth": 2, "width": 64},
            0.2,
        ),
        (
            {"kind": "capsule", "depth": 1, "width": 16, "kernel_size": 5, "capsule_size": 4,
             "class_capsule_size": 8},
            {"depth": 2, "width": 100},
            0.1,
        ),
    ],
    ids=["local", "tied", "dense", "rescnn", "capsule"],
)  # fmt: skip
def test_it_beats_an_mlp_of_at_least_as_many_parameters(model, mlp, margin):
    num_params, error = trained(model)
    mlp_params, mlp_error = trained({"kind": "mlp", **mlp})
    assert num_params <= mlp_params
    assert error < mlp_error - margin, (error, mlp_error)


@pytest.mark.long
def test_a_deep_residual_mlp_beats_the_same_layers_without_skip_connections():
    """26 layers of one width; with Fixup, as without normalisation He explodes over them."""
    residual = {"kind": "resmlp", "depth": 12, "width": 20, "scalars": True}
    num_params, error = trained(residual, "fixup")
    mlp_params, mlp_error = trained({"kind": "mlp", "depth": 25, "width": 20})
    assert num_params <= mlp_params
    assert error < mlp_error - 0.05, (error, mlp_error)
