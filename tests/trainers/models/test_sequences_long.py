"""What reading in order is for: signals against an MLP, text against counting pairs of bytes."""

from typing import Any

import numpy as np
import pytest
import torch

from trainers.config import TrialConfig
from trainers.data import Dataset, load
from trainers.flops import count_params
from trainers.lanes.pack import train_pack
from trainers.lanes.plan import fixed_plan
from trainers.models import build_model
from trainers.trial import Trial


def trained(model: dict[str, Any], lr: float, epochs: int, **data: Any) -> tuple[int, dict]:
    """Return (parameters, last metrics) of one trial."""
    config = TrialConfig.from_mapping(
        {
            "data": data,
            "model": model,
            "optimizer": {"kind": "adam", "lr": lr},
            "schedule": {"kind": "cosine"},
            "train": {"epochs": epochs, "batch_size": 32, "grad_clip_norm": 1.0},
        }
    )
    dataset = load(config.data)
    trial = Trial(trial_id=0, config=config, seed=0)
    plan = fixed_plan([trial], dataset, tier="lane_by_lane", fuse_width=1)
    (row,) = train_pack([trial], None, epochs, dataset=dataset, plan=plan).rows
    net = build_model(config.model, dataset.input_shape, dataset.num_outputs)
    return count_params(net)[0], dict(row.metrics)


@pytest.mark.long
def test_a_gru_halves_an_mlps_error_on_mnist1d_with_a_quarter_of_its_parameters() -> None:
    num_params, gru = trained({"kind": "gru", "depth": 1, "width": 32}, 1e-2, 15, name="mnist1d")
    mlp_params, mlp = trained({"kind": "mlp", "depth": 2, "width": 100}, 3e-3, 15, name="mnist1d")
    assert num_params <= mlp_params / 4
    assert gru["val_error"] < mlp["val_error"] / 2, (gru, mlp)


@pytest.mark.long
def test_a_language_model_needs_fewer_bits_than_counting_pairs_of_bytes() -> None:
    model = {"kind": "gru", "depth": 1, "width": 96, "language_model": True}
    data = {"name": "stdlib-bytes", "num_train": 4096, "val_fraction": 0.02}
    _, metrics = trained(model, 5e-3, 4, **data)
    dataset = load(TrialConfig.from_mapping({"data": data}).data)
    bits = bits_by_pairs(dataset)
    assert 3 < bits < 4
    assert metrics["val_bits_per_byte"] < bits - 0.1, (metrics, bits)


def bits_by_pairs(dataset: Dataset) -> float:
    """Return the validation text's bits per byte under counts of (byte, next byte), plus 0.1."""

    def pairs(x: torch.Tensor, y: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        return x.long().flatten().numpy(), y.flatten().numpy()

    counts = np.full((256, 256), 0.1)
    np.add.at(counts, pairs(dataset.x_train, dataset.y_train), 1)
    chances = counts / counts.sum(1, keepdims=True)
    return float(-np.log2(chances[pairs(dataset.x_val, dataset.y_val)]).mean())
