"""Steps 1-3 on real small nets: good ones pass, known-bad ones are caught where they should be."""

import math

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from service.recipe import (
    InitialFacts,
    LossCurve,
    combine_sweeps,
    initial_loss,
    judge_lr_sweep,
    judge_overfit,
    measure,
    plan_lr_sweep,
    plan_overfit,
)
from trainers.config import TrialConfig

LN_10 = math.log(10)


def digits():
    x, y = load_digits(return_X_y=True)
    x = (x - x.mean(0)) / (x.std(0) + 1e-8)
    return torch.tensor(x, dtype=torch.float32), torch.tensor(y)


def net(*tail: nn.Module, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10), *tail)


def train(make, config, lr, rows):
    """A plain torch loop: the trainer's stand-in, independent of it."""
    x, y = (part[:rows] for part in digits())
    model = make()
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    losses = []
    for _ in range(config.train.epochs):
        total = 0.0
        for start in range(0, rows, config.train.batch_size):
            index = slice(start, start + config.train.batch_size)
            loss = nn.functional.cross_entropy(model(x[index]), y[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += float(loss.detach()) * len(x[index])
        losses.append(total / rows)
    return LossCurve(lr=lr, losses=losses, diverged=not math.isfinite(losses[-1]))


def judge_initial(model):
    x, y = digits()
    facts = measure(model, x[:256], y[:256], "cross_entropy")
    return initial_loss(facts, dummy_loss=LN_10, num_outputs=10, loss="cross_entropy")


def base(**values):
    return TrialConfig.from_mapping({"optimizer.kind": "sgd", "optimizer.lr": 0.1, **values})


def test_step_1_passes_an_ordinary_net_and_leaves_it_unchanged():
    model = net(nn.BatchNorm1d(10))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    verdict = judge_initial(model)
    assert verdict.passed
    assert verdict.verdict == "good"
    assert "ln 10 = 2.303" in verdict.reason
    assert model.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_step_1_measures_what_autograd_measures():
    model, (x, y) = net(), digits()
    facts = measure(model, x[:100], y[:100], "cross_entropy")
    loss = nn.functional.cross_entropy(model(x[:100]), y[:100])
    loss.backward()
    norm = math.sqrt(sum(float(p.grad.square().sum()) for p in model.parameters() if p.dim() > 1))
    assert facts.loss == pytest.approx(float(loss.detach()), rel=1e-6)
    assert facts.weight_grad_norm == pytest.approx(norm, rel=1e-5)


@pytest.mark.parametrize(
    ("break_it", "word"),
    [
        (lambda w: w.zero_(), "dead"),
        (lambda w: w.fill_(0.1), "symmetric"),
        (lambda w: w.normal_(0, 3), "high"),
        (lambda w: w.fill_(math.nan), "infinite"),
    ],
)
def test_step_1_catches_dead_symmetric_and_too_large_starts(break_it, word):
    model = net()
    with torch.no_grad():
        for layer in model:
            if isinstance(layer, nn.Linear):
                break_it(layer.weight)
                layer.bias.zero_()
    verdict = judge_initial(model)
    assert verdict.passed is False
    assert verdict.verdict == word


def test_step_1_for_numbers_compares_with_half_the_target_variance():
    def judged(loss):
        facts = InitialFacts(loss=loss)
        return initial_loss(facts, dummy_loss=0.5, num_outputs=1, loss="half_mse")

    assert judged(0.9).passed
    assert judged(50.0).verdict == "high"
    assert judged(0.01).verdict == "low"


def test_step_2_plan_turns_off_all_regularisation_and_keeps_the_rest():
    config = base(
        **{
            "model.dropout": 0.5,
            "regularisation.l2": 1e-3,
            "regularisation.early_stopping": {"patience_epochs": 3, "restore_best": True},
            "schedule.kind": "cosine",
            "train.batch_size": 128,
            "model.width": 48,
        }
    )
    plan = plan_overfit(config, 1078)
    assert len({c.optimizer.lr for c in plan.configs}) == len(plan.configs) >= 3
    for c in plan.configs:
        assert c.model.dropout == c.regularisation.l2 == 0
        assert c.regularisation.early_stopping.patience_epochs == 0
        assert c.schedule.kind == "constant"
        assert c.data.num_train == 200
        assert c.train.epochs * math.ceil(200 / c.train.batch_size) >= 600
        assert c.model.width == 48


def test_step_2_passes_a_net_that_learns_200_rows_by_heart():
    plan = plan_overfit(base(), 1078)
    curves = [train(net, c, c.optimizer.lr, 200) for c in plan.configs]
    verdict = judge_overfit(curves, dummy_loss=LN_10, num_rows=200)
    assert verdict.passed, verdict.reason


def test_step_2_catches_the_wrong_loss_a_softmax_before_cross_entropy():
    plan = plan_overfit(base(), 1078)

    def wrong():
        return net(nn.Softmax(dim=1))

    assert judge_initial(wrong()).passed  # step 1 cannot see it
    curves = [train(wrong, c, c.optimizer.lr, 200) for c in plan.configs]
    verdict = judge_overfit(curves, dummy_loss=LN_10, num_rows=200)
    assert verdict.passed is False
    assert verdict.verdict == "partial"
    assert "softmax" in verdict.consequence


def test_step_2_lets_a_net_pass_that_only_needs_more_time():
    # A net of width 16 on noisy rows: far below ln 3, not yet at a tenth of it, still falling.
    falling = [1.1 * 0.985**epoch for epoch in range(96)]
    slow = LossCurve(lr=0.01, losses=falling)
    verdict = judge_overfit([slow], dummy_loss=math.log(3), num_rows=200)
    assert (verdict.passed, verdict.verdict) == (True, "slow")
    settled = LossCurve(lr=0.01, losses=[*falling[:64], *[falling[64]] * 32])
    verdict = judge_overfit([settled], dummy_loss=math.log(3), num_rows=200)
    assert (verdict.passed, verdict.verdict) == (False, "partial")


def test_step_2_words_for_stuck_and_diverged():
    flat = LossCurve(lr=0.1, losses=[2.3] * 5)
    broken = LossCurve(lr=0.1, losses=[2.3, math.nan], diverged=True)
    assert judge_overfit([flat], dummy_loss=LN_10, num_rows=200).verdict == "stuck"
    assert judge_overfit([broken], dummy_loss=LN_10, num_rows=200).verdict == "diverged"


def test_step_3_recovers_the_bound_2_over_h_on_a_quadratic():
    curvature = 8.0  # f(w) = h/2 w^2; gradient descent multiplies w by 1 - lr h
    rates = np.geomspace(1e-4, 10, 24).tolist()
    start = curvature / 2
    curves = [
        LossCurve(lr=lr, losses=[start * (1 - lr * curvature) ** (2 * k) for k in (10, 20, 50)])
        for lr in rates
    ]
    data = judge_lr_sweep(curves, start_loss=start).data
    between = data["bound_between"]
    assert between[0] < 2 / curvature < between[1]
    step = rates[1] / rates[0]
    assert 1 / math.sqrt(step) < data["bound"] / (2 / curvature) < math.sqrt(step)
    assert data["lo"] < data["best"] <= data["hi"]


def test_step_3_finds_a_range_on_digits_and_catches_a_fixed_rate_of_1e3():
    plan = plan_lr_sweep(base(), 1000)
    lrs = [c.optimizer.lr for c in plan.configs]
    assert len(lrs) == 24
    assert lrs[0] == pytest.approx(1e-6)
    assert lrs[-1] == 10
    assert lrs == sorted(lrs)
    curves = [train(net, c, c.optimizer.lr, 1000) for c in plan.configs]
    found = judge_lr_sweep(curves, start_loss=LN_10 + 0.1)
    assert found.passed
    assert 1e-3 < found.data["lo"] < found.data["hi"] < 10
    bad = judge_lr_sweep(curves, start_loss=LN_10 + 0.1, fixed_lr=1e3)
    assert bad.passed is False
    assert bad.verdict == "outside"
    assert "optimizer.lr" in bad.consequence


def test_step_3_where_every_rate_diverges():
    curves = [LossCurve(lr=lr, losses=[math.nan], diverged=True) for lr in (1e2, 1e3)]
    verdict = judge_lr_sweep(curves, start_loss=2.3)
    assert verdict.passed is False
    assert verdict.verdict == "none"
    assert "2 of 2" in verdict.reason


def test_step_3_does_not_jump_over_a_rate_that_diverges():
    kinds = {1e-3: 2.0, 1e-2: 1.0, 1e-1: math.inf, 1.0: 1.5}
    curves = [LossCurve(lr=lr, losses=[loss]) for lr, loss in kinds.items()]
    assert judge_lr_sweep(curves, start_loss=2.3).data["hi"] == 1e-2


def test_step_3_counts_falls_from_knowing_nothing_where_the_start_is_worse():
    losses = {1e-4: 3.0, 1e-3: 1.0, 1e-2: 0.01, 1e-1: 2.3}  # the last only lost its large start
    curves = [LossCurve(lr=lr, losses=[loss]) for lr, loss in losses.items()]
    data = judge_lr_sweep(curves, start_loss=3.06, dummy_loss=LN_10).data
    assert (data["lo"], data["hi"]) == (1e-3, 1e-2)
    assert [rate["kind"] for rate in data["rates"]] == ["flat", "falls", "falls", "flat"]


def test_step_3_is_stricter_above_the_best_rate_than_below():
    losses = {1e-4: 2.0, 1e-3: 1.0, 1e-2: 0.01, 1e-1: 1.9}
    curves = [LossCurve(lr=lr, losses=[loss]) for lr, loss in losses.items()]
    verdict = judge_lr_sweep(curves, start_loss=2.3)
    assert (verdict.data["lo"], verdict.data["hi"]) == (1e-4, 1e-2)
    assert "falls less than half as far" in verdict.reason


def test_step_3_noise_is_no_fall():
    curves = [LossCurve(lr=lr, losses=[2.2999]) for lr in (1e-6, 1e-5)]
    assert judge_lr_sweep(curves, start_loss=2.3).verdict == "none"


def test_step_3_plan_stays_within_limits_and_small_samples():
    plan = plan_lr_sweep(base(**{"train.batch_size": 100}), 60_000, limits=(1e-4, 1.0))
    assert plan.configs[0].optimizer.lr == pytest.approx(1e-4)
    assert plan.configs[-1].optimizer.lr == 1.0
    assert plan.configs[0].data.num_train == 2500
    assert plan_lr_sweep(base(), 1000, limits=(100.0, 1e4)).configs[0].optimizer.lr == 100.0
    with pytest.raises(ValueError, match="interval of positive rates"):
        plan_lr_sweep(base(), 1000, limits=(1.0, 1e-3))


def test_step_3_joins_the_ranges_of_several_optimizers():
    def sweep(lo, hi):
        curves = [LossCurve(lr=lr, losses=[1.0 if lo <= lr <= hi else 2.3]) for lr in RATES]
        return judge_lr_sweep(curves, start_loss=2.3)

    joined = combine_sweeps({"adam": sweep(1e-4, 1e-2), "momentum": sweep(1e-3, 1.0)})
    assert joined.passed
    assert (joined.data["lo"], joined.data["hi"]) == (1e-4, 1.0)
    assert "adam:" in joined.reason
    assert "momentum:" in joined.reason


RATES = [1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0]
