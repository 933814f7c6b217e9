"""The probe catches each way in which vmap over modules is silently wrong."""

import copy
import sys
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trainers.config import TrialConfig
from trainers.data import Dataset
from trainers.lanes import plan as plan_module
from trainers.lanes.engines import make_engine
from trainers.lanes.pack import train_pack
from trainers.lanes.plan import make_plan
from trainers.lanes.probe import Verdict, probe
from trainers.lanes.vmap_tier import BoundVmap, VmapEngine
from trainers.models import LaneDropout
from trainers.trial import Trial

HERE = __name__


class Net(nn.Module):
    """64 inputs, one hidden layer; subclasses break it."""

    def __init__(self, num_outputs: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(64, 12)
        self.head = nn.Linear(12, num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.hidden(x.flatten(1))))  # type: ignore[no-any-return]


class Tied(Net):
    """Two layers share a weight."""

    def __init__(self, num_outputs: int) -> None:
        super().__init__(num_outputs)
        self.first, self.second = nn.Linear(12, 12), nn.Linear(12, 12)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.hidden(x.flatten(1)))
        return self.head(self.second(torch.relu(self.first(h))))  # type: ignore[no-any-return]


class Padded(Net):
    """An embedding with a padding row that the data uses."""

    def __init__(self, num_outputs: int) -> None:
        super().__init__(num_outputs)
        self.table = nn.Embedding(4, 12, padding_idx=0)

    def forward(self, x: Tensor) -> Tensor:
        index = (x.flatten(1)[:, :3] > 0).long()
        return self.head(torch.tanh(self.hidden(x.flatten(1))) + self.table(index).sum(1))  # type: ignore[no-any-return]


class Slope(Net):
    """A hyperparameter that is no tensor."""

    def __init__(self, num_outputs: int, dropout: float) -> None:
        super().__init__(num_outputs)
        self.act = nn.LeakyReLU(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.act(self.hidden(x.flatten(1))))  # type: ignore[no-any-return]


class Counting(Net):
    """A buffer that forward replaces."""

    def __init__(self, num_outputs: int) -> None:
        super().__init__(num_outputs)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.calls = self.calls + 1
        return super().forward(x)


class Noisy(Net):
    """Noise from torch's global generator."""

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.hidden(x.flatten(1)))
        if self.training:
            h = h + torch.rand_like(h)
        return self.head(h)  # type: ignore[no-any-return]


class Sound(Net):
    """Dropout and batch normalisation, which are handled."""

    def __init__(self, num_outputs: int, dropout: float, bn_momentum: float) -> None:
        super().__init__(num_outputs)
        self.norm, self.drop = nn.BatchNorm1d(12, momentum=bn_momentum), nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.drop(torch.relu(self.norm(self.hidden(x.flatten(1))))))  # type: ignore[no-any-return]


def tied(_shape: tuple[int, ...], num_outputs: int) -> nn.Module:
    return Tied(num_outputs)


def padded(_shape: tuple[int, ...], num_outputs: int) -> nn.Module:
    return Padded(num_outputs)


def slope(_shape: tuple[int, ...], num_outputs: int, dropout: float) -> nn.Module:
    return Slope(num_outputs, dropout)


def counting(_shape: tuple[int, ...], num_outputs: int) -> nn.Module:
    return Counting(num_outputs)


def noisy(_shape: tuple[int, ...], num_outputs: int) -> nn.Module:
    return Noisy(num_outputs)


def sound(
    _shape: tuple[int, ...], num_outputs: int, dropout: float, bn_momentum: float
) -> nn.Module:
    return Sound(num_outputs, dropout, bn_momentum)


