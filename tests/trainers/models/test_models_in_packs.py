"""Packing never changes a result: every architecture, alone and in packs, in both tiers."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from trainers.config import TrialConfig
from trainers.data import Dataset, load
from trainers.lanes.engines import make_engine
from trainers.lanes.pack import train_pack
from trainers.lanes.plan import fixed_plan
from trainers.lanes.probe import probe
from trainers.lanes.state import LaneState, select
from trainers.trial import EpochReport, EpochRow, Trial

Curves = dict[tuple[int, int], EpochRow]

MODELS: dict[str, dict[str, Any]] = {
    "local": {"kind": "local", "depth": 2, "width": 3, "head_width": 8, "batch_norm": "before"},
    "local tied": {"kind": "local", "depth": 2, "width": 3, "tied": True},
    "resmlp": {"kind": "resmlp", "depth": 3, "width": 8, "batch_norm": "before"},
    "resmlp scalars": {"kind": "resmlp", "depth": 3, "width": 8, "scalars": True},
    "resmlp no skip": {"kind": "resmlp", "depth": 3, "width": 8, "skip": False},
    "rescnn": {"kind": "rescnn", "depth": 1, "width": 3, "batch_norm": "before"},
    "rescnn scalars": {"kind": "rescnn", "depth": 1, "width": 3, "scalars": True},
    "dense": {"kind": "dense", "depth": 3, "width": 6, "batch_norm": "after"},
    "capsule": {"kind": "capsule", "depth": 1, "width": 4, "capsule_size": 4},
}
TIERS = ["vmap", "lane_by_lane"]


@pytest.fixture(scope="module")
def signals() -> Dataset:
    return load(TrialConfig.from_mapping({"data": {"name": "mnist1d", "num_train": 80}}).data)


def make_trials(count: int, model: dict[str, Any]) -> list[Trial]:
    """Trials of one signature that differ in what lanes may differ in."""
    trials = []
    inits = ["he", "fixup" if model.get("scalars") else "xavier", "torch"]
    for i in range(count):
        own: dict[str, Any] = {"dropout": 0.1 * (i % 3)}
        if model.get("batch_norm", "none") != "none":
            own["bn_momentum"] = 0.05 + 0.1 * i
        values = {
            "data": {"name": "mnist1d", "num_train": 80},
            "model": {**model, **own},
            "optimizer": {"kind": "adam", "lr": 0.002 * (i + 1), "beta1": 0.8 + 0.02 * i},
            "train": {"epochs": 3, "batch_size": 32, "precision": "float64"},
            "init": {"kind": inits[i % 3], "scale": 1 + 0.1 * i},
            "regularisation": {"l2": 1e-4 * i, "label_smoothing": 0.05 * i},
        }
        config = TrialConfig.from_mapping(values)
        trials.append(Trial(trial_id=i, config=config, seed=100 + i))
    return trials


def run(
    trials: Sequence[Trial],
    dataset: Dataset,
    tier: str,
    fuse_width: int,
    *,
    stop_epoch: int = 9,
    start: Sequence[LaneState] | None = None,
) -> tuple[Curves, list[LaneState]]:
    rows: Curves = {}

    def keep(report: EpochReport) -> None:
        rows.update({(row.trial_id, row.epoch): row for row in report.rows})

    plan = fixed_plan(trials, dataset, tier=tier, fuse_width=fuse_width)
    result = train_pack(trials, start, stop_epoch, keep, dataset=dataset, plan=plan)
    return rows, list(result.states)


def assert_same(rows: Curves, reference: Curves) -> None:
    assert rows.keys() == reference.keys()
    for key, row in rows.items():
        assert row.status == reference[key].status
        for name, value in row.metrics.items():
            np.testing.assert_allclose(value, reference[key].metrics[name], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("name", MODELS)
def test_alone_in_packs_reordered_and_resumed_every_epoch_is_the_same(
    name: str, tier: str, signals: Dataset
) -> None:
    trials = make_trials(3, MODELS[name])
    alone: Curves = {}
    for trial in trials:
        alone |= run([trial], signals, "lane_by_lane", 1)[0]
    assert {row.status for row in alone.values()} == {"running", "finished"}
    assert_same(run(trials, signals, tier, 3)[0], alone)
    rows, states = run(trials[:2], signals, tier, 2, stop_epoch=1)
    more, late = run(trials[2:], signals, tier, 1, stop_epoch=2)
    rows |= more
    order = [2, 0, 1]
    resumed = select([*states, *late], order)
    rows |= run([trials[i] for i in order], signals, tier, 2, start=resumed)[0]
    assert_same(rows, alone)


@pytest.mark.parametrize("name", MODELS)
def test_the_probe_lets_every_architecture_be_stacked(
    name: str, signals: Dataset, digits_like: Callable[[dict[str, Any]], tuple[Trial, Dataset]]
) -> None:
    trial, images = digits_like(MODELS[name])
    for config, dataset in (
        (make_trials(1, MODELS[name])[0].config, signals),
        (trial.config, images),
    ):
        verdict = probe(
            lambda template, some, data: make_engine("vmap", template, some, data),
            [config],
            dataset,
        )
        assert verdict.equal, verdict.reason


@pytest.fixture(scope="module")
def digits_like() -> Callable[[dict[str, Any]], tuple[Trial, Dataset]]:
    def make(model: dict[str, Any]) -> tuple[Trial, Dataset]:
        config = TrialConfig.from_mapping({"data": {"num_train": 64}, "model": model})
        return Trial(trial_id=0, config=config, seed=0), load(config.data)

    return make
