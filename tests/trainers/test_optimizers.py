"""Update rules on flat rows against torch.optim, in float64."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from trainers.config import OptimizerConfig
from trainers.optimizers import SLOTS, FusedRows, StackedRows, make_optimizer

NUM_STEPS = 12
SIZE = 40
LR = [0.1, 0.03, 0.5]


def configs_of(kind: str, **shared: Any) -> list[OptimizerConfig]:
    return [
        OptimizerConfig.model_validate(
            {
                "kind": kind,
                "momentum": [0.9, 0.5, 0.0][lane],
                "alpha": [0.9, 0.99, 0.5][lane],
                "beta1": [0.9, 0.8, 0.5][lane],
                "beta2": [0.999, 0.99, 0.9][lane],
                "eps": [1e-8, 1e-3, 1e-10][lane],
                "weight_decay": [0.0, 0.01, 0.1][lane],
                **shared,
            }
        )
        for lane in range(3)
    ]


def gradient(step: int, lane: int) -> Tensor:
    generator = torch.Generator().manual_seed(100 * step + lane)
    return torch.randn(SIZE, generator=generator, dtype=torch.float64)


def torch_twin(config: OptimizerConfig, weights: Tensor, lr: float) -> torch.optim.Optimizer:
    decay, eps = config.weight_decay, config.denominator_eps
    betas = (config.beta1, config.beta2)
    if config.kind == "sgd":
        return torch.optim.SGD([weights], lr, weight_decay=decay)
    if config.kind == "momentum":
        return torch.optim.SGD([weights], lr, momentum=config.momentum, weight_decay=decay)
    if config.kind == "rmsprop":
        alpha = config.rms_alpha
        return torch.optim.RMSprop([weights], lr, alpha=alpha, eps=eps, weight_decay=decay)
    if config.kind == "adagrad":
        return torch.optim.Adagrad([weights], lr, eps=eps, weight_decay=decay)
    kind = torch.optim.Adam if config.kind == "adam" else torch.optim.AdamW
    return kind([weights], lr, betas=betas, eps=eps, weight_decay=decay)


def trained_rows(implementation: Any, configs: list[OptimizerConfig], lr: np.ndarray) -> Tensor:
    """Run NUM_STEPS updates, in two epochs, from weights of one."""
    params = torch.ones(3, SIZE, dtype=torch.float64)
    grads = torch.zeros_like(params)
    slots = {name: torch.zeros_like(params) for name in SLOTS[configs[0].kind]}
    optimizer = implementation(configs, params, grads, slots)
    half = NUM_STEPS // 2
    for epoch in range(2):
        optimizer.begin_epoch(lr[epoch * half : (epoch + 1) * half], [epoch * half] * 3)
        for step in range(half):
            for lane in range(3):
                grads[lane] = gradient(epoch * half + step, lane)
            optimizer.step(step)
    return params


@pytest.mark.parametrize("kind", list(SLOTS))
@pytest.mark.parametrize("implementation", [FusedRows, StackedRows])
def test_twelve_updates_equal_torch_optim(kind: str, implementation: Any) -> None:
    if kind == "rmsprop" and implementation is FusedRows:
        pytest.skip("torch has no fused RMSProp, so the stacked one always runs")
    configs = configs_of(kind)
    lr = np.array(LR) * 0.9 ** np.arange(NUM_STEPS)[:, None]  # [S, W]
    rows = trained_rows(implementation, configs, lr)
    for lane, config in enumerate(configs):
        weights = torch.ones(SIZE, dtype=torch.float64, requires_grad=True)
        twin = torch_twin(config, weights, LR[lane])
        for step in range(NUM_STEPS):
            twin.param_groups[0]["lr"] = float(lr[step, lane])
            weights.grad = gradient(step, lane)
            twin.step()
        torch.testing.assert_close(rows[lane], weights.detach(), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("implementation", [FusedRows, StackedRows])
def test_lecture_momentum_is_torchs_at_the_rate_times_one_minus_beta(implementation: Any) -> None:
    configs = configs_of("momentum", form="lecture", weight_decay=0.0)
    rows = trained_rows(implementation, configs, np.tile(LR, (NUM_STEPS, 1)))
    for lane, config in enumerate(configs):
        beta = config.momentum
        weights = torch.ones(SIZE, dtype=torch.float64)
        velocity = torch.zeros_like(weights)
        twin_weights = torch.ones(SIZE, dtype=torch.float64, requires_grad=True)
        twin = torch.optim.SGD([twin_weights], LR[lane] * (1 - beta), momentum=beta)
        for step in range(NUM_STEPS):
            velocity = beta * velocity + (1 - beta) * gradient(step, lane)  # page 41
            weights = weights - LR[lane] * velocity
            twin_weights.grad = gradient(step, lane)
            twin.step()
        torch.testing.assert_close(rows[lane], weights, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(rows[lane], twin_weights.detach(), rtol=1e-10, atol=1e-12)


def test_lecture_momentum_is_not_torchs_dampening() -> None:
    config = configs_of("momentum", form="lecture", weight_decay=0.0)[0]
    rows = trained_rows(StackedRows, [config] * 3, np.full((NUM_STEPS, 3), 0.1))
    weights = torch.ones(SIZE, dtype=torch.float64, requires_grad=True)
    twin = torch.optim.SGD([weights], 0.1, momentum=0.9, dampening=0.9)
    for step in range(NUM_STEPS):
        weights.grad = gradient(step, 0)
        twin.step()
    assert (rows[0] - weights.detach()).abs().max() > 1e-2


@pytest.mark.parametrize("implementation", [FusedRows, StackedRows])
def test_adam_corrects_the_bias_by_one_minus_beta_to_the_t(implementation: Any) -> None:
    """On a quadratic the right form converges and the lecture's misprint stands still."""
    config = OptimizerConfig(kind="adam", lr=0.05)
    params = torch.full((1, 1), 10.0, dtype=torch.float64)
    grads = torch.zeros_like(params)
    slots = {name: torch.zeros_like(params) for name in SLOTS["adam"]}
    optimizer = implementation([config], params, grads, slots)
    optimizer.begin_epoch(np.full((1000, 1), 0.05), [0])
    w = mean = square = np.float64(0.0)
    w = np.float64(10.0)
    for t in range(1, 1001):
        grads.copy_(params)
        optimizer.step(t - 1)
        if t <= 80:  # page 43 as printed: (1 - beta)^t
            mean, square = 0.9 * mean + 0.1 * w, 0.999 * square + 0.001 * w * w
            w = w - 0.05 * (mean / 0.1**t) / (np.sqrt(square / 0.001**t) + 1e-8)
    assert abs(params.item()) < 1e-2
    assert abs(w) > 9


def test_a_lane_gets_the_same_update_whatever_the_other_lanes_are() -> None:
    for kind in SLOTS:
        configs = [c.model_copy(update={"kind": kind}) for c in configs_of(kind)]
        for size in (64, 20_000):
            results = []
            for chosen in ([0, 1, 2], [1], [2, 1]):
                generator = torch.Generator().manual_seed(0)
                start = torch.randn(3, size, generator=generator)
                params, grads = start[chosen].clone(), start.flip(1)[chosen].clone()
                slots = {name: torch.zeros_like(params) for name in SLOTS[configs[0].kind]}
                optimizer = make_optimizer([configs[i] for i in chosen], params, grads, slots)
                optimizer.begin_epoch(np.array([LR])[:, chosen], [0] * len(chosen))
                optimizer.step(0)
                results.append(params[chosen.index(1)])
            assert torch.equal(results[0], results[1])
            assert torch.equal(results[0], results[2])


def test_state_tensors_per_parameter() -> None:
    counts = {kind: len(names) for kind, names in SLOTS.items()}
    expected = {"sgd": 0, "momentum": 1, "rmsprop": 1, "adagrad": 1, "adam": 2, "adamw": 2}
    assert counts == expected
