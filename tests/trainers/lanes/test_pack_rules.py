"""Early stopping, restore-best, schedules, sizes, first updates and what a pack refuses."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from trainers.config import TrialConfig
from trainers.data import Dataset, load
from trainers.errors import ConfigError, DataError
from trainers.initialisation import initialise
from trainers.lanes.evaluation import evaluate, to_module
from trainers.lanes.groups import batch_borders
from trainers.lanes.pack import train_pack
from trainers.lanes.plan import fixed_plan
from trainers.lanes.signature import signature
from trainers.losses import cross_entropy_rows
from trainers.models import build_model
from trainers.noise import row_order
from trainers.trial import EpochReport, EpochRow, Trial

MakeTrial = Callable[..., Trial]


def run(
    trials: list[Trial], dataset: Dataset, stop_epoch: int = 50, tier: Any = "kernels"
) -> tuple[list[EpochRow], Any]:
    rows: list[EpochRow] = []

    def keep(report: EpochReport) -> None:
        rows.extend(report.rows)

    plan = fixed_plan(trials, dataset, tier=tier, fuse_width=4)
    return rows, train_pack(trials, None, stop_epoch, keep, dataset=dataset, plan=plan)


def test_a_lane_trains_as_torch_alone_with_every_penalty(
    make_trial: MakeTrial, digits: Dataset
) -> None:
    """The whole step against torch: order, smoothing, L1, L2, clipping, Adam, decay, cosine."""
    trial = make_trial(
        3,
        optimizer__kind="adam",
        optimizer__lr=0.01,
        optimizer__weight_decay=1e-3,
        schedule__kind="cosine",
        train__epochs=2,
        train__grad_clip_norm=0.7,
        regularisation__l1=1e-4,
        regularisation__l2=1e-3,
        regularisation__decoupled_decay=1e-2,
        regularisation__label_smoothing=0.1,
    )
    _, result = run([trial], digits)
    config = trial.config
    model = build_model(config.model, digits.input_shape, digits.num_outputs).double()
    initialise(model, config.init, config.model.activation, trial.seed)
    weights = [p for p in model.parameters() if p.dim() > 1]
    optimizer = torch.optim.Adam(model.parameters(), 0.01, weight_decay=1e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
    x, y = digits.x_train.double(), digits.y_train
    for epoch in range(2):
        order = torch.from_numpy(row_order(trial.seed, epoch, len(x)))
        for start in range(0, len(x), 64):
            index = order[start : start + 64]
            loss = nn.functional.cross_entropy(model(x[index]), y[index], label_smoothing=0.1)
            loss = loss + sum(1e-4 * w.abs().sum() + 1e-3 * w.square().sum() for w in weights)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.7)
            lr = optimizer.param_groups[0]["lr"]
            with torch.no_grad():
                for w in weights:
                    w.mul_(1 - lr * 1e-2)
            optimizer.step()
            scheduler.step()
    trained = to_module(result.states[0], trial, digits)
    for name, parameter in trained.named_parameters():
        torch.testing.assert_close(parameter, model.get_parameter(name), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("kind", ["sgd", "momentum", "rmsprop", "adagrad", "adam", "adamw"])
def test_the_first_float32_update_is_within_4_ulp_of_torch(kind: str, digits: Dataset) -> None:
    """One batch of all rows, so that one epoch is one update."""
    few = replace(digits, x_train=digits.x_train[:64], y_train=digits.y_train[:64])
    config = TrialConfig.from_mapping(
        {"data.num_train": 300, "optimizer.kind": kind, "optimizer.lr": 0.01, "train.epochs": 1}
    )
    trials = [Trial(trial_id=i, config=config, seed=i) for i in range(5)]
    _, result = run(trials, few)
    _, alone = run(trials[2:3], few)
    packed, single = result.states[2].tensors["params"], alone.states[0].tensors["params"]
    assert torch.equal(packed, single)
    model = build_model(config.model, few.input_shape, few.num_outputs)
    initialise(model, config.init, config.model.activation, 2)
    start = torch.cat([p.detach().flatten() for p in model.parameters() if p.dim() > 1])
    x, y = few.x_train, few.y_train
    order = torch.from_numpy(row_order(2, 0, 64))
    kinds: dict[str, Any] = {
        "sgd": lambda p: torch.optim.SGD(p, 0.01),
        "momentum": lambda p: torch.optim.SGD(p, 0.01, momentum=0.9),
        "rmsprop": lambda p: torch.optim.RMSprop(p, 0.01),
        "adagrad": lambda p: torch.optim.Adagrad(p, 0.01),
        "adam": lambda p: torch.optim.Adam(p, 0.01),
        "adamw": lambda p: torch.optim.AdamW(p, 0.01, weight_decay=0.0),
    }
    optimizer = kinds[kind](list(model.parameters()))
    nn.functional.cross_entropy(model(x[order]), y[order]).backward()
    optimizer.step()
    expected = torch.cat([p.detach().flatten() for p in model.parameters() if p.dim() > 1])
    if kind in ("sgd", "momentum"):
        scale = torch.maximum(start.abs(), expected.abs()).clamp(min=1e-3)
        ulp = torch.finfo(torch.float32).eps * scale
        assert ((packed[: len(expected)] - expected).abs() <= 4 * ulp).all()
    else:
        # These divide the gradient by its own size, so rounding of tiny gradients is magnified.
        torch.testing.assert_close(packed[: len(expected)], expected, rtol=1e-4, atol=1e-4)


def test_early_stopping_counts_per_lane_and_restore_best_keeps_the_best_weights(
    make_trial: MakeTrial, digits: Dataset
) -> None:
    stopping = {"patience_epochs": 3, "restore_best": True}
    trials = [
        make_trial(0, train__epochs=40, regularisation__early_stopping=stopping,
                   optimizer__lr=0.03, model__width=48),
        make_trial(1, train__epochs=12, optimizer__lr=0.03, model__width=48),
    ]  # fmt: skip
    rows, result = run(trials, digits)
    curve = [row for row in rows if row.trial_id == 0]
    losses = [row.metrics["val_loss"] for row in curve]
    best = int(np.argmin(losses))
    assert curve[-1].status == "stopped_early"
    assert "for 3 epochs" in curve[-1].reason
    assert len(curve) == best + 1 + 3
    assert curve[-1].metrics["best_epoch"] == best + 1
    assert curve[-1].metrics["best_val_loss"] == losses[best]
    assert result.states[1].status == "finished"
    assert result.states[1].epoch == 12
    (val,) = evaluate(result.states[:1], trials[:1], digits, "val")
    assert val.metrics["val_loss"] == pytest.approx(losses[best], rel=1e-12)
    module = to_module(result.states[0], trials[0], digits)
    rows_loss = cross_entropy_rows(module(digits.x_val.double()), digits.y_val)
    assert rows_loss.mean().item() == pytest.approx(losses[best], rel=1e-9)


def test_proximal_l1_gives_exact_zeros_and_the_subgradient_few(
    make_trial: MakeTrial, digits: Dataset
) -> None:
    shared = {"optimizer__kind": "sgd", "optimizer__lr": 0.05, "train__epochs": 10}
    trials = [
        make_trial(0, regularisation__l1=0.03, regularisation__l1_form="proximal", **shared),
        make_trial(1, regularisation__l1=0.03, regularisation__l1_form="subgradient", **shared),
    ]
    _, result = run(trials, digits)
    zeros = []
    for state, trial in zip(result.states, trials, strict=True):
        module = to_module(state, trial, digits)
        weights = torch.cat([p.flatten() for p in module.parameters() if p.dim() > 1])
        zeros.append((weights == 0).double().mean().item())
    assert zeros[0] > 0.2
    assert zeros[1] < 0.01


def test_penalties_leave_biases_and_normalisation_alone(
    make_trial: MakeTrial, digits: Dataset
) -> None:
    """With a rate so small that only the decay moves anything, biases stay where they are."""
    trial = make_trial(
        0,
        model__batch_norm="before",
        optimizer__kind="sgd",
        optimizer__lr=1e-9,
        train__epochs=1,
        regularisation__decoupled_decay=1e7,
    )
    _, result = run([trial], digits)
    start = build_model(trial.config.model, digits.input_shape, digits.num_outputs).double()
    initialise(start, trial.config.init, "relu", trial.seed)
    for name, parameter in to_module(result.states[0], trial, digits).named_parameters():
        if parameter.dim() > 1:
            decayed = start.get_parameter(name) * (1 - 1e-9 * 1e7) ** 5
            torch.testing.assert_close(parameter, decayed, rtol=0, atol=1e-6)
        else:
            expected = 1.0 if name.endswith("norm.weight") else 0.0
            assert (parameter - expected).abs().max() < 1e-6, name


def test_numbers_are_fitted_and_measured_in_their_own_units() -> None:
    config = TrialConfig.from_mapping(
        {"data.name": "diabetes", "train.precision": "float64", "train.epochs": 3}
    )
    dataset = load(config.data)
    trials = [Trial(trial_id=i, config=config, seed=i) for i in range(2)]
    rows, result = run(trials, dataset)
    assert rows[0].metrics.keys() >= {"train_loss", "val_loss", "val_rmse", "val_r2"}
    module = to_module(result.states[1], trials[1], dataset)
    error = (module(dataset.x_val.double()) - dataset.y_val).detach()
    assert dataset.target_scaler is not None
    rmse = error.square().mean().sqrt().item() * dataset.target_scaler.std.item()
    assert rows[-1].metrics["val_rmse"] == pytest.approx(rmse, rel=1e-6)
    assert rows[-1].metrics["val_loss"] == pytest.approx(0.5 * error.square().mean().item())
    variance = dataset.y_val.double().var(correction=0).item()
    r2 = 1 - error.square().mean().item() / variance
    assert rows[-1].metrics["val_r2"] == pytest.approx(r2, rel=1e-6)


@pytest.mark.parametrize(
    ("num_rows", "batch_size", "sizes"),
    [(300, 64, [64] * 4 + [44]), (128, 64, [64, 64]), (129, 64, [64, 64]), (3, 1, [1, 1, 1])],
)
def test_left_over_rows_are_a_step_but_for_a_single_one(
    num_rows: int, batch_size: int, sizes: list[int]
) -> None:
    assert [stop - start for start, stop in batch_borders(num_rows, batch_size)] == sizes


def test_what_may_differ_and_what_may_not(make_trial: MakeTrial, digits: Dataset) -> None:
    base = make_trial(0).config
    same = base.with_values(
        {
            "optimizer.lr": 0.5,
            "schedule.kind": "cosine",
            "train.epochs": 7,
            "init.kind": "zeros",
            "model.dropout": 0.4,
            "regularisation.l1": 0.1,
        }
    )
    assert signature(same, digits) == signature(base, digits)
    for path, value in {
        "model.width": 17,
        "model.activation": "tanh",
        "optimizer.kind": "sgd",
        "train.batch_size": 32,
        "train.loss": "half_mse",
        "train.precision": "float32",
    }.items():
        other = base.with_values({path: value})
        assert signature(other, digits) != signature(base, digits), path
        trials = [make_trial(0), replace(make_trial(1), config=other)]
        with pytest.raises(ConfigError, match=f"`{path}` is"):
            train_pack(trials, None, 1, dataset=digits)


def test_a_batch_larger_than_the_data_and_a_missing_gpu_are_refused(
    make_trial: MakeTrial, digits: Dataset
) -> None:
    with pytest.raises(DataError, match="must be <= the training rows"):
        train_pack([make_trial(0, train__batch_size=301)], None, 1, dataset=digits)
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="device `cuda` needs a CUDA device"):
            train_pack([make_trial(0)], None, 1, dataset=digits, device="cuda")


def test_should_stop_ends_after_the_epoch_and_can_be_taken_up(
    make_trial: MakeTrial, digits: Dataset
) -> None:
    trials = [make_trial(0), make_trial(1)]
    reports: list[EpochReport] = []
    first = train_pack(
        trials, None, 4, reports.append, dataset=digits, should_stop=lambda: len(reports) == 2
    )
    assert first.interrupted
    assert [state.epoch for state in first.states] == [2, 2]
    rest = train_pack(trials, first.states, 4, dataset=digits)
    whole = train_pack(trials, None, 4, dataset=digits)
    assert not rest.interrupted
    assert [row.metrics for row in rest.rows] == [row.metrics for row in whole.rows]


def test_monotonic_times_and_busy_seconds_are_reported(
    make_trial: MakeTrial, digits: Dataset, tmp_path: Path
) -> None:
    reports: list[EpochReport] = []
    train_pack([make_trial(0), make_trial(1)], None, 2, reports.append, dataset=digits)
    for report in reports:
        assert report.started_s < report.ended_s
        busy_s = sum(row.busy_s for row in report.rows)
        assert 0 < busy_s <= report.ended_s - report.started_s
        assert report.padding_s == 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("tier", ["kernels", "vmap", "lane_by_lane"])
def test_a_gpu_trains_as_the_cpu_does(
    tier: Any, varied_trials: Callable[..., list[Trial]], digits: Dataset
) -> None:
    trials = varied_trials(4, model__batch_norm="before")
    results = []
    for device in ("cpu", "cuda"):
        plan = fixed_plan(trials, digits, tier=tier, fuse_width=3, device=device)
        results.append(train_pack(trials, None, 2, dataset=digits, plan=plan))
    for on_cpu, on_gpu in zip(results[0].rows, results[1].rows, strict=True):
        assert on_gpu.metrics["val_loss"] == pytest.approx(on_cpu.metrics["val_loss"], rel=1e-6)
