"""Packing never changes a result: recurrent nets, transformers, languages and mixtures."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from trainers.data import load
from trainers.lanes.engines import make_engine
from trainers.lanes.evaluation import evaluate, to_module
from trainers.lanes.pack import train_pack
from trainers.lanes.plan import fixed_plan
from trainers.lanes.probe import probe
from trainers.lanes.state import LaneState
from trainers.trial import EpochReport, Trial

Curves = dict[tuple[int, int], dict[str, float]]
MODELS: dict[str, dict[str, Any]] = {
    "rnn": {"model__kind": "rnn", "model__activation": "tanh", "model__depth": 1},
    "lstm": {"model__kind": "lstm", "model__depth": 2},
    "gru": {"model__kind": "gru", "model__depth": 1},
    "transformer": {"model__kind": "transformer", "model__heads": 2, "model__depth": 1},
    "windowed": {
        "model__kind": "transformer",
        "model__heads": 2,
        "model__window": 3,
        "model__depth": 1,
    },
    "moe": {"model__kind": "moe", "model__num_experts": 3, "model__top_k": 2},
    "language transformer": {"model__kind": "transformer", "model__heads": 2, "model__depth": 1},
    "language gru": {"model__kind": "gru", "model__depth": 1},
}


def shared_of(name: str) -> dict[str, Any]:
    values = {
        **MODELS[name],
        "model__width": 8,
        "data__num_train": 60,
        "train__batch_size": 16,
        "train__epochs": 3,
    }
    if name.startswith("language"):
        values |= {
            "data__name": "stdlib-bytes",
            "data__context": 8,
            "data__val_fraction": 0.0005,
            "model__language_model": True,
        }
    return values


def run(
    trials: Sequence[Trial],
    tier: str,
    fuse_width: int,
    start: Sequence[LaneState | None] | None = None,
    stop_epoch: int = 3,
) -> tuple[Curves, list[LaneState]]:
    dataset, rows = load(trials[0].config.data), {}

    def keep(report: EpochReport) -> None:
        rows.update({(row.trial_id, row.epoch): dict(row.metrics) for row in report.rows})

    plan = fixed_plan(trials, dataset, tier=tier, fuse_width=fuse_width)  # type: ignore[arg-type]
    result = train_pack(trials, start, stop_epoch, keep, dataset=dataset, plan=plan)
    return rows, list(result.states)


def assert_close(rows: Curves, reference: Curves) -> None:
    assert rows.keys() == reference.keys()
    for key, metrics in rows.items():
        assert metrics.keys() == reference[key].keys()
        for name, value in metrics.items():
            np.testing.assert_allclose(value, reference[key][name], rtol=1e-9, err_msg=name)


@pytest.mark.parametrize("name", MODELS)
def test_vmap_may_run_it(name: str, varied_trials: Callable[..., list[Trial]]) -> None:
    configs = [trial.config for trial in varied_trials(2, **shared_of(name))]
    verdict = probe(
        lambda template, some, data: make_engine("vmap", template, some, data),
        configs,
        load(configs[0].data),
    )
    assert verdict.equal, verdict.reason


@pytest.mark.parametrize("tier", ["vmap", "lane_by_lane"])
@pytest.mark.parametrize("name", MODELS)
def test_alone_reordered_and_resumed_are_as_in_the_pack(
    name: str, tier: str, varied_trials: Callable[..., list[Trial]]
) -> None:
    trials = varied_trials(3, optimizer__kind="momentum", **shared_of(name))
    reference, _ = run(trials, tier, 3)
    assert len(reference) == 9
    assert_close(run(trials[::-1], tier, 2)[0], reference)
    for trial in trials:
        alone = {key: row for key, row in reference.items() if key[0] == trial.trial_id}
        assert_close(run([trial], tier, 1)[0], alone)
    rows, states = run(trials[:2], tier, 2, stop_epoch=1)
    more, others = run(trials[2:], tier, 1, stop_epoch=2)
    last, _ = run(trials, tier, 3, start=[*states, *others])
    assert_close(rows | more | last, reference)


@pytest.mark.parametrize("name", MODELS)
def test_the_tiers_agree(name: str, varied_trials: Callable[..., list[Trial]]) -> None:
    trials = varied_trials(3, optimizer__kind="adam", **shared_of(name))
    assert_close(run(trials, "vmap", 3)[0], run(trials, "lane_by_lane", 1)[0])


@pytest.mark.parametrize("name", ["gru", "moe", "language transformer"])
def test_the_winners_module_alone_gives_what_was_reported(
    name: str, varied_trials: Callable[..., list[Trial]]
) -> None:
    (trial,) = varied_trials(1, **shared_of(name), regularisation__early_stopping={})
    rows, (state,) = run([trial], "vmap", 1)
    dataset = load(trial.config.data)
    module = to_module(state, trial, dataset)
    x, y = dataset.to("cpu", torch.float64).part("val")
    outputs = module(x).flatten(0, -2)
    loss = torch.nn.functional.cross_entropy(outputs, y.flatten()).item()
    error = (outputs.argmax(-1) != y.flatten()).double().mean().item()
    (found,) = evaluate([state], [trial], dataset, "val", device="cpu")
    for metrics in (rows[0, 3], found.metrics):
        assert metrics["val_loss"] == pytest.approx(loss, rel=1e-9)
        assert metrics["val_error"] == pytest.approx(error)
    if name.startswith("language"):
        assert rows[0, 3]["val_bits_per_byte"] == pytest.approx(loss / np.log(2), rel=1e-9)


def test_the_balance_loss_reaches_the_gate_and_the_training_loss(
    make_trial: Callable[..., Trial],
) -> None:
    trials = [
        make_trial(i, **shared_of("moe"), model__balance=balance, train__precision="float64")
        for i, balance in ((0, 0.0), (0, 2.0))
    ]
    plain, balanced = (run([trial], "lane_by_lane", 1, stop_epoch=1) for trial in trials)
    # Two mixture layers whose balance is at least about 1 each.
    assert balanced[0][0, 1]["train_loss"] > plain[0][0, 1]["train_loss"] + 2
    assert balanced[0][0, 1]["val_loss"] != plain[0][0, 1]["val_loss"]
