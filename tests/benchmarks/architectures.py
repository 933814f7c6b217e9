"""How fast every kind of model and every learning rule steps: fused, alone, and by hand.

The work is one training step on mnist1d (40 numbers, 10 classes) at batch 64, on one thread. `loop`
is a plain loop over torch's own layers and optimizer (see `torch_twins`), `alone` one lane of our
own code, `fused` several lanes in one call, and `as planned` what `make_plan` measured and chose
for a long search. For learning rules the loop is ordinary backpropagation through the same net.
Variants take turns, in alternating order; seconds are the processor's, and the wall's beside them.

    python -m tests.benchmarks architectures
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any, get_args

import torch

from tests.benchmarks.machine import describe_machine
from tests.benchmarks.results import save
from tests.benchmarks.torch_twins import TORCHS_LAYER, hand_written_epoch
from trainers.config import TrialConfig
from trainers.data import Dataset, load
from trainers.lanes.engines import supported_tiers
from trainers.lanes.pack import Pack
from trainers.lanes.plan import fixed_plan, make_plan
from trainers.learning_rule_config import LearningRuleKind
from trainers.trial import ExecutionPlan, Trial

BATCH, STEPS = 64, 16
FUSE_WIDTHS = (4, 16)
LONG_ENOUGH = 10_000
"""Epochs of a trial, so that measuring a plan always pays."""
MODELS: dict[str, dict[str, Any]] = {
    "mlp": {"depth": 2, "width": 64},
    "cnn": {"depth": 2, "width": 8},
    "local": {"depth": 2, "width": 8},
    "resmlp": {"depth": 4, "width": 32, "batch_norm": "before"},
    "rescnn": {"depth": 1, "width": 8, "batch_norm": "before"},
    "dense": {"depth": 4, "width": 16},
    "capsule": {"depth": 1, "width": 16, "kernel_size": 5, "capsule_size": 4},
    "rnn": {"depth": 1, "width": 32, "activation": "tanh"},
    "lstm": {"depth": 1, "width": 32},
    "gru": {"depth": 1, "width": 32},
    "transformer": {"depth": 1, "width": 32, "heads": 4},
    "moe": {"depth": 2, "width": 32, "num_experts": 8},
}
MLP_OF_RULES = {"kind": "mlp", "depth": 2, "width": 64}
MLP_OF_CMA_ES = {"kind": "mlp", "depth": 1, "width": 2}
"""CMA-ES takes the eigenvectors of a matrix of all its parameters, in a library, lane by lane."""
REMARKS = (
    "The aim is never under 0.95 of the loop as planned. Ratios are of rates in steps per lane and "
    "second of the processor: above 1 we are faster.",
    "`loop over` names torch's layer where torch has one of that kind; `our module` is made of "
    "torch's layers, or torch has none: then the loop runs our module with torch's optimizer.",
    "CMA-ES runs on an MLP 40-2-10; everything else of its table on 40-64-64-10.",
    "A rule's loop is backpropagation by autograd through the same net: how much a rule costs "
    "beside it is the rule's nature, so it has no aim; written-out `backprop` has its own test.",
)
Run = Callable[[], None]


@dataclass
class Variant:
    """One way to run the work, and what its turns took."""

    run: Run
    num_lanes: int
    cpu_s: list[float] = field(default_factory=list)
    wall_s: list[float] = field(default_factory=list)

    def turn(self) -> None:
        """Run once."""
        wall_s, cpu_s = time.perf_counter(), time.thread_time()
        self.run()
        self.cpu_s.append(time.thread_time() - cpu_s)
        self.wall_s.append(time.perf_counter() - wall_s)

    def rate(self, clock: str = "cpu_s") -> float:
        """Return steps per lane and second, the median without the first turn."""
        return self.num_lanes * STEPS / median(getattr(self, clock)[1:])


def config_of(model: dict[str, Any], rule: str = "backprop") -> TrialConfig:
    """Return one trial's configuration: Adam for models, plain SGD for rules."""
    is_rule = rule != "backprop"
    return TrialConfig.from_mapping(
        {
            "data": {"name": "mnist1d"},
            "model": model,
            "learning_rule": {"kind": rule},
            "optimizer": {
                "kind": "sgd" if is_rule else "adam",
                "lr": 1.0 if rule == "cma_es" else 1e-3,
            },
            "train": {"batch_size": BATCH, "epochs": LONG_ENOUGH},
        }
    )


