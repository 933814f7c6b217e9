"""What attention and experts are for: looking up by content, and one function per region.

Both tasks are registered data sets; the nets compete with MLPs of at least as many parameters.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trainers.config import TrialConfig
from trainers.data import load, register
from trainers.flops import count_flops, count_params
from trainers.lanes.engines import supported_tiers
from trainers.lanes.pack import train_pack
from trainers.lanes.plan import fixed_plan
from trainers.models import build_model
from trainers.trial import Trial

ROWS, KEYS, VALUES, REGIONS, INPUTS = 5000, 8, 4, 8, 10


def pairs_to_recall() -> tuple[np.ndarray, np.ndarray]:
    """Return 8 (key, value) pairs in any order and then a key; the class is that key's value.

    Signals [N, channels, 9]: channels are the key, the value and the key asked for, one-hot.
    """
    random, rows = np.random.default_rng(0), np.arange(ROWS)
    order = random.random((ROWS, KEYS)).argsort(1)  # the key at each place
    values = random.integers(VALUES, size=(ROWS, KEYS))
    asked = random.integers(KEYS, size=ROWS)
    x = np.zeros((ROWS, 2 * KEYS + VALUES, KEYS + 1), np.float32)
    x[rows[:, None], order, np.arange(KEYS)] = 1
    x[rows[:, None], KEYS + values, np.arange(KEYS)] = 1
    x[rows, KEYS + VALUES + asked, KEYS] = 1
    return x, values[rows, (order == asked[:, None]).argmax(1)]


def linear_maps_by_region() -> tuple[np.ndarray, np.ndarray]:
    """Return points of 8 regions; each region has a linear classifier of its own."""
    random = np.random.default_rng(0)
    centres = random.standard_normal((REGIONS, INPUTS))
    maps = random.standard_normal((REGIONS, 4, INPUTS))
    x = random.standard_normal((ROWS, INPUTS)).astype(np.float32)
    region = (x @ centres.T).argmax(1)
    return x, np.einsum("nci,ni->nc", maps[region], x).argmax(1)


def trained(
    name: str, model: dict[str, Any], rates: tuple[float, ...], epochs: int
) -> tuple[int, int, float]:
    """Return (parameters, FLOPs of a forward row, validation error at the best rate)."""
    configs = [
        TrialConfig.from_mapping(
            {
                "data": {"name": name},
                "model": model,
                "optimizer": {"kind": "adam", "lr": lr},
                "schedule": {"kind": "cosine"},
                "train": {"epochs": epochs, "batch_size": 64},
            }
        )
        for lr in rates
    ]
    dataset = load(configs[0].data)
    trials = [Trial(trial_id=i, config=config, seed=0) for i, config in enumerate(configs)]
    tier = "kernels" if "kernels" in supported_tiers(configs[0]) else "lane_by_lane"
    plan = fixed_plan(trials, dataset, tier=tier, fuse_width=1)  # type: ignore[arg-type]
    rows = train_pack(trials, None, epochs, dataset=dataset, plan=plan).rows
    net = build_model(configs[0].model, dataset.input_shape, dataset.num_outputs)
    flops = count_flops(net, dataset.input_shape, 1).forward
    return count_params(net)[0], flops, min(row.metrics["val_error"] for row in rows)


@pytest.fixture
def registered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISOFLOP_HOME", str(tmp_path / "home"))
    tasks = {"pairs": pairs_to_recall(), "regions": linear_maps_by_region()}
    for name, (x, y) in tasks.items():
        np.savez(tmp_path / f"{name}.npz", x=x, label=y)
        register(name, tmp_path / f"{name}.npz", "label")


@pytest.mark.long
@pytest.mark.usefixtures("registered")
def test_a_transformer_looks_up_what_a_larger_mlp_cannot_learn() -> None:
    model = {"kind": "transformer", "depth": 1, "width": 16, "heads": 2}
    num_params, _, error = trained("pairs", model, (1e-2,), 15)
    mlp = {"kind": "mlp", "depth": 2, "width": 32}
    mlp_params, _, mlp_error = trained("pairs", mlp, (1e-3, 3e-3, 1e-2), 15)
    assert num_params <= 0.6 * mlp_params
    assert error < 0.02
    assert mlp_error > 0.5, mlp_error  # guessing among 4 values errs in 0.75


@pytest.mark.long
@pytest.mark.usefixtures("registered")
def test_a_mixture_divides_regions_among_experts_better_than_a_larger_mlp() -> None:
    """Against MLPs of at least its parameters, which also spend three times its FLOPs or more."""
    model = {"kind": "moe", "depth": 1, "width": 8, "num_experts": 8, "top_k": 2}
    num_params, flops, error = trained("regions", model, (3e-2, 1e-1), 30)
    for mlp in ({"depth": 1, "width": 64}, {"depth": 2, "width": 24}):
        larger = {"kind": "mlp", **mlp}
        mlp_params, mlp_flops, mlp_error = trained("regions", larger, (1e-2, 3e-2, 1e-1), 30)
        assert num_params <= mlp_params
        assert flops <= mlp_flops / 3
        assert error < mlp_error - 0.08, (error, mlp_error)