@pytest.fixture(autouse=True)
def _factories(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `model.factory` find this file under a fixed name."""
    monkeypatch.setitem(sys.modules, "probe_nets", sys.modules[HERE])


def config_of(factory: str, **model: Any) -> TrialConfig:
    return TrialConfig.from_mapping(
        {
            "data.num_train": 300,
            "train.precision": "float64",
            "model": {"factory": f"probe_nets:{factory}", **model},
        }
    )


def verdict_of(config: TrialConfig, dataset: Dataset, engine: Any = None) -> Verdict:
    if engine is None:
        return probe(lambda t, c, d: make_engine("vmap", t, c, d), [config], dataset)

    def make(_template: nn.Module, configs: Sequence[TrialConfig], data: Dataset) -> Any:
        return engine(configs[0].model, data, "cross_entropy", "float64")

    return probe(make, [config], dataset)


def test_sound_modules_pass_with_dropout_and_momentum_of_each_lane(digits: Dataset) -> None:
    verdict = verdict_of(config_of("sound", dropout=0.3, bn_momentum=0.2), digits)
    assert verdict.equal, verdict.reason


def test_tied_weights_pass_and_a_base_on_meta_that_unties_them_is_caught(digits: Dataset) -> None:
    class OnMeta(VmapEngine):
        """The well-known recipe, which cuts ties."""

        def bind(self, params: Tensor, *rest: Any) -> BoundVmap:
            module = self.prepared(rest[2][0]).module
            self.template = copy.deepcopy(module).to("meta")
            return super().bind(params, *rest)

    assert verdict_of(config_of("tied"), digits).equal
    assert not verdict_of(config_of("tied"), digits, OnMeta).equal


def test_padding_idx_is_caught_by_rule_and_by_effect(
    digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    verdict = verdict_of(config_of("padded"), digits)
    assert not verdict.equal
    assert "padding_idx" in verdict.reason
    monkeypatch.setattr("trainers.lanes.probe._broken_by_rule", lambda module: "")
    verdict = verdict_of(config_of("padded"), digits)
    assert not verdict.equal
    assert "gradient of `table.weight` in lane 1" in verdict.reason


def test_an_attribute_that_is_no_tensor_is_caught(digits: Dataset) -> None:
    verdict = verdict_of(config_of("slope", dropout=0.4), digits)
    assert not verdict.equal
    assert "lane 1" in verdict.reason


def test_a_replaced_buffer_is_caught(digits: Dataset) -> None:
    verdict = verdict_of(config_of("counting"), digits)
    assert not verdict.equal
    assert "`calls`" in verdict.reason


def test_shared_randomness_is_caught(digits: Dataset) -> None:
    class Sharing(VmapEngine):
        """vmap that lets lanes draw from the shared generator."""

        def bind(self, *arguments: Any) -> BoundVmap:
            bound = super().bind(*arguments)
            bound._losses = torch.func.vmap(bound._loss, randomness="different")
            return bound

    assert not verdict_of(config_of("noisy"), digits).equal
    verdict = verdict_of(config_of("noisy"), digits, Sharing)
    assert not verdict.equal
    assert "loss of lane" in verdict.reason


@pytest.mark.parametrize(
    ("factory", "model"),
    [("padded", {}), ("slope", {"dropout": 0.2}), ("counting", {}), ("noisy", {})],
)
def test_refused_models_train_lane_by_lane_and_alone_as_in_a_pack(
    factory: str, model: dict[str, Any], digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_module, "_WORTH_MEASURING_S", 0.0)  # else the probe is not asked
    monkeypatch.setattr(plan_module, "_rate", lambda *_: 100.0)
    config = config_of(factory, **model).with_values({"train.epochs": 2})
    trials = [Trial(trial_id=i, config=config, seed=i) for i in range(3)]
    plan = make_plan(trials, digits)
    assert plan.tier == "lane_by_lane"
    assert "refused" in plan.reasons["tier"]
    together = train_pack(trials, None, 2, dataset=digits, plan=plan)
    torch.manual_seed(123)
    alone = train_pack(trials[1:2], None, 2, dataset=digits, plan=plan)
    assert alone.rows[0].metrics == together.rows[1].metrics


def test_the_kernels_pass_the_probe_too(digits: Dataset) -> None:
    config = TrialConfig.from_mapping(
        {"model.batch_norm": "before", "model.dropout": 0.2, "train.precision": "float64"}
    )
    verdict = probe(lambda t, c, d: make_engine("kernels", t, c, d), [config], digits)
    assert verdict.equal, verdict.reason


def test_kernels_that_forget_a_bias_do_not_pass(digits: Dataset) -> None:
    def broken(template: nn.Module, configs: Sequence[TrialConfig], dataset: Dataset) -> Any:
        engine = make_engine("kernels", template, configs, dataset)
        bind = engine.bind

        def forgetful(*arguments: Any) -> Any:
            bound: Any = bind(*arguments)
            bound._bias_grads[0] = torch.zeros_like(bound._bias_grads[0])
            return bound

        engine.bind = forgetful  # type: ignore[method-assign]
        return engine

    verdict = probe(broken, [TrialConfig()], digits)
    assert not verdict.equal
    assert "linear.bias" in verdict.reason


def test_lane_dropout_swaps_in_for_nn_dropout(digits: Dataset) -> None:
    config = config_of("sound", dropout=0.3, bn_momentum=0.1)
    engine = VmapEngine(config.model, digits, "cross_entropy", "float64")
    module = engine.prepared(config.model).module
    assert any(isinstance(part, LaneDropout) for part in module.modules())
    assert engine.dropout_shapes == [(12,)]
    assert engine.dropout_rates(config.model) == [0.3]
