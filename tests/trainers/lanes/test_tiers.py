"""The three tiers give the same training, and each leaves a lane alone."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

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
