"""The execution plan: what is chosen, by what, and with which reason."""

from typing import Any

import pytest
import torch

from trainers.config import TrialConfig
from trainers.data import Dataset, load
from trainers.errors import ConfigError
from trainers.lanes import plan as plan_module
from trainers.lanes.pack import train_pack
from trainers.lanes.plan import fixed_plan, make_plan
from trainers.trial import Trial


@pytest.fixture(autouse=True)
def _forget_plans(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_module, "_plans", {})


def trials_of(count: int, **values: Any) -> list[Trial]:
    settings = {"data.num_train": 300, **{k.replace("__", "."): v for k, v in values.items()}}
    config = TrialConfig.from_mapping(settings)
    return [Trial(trial_id=i, config=config, seed=i) for i in range(count)]


def test_little_work_is_planned_by_rule_of_thumb_and_says_so(digits: Dataset) -> None:
    plan = make_plan(trials_of(2, train__epochs=2), digits, "cpu")
    assert plan.tier == "kernels"
    assert plan.fuse_width > 1
    assert "rule of thumb" in plan.reasons["fuse_width"]
    assert "too short to repay measuring" in plan.reasons["fuse_width"]
    assert plan.reasons.keys() == {"tier", "fuse_width", "max_lanes", "num_threads", "device"}
    assert not plan.measured


def test_much_work_is_measured_once_and_the_fastest_width_wins(
    digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    speeds = iter([100.0, 180.0, 300.0, 290.0, 280.0])
    asked: list[int] = []

    def rate(_trials: object, _dataset: object, _tier: str, width: int, _device: str) -> float:
        asked.append(width)
        return next(speeds)

    monkeypatch.setattr(plan_module, "_rate", rate)
    trials = trials_of(64, train__epochs=1000)
    plan = make_plan(trials, digits, "cpu")
    assert plan.fuse_width == 4
    assert asked == [1, 2, 4, 8, 16]  # two widths in a row were no faster
    assert plan.measured["kernels, fuse_width 4, lane-steps/s"] == 300.0
    assert make_plan(trials, digits, "cpu") is plan


def test_measuring_really_runs_and_a_wider_group_is_faster_for_small_nets(
    digits: Dataset,
) -> None:
    trials = trials_of(4, model__width=16, train__epochs=100_000)
    plan = make_plan(trials, digits, "cpu")
    assert plan.fuse_width > 1
    assert all(rate > 0 for rate in plan.measured.values())


def test_short_training_is_lane_by_lane_without_asking_whether_vmap_may_be_used(
    digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(plan_module, "probe", lambda *given: asked.append(given))
    plan = make_plan(trials_of(2, train__epochs=2, train__precision="bf16"), digits, "cpu")
    assert plan.tier == "lane_by_lane"
    assert "too short to repay" in plan.reasons["tier"]
    assert not asked


def test_vmap_has_to_win_clearly_over_lane_by_lane(
    digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = trials_of(64, train__epochs=1000, train__precision="bf16")
    for vmap_rate, tier in ((110.0, "lane_by_lane"), (150.0, "vmap")):
        monkeypatch.setattr(plan_module, "_plans", {})
        rates = {"lane_by_lane": 100.0, "vmap": vmap_rate}
        monkeypatch.setattr(plan_module, "_rate", lambda _t, _d, tier, _w, _v, r=rates: r[tier])
        plan = make_plan(trials, digits, "cpu")
        assert plan.tier == tier
        assert "measured" in plan.reasons["tier"]


def test_convolutions_under_autocast_stay_lane_by_lane_on_a_cpu_and_say_why() -> None:
    trials = trials_of(
        2,
        data__name="mnist1d",
        model__kind="cnn",
        model__width=4,
        train__precision="bf16",
        train__epochs=1,
    )
    plan = make_plan(trials, load(trials[0].config.data), "cpu")
    assert plan.tier == "lane_by_lane"
    assert "convolutions" in plan.reasons["tier"]


def test_torchs_own_convolutions_may_be_fused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_module, "_WORTH_MEASURING_S", 0.0)
    monkeypatch.setattr(plan_module, "_rate", lambda _t, _d, tier, width, _v: 100.0 * width)
    trials = trials_of(2, data__name="mnist1d", model__kind="cnn", model__width=5)
    plan = make_plan(trials, load(trials[0].config.data), "cpu")
    assert plan.tier == "vmap"
    assert plan.fuse_width > 1


def test_a_memory_limit_bounds_the_pack_and_one_trial_too_large_is_refused(
    digits: Dataset,
) -> None:
    trials = trials_of(2, train__epochs=2)
    small = make_plan(trials, digits, "cpu", memory_limit_bytes=40 << 20)
    large = make_plan(trials, digits, "cpu", memory_limit_bytes=80 << 20)
    assert 1 <= small.max_lanes < large.max_lanes
    assert "40.0 MiB may be used on cpu" in small.reasons["max_lanes"]
    with pytest.raises(ConfigError, match=r"one trial must fit into the memory of one device"):
        make_plan(trials, digits, "cpu", memory_limit_bytes=100_000)


def test_threads_stay_at_one_and_the_callers_number_comes_back(digits: Dataset) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        seen: list[int] = []
        plan = make_plan(trials_of(2, train__epochs=1), digits, "cpu")
        train_pack(
            trials_of(2, train__epochs=1),
            None,
            1,
            lambda report: seen.append(torch.get_num_threads()),
            dataset=digits,
            plan=plan,
        )
        assert plan.num_threads == 1
        assert seen == [1]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_an_unknown_device_and_a_tier_that_does_not_fit_are_refused(digits: Dataset) -> None:
    with pytest.raises(ConfigError, match="device must be auto, cpu or cuda"):
        make_plan(trials_of(1), digits, "tpu")
    trials = trials_of(1, data__name="mnist1d", model__kind="cnn", model__width=4)
    dataset = load(trials[0].config.data)
    plan = fixed_plan(trials, dataset, tier="kernels", fuse_width=1)
    with pytest.raises(ConfigError, match=r"`kernels` .* mlp"):
        train_pack(trials, None, 1, dataset=dataset, plan=plan)
