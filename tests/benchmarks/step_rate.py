"""How fast packs step: share of the core's sgemm rate, and times a plain torch loop.

The work is one training step of an MLP 64-H-H-10 at batch 64 with momentum and weight decay,
on one thread. `plain` is a loop over one model with `torch.optim.SGD`, `plain fused` the same with
the optimizer's fastest option. Runs are interleaved and medians reported, in seconds of the
processor, so that neighbours on a shared machine disturb less.

    python tests/benchmarks/step_rate.py [--repeats N] [--json PATH]
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch
from torch import nn

from trainers.config import TrialConfig
from trainers.data import Dataset, load
from trainers.lanes.groups import FuseGroup, batch_borders
from trainers.lanes.pack import Pack
from trainers.lanes.plan import fixed_plan, make_plan
from trainers.trial import Trial

BATCH = 64
SIZES = {32: (16, 32, 64), 128: (8, 16), 512: (1, 8)}
"""Fuse widths to measure at each width."""


def flops_per_step(width: int) -> float:
    """Products of one lane's step: forward, and two in backward but one for the first layer."""
    layers = [64 * width, width * width, 10 * width]
    return 2 * BATCH * (3 * sum(layers) - layers[0])


def sgemm_flops_per_s(size: int = 1024, repeats: int = 20) -> float:
    """The core's rate on large square products."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    out = torch.empty(size, size)
    return 2 * size**3 / seconds_of(lambda: torch.mm(a, b, out=out), repeats)


def seconds_of(work: Callable[[], object], repeats: int) -> float:
    """Median of several calls, after one that warms up."""
    work()
    times = []
    for _ in range(repeats):
        started_s = time.thread_time()
        work()
        times.append(time.thread_time() - started_s)
    return median(times)


def trials_of(width: int, count: int) -> list[Trial]:
    """Trials with rates, momenta and decays of their own."""
    return [
        Trial(
            trial_id=i,
            seed=i,
            config=TrialConfig.from_mapping(
                {
                    "model.width": width,
                    "optimizer.kind": "momentum",
                    "optimizer.lr": 0.001 * (1 + i),
                    "optimizer.momentum": 0.5 + 0.4 * i / count,
                    "optimizer.weight_decay": 1e-5 * i,
                    "train.epochs": 20,
                }
            ),
        )
        for i in range(count)
    ]


def plain_epoch(dataset: Dataset, width: int, **options: bool) -> Callable[[], None]:
    """One model, torch.optim, autograd: an epoch without evaluation."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(64, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10)
    )
    optimizer = torch.optim.SGD(
        model.parameters(), 0.01, momentum=0.9, weight_decay=1e-4, **options
    )
    x, y = dataset.x_train.flatten(1), dataset.y_train
    borders = batch_borders(len(x), BATCH)

    def run() -> None:
        with torch.enable_grad():
            order = torch.randperm(len(x))
            for start, stop in borders:
                index = order[start:stop]
                optimizer.zero_grad(set_to_none=True)
                loss = nn.functional.cross_entropy(model(x[index]), y[index])
                loss.backward()
                optimizer.step()

    return run


def pack_epoch(dataset: Dataset, width: int, fuse_width: int, tier: str) -> Callable[[], None]:
    """One fuse group through an epoch of the product's own code, without evaluation."""
    trials = trials_of(width, fuse_width)
    plan = fixed_plan(trials, dataset, tier=tier, fuse_width=fuse_width)  # type: ignore[arg-type]
    pack = Pack(trials, [None] * fuse_width, dataset, plan)
    pack.train_once_more()
    (group,) = pack._groups
    return lambda: train_only(group)


def train_only(group: FuseGroup) -> None:
    """Run a group's updates of one epoch."""
    borders = group._data.batch_rows
    group._train(borders, group._rates(len(borders)))


def measure(repeats: int) -> list[dict[str, float | str]]:
    """Measure every width; all variants of a width take turns."""
    data = load(TrialConfig().data)
    full = 1024  # sixteen full batches, so that every step has 64 rows
    dataset = replace(data, x_train=data.x_train[:full], y_train=data.y_train[:full])
    num_steps = full // BATCH
    table: list[dict[str, float | str]] = []
    for width, fuse_widths in SIZES.items():
        variants: dict[tuple[str, int], Callable[[], None]] = {
            ("plain", 1): plain_epoch(dataset, width),
            ("plain fused", 1): plain_epoch(dataset, width, fused=True),
        }
        for fuse_width in fuse_widths:
            variants["kernels", fuse_width] = pack_epoch(dataset, width, fuse_width, "kernels")
        widest = max(fuse_widths)
        variants["vmap", widest] = pack_epoch(dataset, width, widest, "vmap")
        variants["lane_by_lane", 1] = pack_epoch(dataset, width, 1, "lane_by_lane")
        times: dict[tuple[str, int], list[float]] = {key: [] for key in variants}
        rates = []
        for turn in range(repeats + 1):
            rates.append(sgemm_flops_per_s(repeats=3))
            for key, run in variants.items():
                started_s = time.thread_time()
                run()
                if turn:
                    times[key].append(time.thread_time() - started_s)
        sgemm = median(rates)
        plain = num_steps / median(times["plain", 1])
        for (name, fuse_width), seconds in times.items():
            rate = fuse_width * num_steps / median(seconds)
            table.append(
                {
                    "width": width,
                    "variant": name,
                    "fuse_width": fuse_width,
                    "lane_steps_per_s": rate,
                    "times_plain": rate / plain,
                    "share_of_sgemm": rate * flops_per_step(width) / sgemm,
                    "sgemm_gflops": sgemm / 1e9,
                }
            )
    return table


def main() -> None:
    """Print the table and write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with torch.no_grad():
        table = measure(arguments.repeats)
    print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}, 1 thread")
    print("width  variant       lanes  lane-steps/s  x plain  % of sgemm")
    for row in table:
        print(
            f"{row['width']:5d}  {row['variant']:12s} {row['fuse_width']:6d} "
            f"{row['lane_steps_per_s']:13.0f} {row['times_plain']:8.2f} "
            f"{100 * float(row['share_of_sgemm']):11.1f}"
        )
    for width in SIZES:
        plan = make_plan(trials_of(width, 256), load(TrialConfig().data), "cpu")
        print(f"width {width}: planned {plan.tier}, {plan.reasons['fuse_width']}")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
