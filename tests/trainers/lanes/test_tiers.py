"""The three tiers give the same training, and each leaves a lane alone."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from trainers.data import Dataset, load
from trainers.lanes.pack import train_pack
from trainers.lanes.plan import fixed_plan
from trainers.trial import EpochReport, Trial

Curves = dict[tuple[int, int], dict[str, float]]


def curves(trials: list[Trial], dataset: Dataset, tier: str, fuse_width: int) -> Curves:
    rows: Curves = {}

    def keep(report: EpochReport) -> None:
        rows.update({(row.trial_id, row.epoch): dict(row.metrics) for row in report.rows})

    plan = fixed_plan(trials, dataset, tier=tier, fuse_width=fuse_width)
    train_pack(trials, None, 3, keep, dataset=dataset, plan=plan)
    return rows


def assert_close(rows: Curves, reference: Curves, rtol: float) -> None:
    assert rows.keys() == reference.keys()
    for key, metrics in rows.items():
        for name, value in metrics.items():
            if name == "val_error" and rtol > 1e-6:
                continue  # one row's argmax can turn on the last digit
            np.testing.assert_allclose(value, reference[key][name], rtol=rtol, err_msg=name)


@pytest.mark.parametrize("kind", ["sgd", "adam"])
@pytest.mark.parametrize("batch_norm", ["none", "before", "after"])
def test_all_tiers_train_an_mlp_alike(
    kind: str, batch_norm: str, varied_trials: Callable[..., list[Trial]], digits: Dataset
) -> None:
    trials = varied_trials(4, optimizer__kind=kind, model__batch_norm=batch_norm)
    reference = curves(trials, digits, "lane_by_lane", 2)
    # A bias before normalisation has gradient 0 up to rounding, which Adam divides by itself.
    rtol = 1e-4 if kind == "adam" and batch_norm == "before" else 1e-9
    assert_close(curves(trials, digits, "kernels", 3), reference, rtol)
    assert_close(curves(trials, digits, "vmap", 3), reference, rtol)


@pytest.mark.parametrize("tier", ["vmap", "lane_by_lane"])
@pytest.mark.parametrize("kind", ["momentum", "adam"])
def test_a_cnn_alone_is_as_in_any_pack(
    tier: str, kind: str, varied_trials: Callable[..., list[Trial]]
) -> None:
    shared: dict[str, Any] = {
        "data__name": "mnist1d",
        "data__num_train": 100,
        "model__kind": "cnn",
        "model__width": 4,
        "model__batch_norm": "before",
        "train__batch_size": 32,
        "optimizer__kind": kind,
    }
    trials = varied_trials(3, **shared)
    dataset = load(trials[0].config.data)
    reference = curves(trials, dataset, tier, 3)
    assert_close(curves(trials[::-1], dataset, tier, 2), reference, 1e-9)
    for trial in trials:
        alone = curves([trial], dataset, tier, 1)
        assert_close(alone, {k: v for k, v in reference.items() if k[0] == trial.trial_id}, 1e-9)


@pytest.mark.parametrize(
    "model",
    [
        {"kind": "cnn", "width": 4, "batch_norm": "before"},
        {"kind": "rescnn", "width": 4, "depth": 1, "batch_norm": "before"},
        {"kind": "transformer", "width": 8, "heads": 2, "depth": 1},
    ],
    ids=lambda model: str(model["kind"]),
)
def test_fused_in_float32_a_lane_has_the_same_bits_in_any_group(
    model: dict[str, Any], varied_trials: Callable[..., list[Trial]]
) -> None:
    trials = varied_trials(
        3,
        data__name="mnist1d",
        data__num_train=100,
        train__batch_size=32,
        train__epochs=1,
        train__precision="float32",
        **{f"model__{key}": value for key, value in model.items()},
    )
    dataset = load(trials[0].config.data)

    def params(lanes: list[Trial], fuse_width: int) -> dict[int, Tensor]:
        plan = fixed_plan(lanes, dataset, tier="vmap", fuse_width=fuse_width)
        result = train_pack(lanes, None, 1, dataset=dataset, plan=plan)
        return {state.trial_id: state.tensors["params"] for state in result.states}

    alone, fused = params(trials, 1), params(trials[::-1], 3)
    assert all(torch.equal(row, fused[trial_id]) for trial_id, row in alone.items())