def trials_of(config: TrialConfig, num_lanes: int) -> list[Trial]:
    """Return trials that differ in their seeds."""
    return [Trial(trial_id=i, seed=i, config=config) for i in range(num_lanes)]


def pack_epoch(config: TrialConfig, dataset: Dataset, plan: ExecutionPlan) -> Variant:
    """Return one fuse group's epoch of the product's own code, without evaluation."""
    trials = trials_of(config, plan.fuse_width)
    pack = Pack(trials, [None] * len(trials), dataset, plan)
    pack.train_once_more()
    (group,) = pack._groups
    borders = group._data.batch_rows

    def run() -> None:
        group._begin_rule()
        group._train(borders, group._rates(len(borders)))

    return Variant(run, len(trials))


def take_turns(variants: Sequence[Variant], repeats: int) -> None:
    """Run all variants once to warm up and then so many times, in alternating order."""
    for turn in range(repeats + 1):
        for variant in variants if turn % 2 else reversed(variants):
            variant.turn()


def measure(config: TrialConfig, dataset: Dataset, repeats: int) -> dict[str, Any]:
    """Return one table row, and its raw seconds under `raw`."""
    tiers = supported_tiers(config)
    alone_tier = "lane_by_lane" if "lane_by_lane" in tiers else tiers[0]
    one = trials_of(config, 1)
    plan = make_plan(trials_of(config, 16), dataset, "cpu")
    variants = {
        "loop": Variant(hand_written_epoch(config, dataset), 1),
        "alone": pack_epoch(
            config, dataset, fixed_plan(one, dataset, tier=alone_tier, fuse_width=1)
        ),
    }
    for width in FUSE_WIDTHS:
        fused = fixed_plan(one, dataset, tier=tiers[0], fuse_width=width)
        variants[f"fused {width}"] = pack_epoch(config, dataset, fused)
    variants["planned"] = pack_epoch(config, dataset, plan)
    take_turns(list(variants.values()), repeats)
    loop, alone = variants["loop"].rate(), variants["alone"].rate()
    fused_rates = {f"{n} / alone": v.rate() / alone for n, v in variants.items() if "fused" in n}
    return {
        "loop, steps/s": round(loop),
        "alone / loop": alone / loop,
        **fused_rates,
        "plan": f"{plan.tier} {plan.fuse_width}",
        "as planned / loop": variants["planned"].rate() / loop,
        "by the wall": variants["planned"].rate("wall_s") / variants["loop"].rate("wall_s"),
        "raw": {name: {"cpu_s": v.cpu_s, "wall_s": v.wall_s} for name, v in variants.items()},
    }


def main(repeats: int = 7) -> Path:
    """Measure every model and every rule, and write the tables."""
    machine = describe_machine()
    data = load(TrialConfig.from_mapping({"data.name": "mnist1d"}).data)
    full = STEPS * BATCH
    dataset = replace(data, x_train=data.x_train[:full], y_train=data.y_train[:full])
    models, rules = [], []
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.no_grad():
            for kind, model in MODELS.items():
                print(kind, flush=True)
                row = measure(config_of({"kind": kind, **model}), dataset, repeats)
                twin = TORCHS_LAYER.get(kind, "our module")
                models.append({"model": kind, "loop over": twin, **row})
            for rule in get_args(LearningRuleKind):
                print(rule, flush=True)
                mlp = MLP_OF_CMA_ES if rule == "cma_es" else MLP_OF_RULES
                rules.append({"rule": rule, **measure(config_of(mlp, rule), dataset, repeats)})
    finally:
        torch.set_num_threads(before)
    raw = {row.get("model") or f"rule {row['rule']}": row.pop("raw") for row in models + rules}
    tables = {
        f"Models on mnist1d, batch {BATCH}, Adam": models,
        f"Learning rules on an MLP 40-64-64-10, batch {BATCH}, SGD": rules,
    }
    return save("architectures", machine, tables, raw, REMARKS)
